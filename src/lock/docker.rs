//! `[docker."REFERENCE"]`: an image of a registry, with all that evaluation needs of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::file::{key, quoted};
use super::parse::{Fault, Fields, is_sha256};

/// A pinned image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerPin {
    /// sha256 (hex) of what the reference named: an index, or a manifest.
    pub digest: String,
    /// The image for each platform, such as `linux/amd64`.
    pub platforms: BTreeMap<String, DockerPlatform>,
}

/// A pinned image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerPlatform {
    /// sha256 (hex) of its manifest.
    pub manifest: String,
    /// sha256 (hex) of its configuration.
    pub config: String,
    /// Size of its configuration, in bytes.
    pub config_size: u64,
    /// When it was made, in seconds since 1970: the epoch of what is built on it.
    pub date: i64,
    /// What it runs, by its own account; for messages only.
    pub command: Vec<String>,
    /// Its layers, bottom first.
    pub layers: Vec<DockerLayer>,
}

/// A layer of a pinned image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerLayer {
    /// sha256 (hex) as it is stored.
    pub sha256: String,
    /// Size in bytes as it is stored.
    pub size: u64,
    /// sha256 (hex) of the tar file.
    pub diff_id: String,
    /// `tar`, `tar+gzip` or `tar+zstd`.
    pub packing: String,
}

/// What a layer may be packed as.
const PACKINGS: [&str; 3] = ["tar", "tar+gzip", "tar+zstd"];

pub(super) fn render(out: &mut String, reference: &str, pin: &DockerPin) {
    let reference = key(reference);
    let _ = writeln!(out, "\n[docker.{reference}]\ndigest = \"sha256:{}\"", pin.digest);
    for (platform, image) in &pin.platforms {
        let DockerPlatform { manifest, config, config_size, date, command, layers } = image;
        let _ = write!(
            out,
            "\n[docker.{reference}.platforms.{}]\nmanifest = \"sha256:{manifest}\"\nconfig = \"sha256:{config}\"\n\
             config-size = {config_size}\ndate = {date}\n",
            key(platform)
        );
        if !command.is_empty() {
            let words: Vec<_> = command.iter().map(|it| quoted(it)).collect();
            let _ = writeln!(out, "command = [{}]", words.join(", "));
        }
        out.push_str("layers = [\n");
        for DockerLayer { sha256, size, diff_id, packing } in layers {
            let packing = quoted(packing);
            let _ = writeln!(
                out,
                "  {{ digest = \"sha256:{sha256}\", size = {size}, diff-id = \"sha256:{diff_id}\", packing = {packing} }},"
            );
        }
        out.push_str("]\n");
    }
}

pub(super) fn parse(table: &Fields) -> Result<DockerPin, Fault> {
    let table = table.with_known(&["digest", "platforms"])?;
    let mut platforms = BTreeMap::new();
    for (name, fields) in table.tables("platforms")? {
        if !is_platform(name) {
            return Err(Fault::new(fields.span, format!("`{name}` is not a platform such as `linux/amd64`")));
        }
        platforms.insert(name.to_owned(), platform(&fields)?);
    }
    if platforms.is_empty() {
        return Err(Fault::new(table.span.clone(), "the image has no platforms"));
    }
    Ok(DockerPin { digest: digest(&table, "digest")?, platforms })
}

fn platform(fields: &Fields) -> Result<DockerPlatform, Fault> {
    let fields = fields.with_known(&["manifest", "config", "config-size", "date", "command", "layers"])?;
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mut layers = Vec::new();
    for layer in fields.inline_tables("layers")? {
        let layer = layer.with_known(&["digest", "size", "diff-id", "packing"])?;
        let (sha256, size) = (digest(&layer, "digest")?, layer.size("size")?);
        // An image may have the same layer twice.
        if *sizes.entry(sha256.clone()).or_insert(size) != size {
            return Err(Fault::new(layer.span_of("size"), "this layer is here with another size, too"));
        }
        let packing =
            layer.checked("packing", "`tar`, `tar+gzip` or `tar+zstd`", |it| PACKINGS.contains(&it))?;
        layers.push(DockerLayer { sha256, size, diff_id: digest(&layer, "diff-id")?, packing });
    }
    Ok(DockerPlatform {
        manifest: digest(&fields, "manifest")?,
        config: digest(&fields, "config")?,
        config_size: fields.size("config-size")?,
        date: fields.integer("date")?,
        command: match fields.has("command") {
            true => fields.strings("command", "a word of a command", |_| true)?,
            false => Vec::new(),
        },
        layers,
    })
}

/// The digits of a digest.
fn digest(fields: &Fields, name: &str) -> Result<String, Fault> {
    let what = "`sha256:` and 64 lower-case hex digits";
    let text = fields.checked(name, what, |it| it.strip_prefix("sha256:").is_some_and(is_sha256))?;
    Ok(text.trim_start_matches("sha256:").to_owned())
}

fn is_platform(text: &str) -> bool {
    let is_word = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_word)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Lock;
    use super::*;

    const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn sample() -> Lock {
        let layer = |size, packing: &str| DockerLayer {
            sha256: DIGEST.replace("2c", &format!("{size:02}")),
            size,
            diff_id: DIGEST.into(),
            packing: packing.into(),
        };
        let image = DockerPlatform {
            manifest: DIGEST.into(),
            config: DIGEST.into(),
            config_size: 1469,
            date: 1_700_000_000,
            command: vec!["/bin/app".into(), "a \"b\"".into()],
            layers: vec![layer(28, "tar+gzip"), layer(1, "tar"), layer(28, "tar+gzip")],
        };
        let pin = DockerPin { digest: DIGEST.into(), platforms: [("linux/amd64".into(), image)].into() };
        Lock { docker: [("registry.example:5000/app:1.0_a".into(), pin)].into(), ..Lock::default() }
    }

    #[test]
    fn looks_like_this() {
        let text = sample().render();
        insta::assert_snapshot!(text, @r##"
        # What builds of this project saw of the internet. Written by raptor; made to be committed.
        version = 1

        [docker."registry.example:5000/app:1.0_a"]
        digest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

        [docker."registry.example:5000/app:1.0_a".platforms."linux/amd64"]
        manifest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        config = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        config-size = 1469
        date = 1700000000
        command = ["/bin/app", "a \"b\""]
        layers = [
          { digest = "sha256:2826b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 28, diff-id = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", packing = "tar+gzip" },
          { digest = "sha256:0126b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 1, diff-id = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", packing = "tar" },
          { digest = "sha256:2826b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 28, diff-id = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", packing = "tar+gzip" },
        ]
        "##);
        assert_eq!(Lock::parse(Path::new("Raptor.lock"), &text).unwrap(), sample());
    }

    #[test]
    fn refuses() {
        let text = sample().render();
        for (from, to, expected) in [
            (
                "digest = \"sha256:2c",
                "digest = \"2c",
                "5:10: `digest` is not `sha256:` and 64 lower-case hex digits",
            ),
            ("sha256:28", "sha256:XX", "14:14: `digest` is not"),
            ("size = 28,", "size = -1,", "`size` is negative"),
            ("size = 28, diff", "size = 29, diff", "this layer is here with another size, too"),
            ("tar+zstd", "tar+xz", "is not `tar`, `tar+gzip` or `tar+zstd`"),
            ("linux/amd64", "linux", "`linux` is not a platform"),
            ("date", "dated", "unknown field `dated`"),
            ("manifest = ", "# ", "`manifest` is missing"),
        ] {
            let text = text.replacen("packing = \"tar\"", "packing = \"tar+zstd\"", 1).replacen(from, to, 1);
            let found = Lock::parse(Path::new("Raptor.lock"), &text).unwrap_err().to_string();
            assert!(found.contains(expected), "{from} → {to}: {found}");
        }
        let none = format!("version = 1\n[docker.a]\ndigest = \"sha256:{DIGEST}\"\n");
        let found = Lock::parse(Path::new("Raptor.lock"), &none).unwrap_err().to_string();
        assert_eq!(found, "Raptor.lock:2:1: the image has no platforms");
    }
}
