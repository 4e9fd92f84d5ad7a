//! The JSON that describes images: which of them is for our platform, which layers it has, and what it says of itself.
//!
//! Pure: whoever reads an image gets the texts, by digest, and every text is checked against the digest that names it.

mod settings;

use std::collections::BTreeSet;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

pub use settings::ImageSettings;

/// The platform of what is built, in the words of images.
pub const PLATFORM: &str = "linux/amd64";
/// Most bytes of one text.
pub const MAX_TEXT: u64 = 4 << 20;
/// Time of images that say none, or an earlier one: 1980-01-01, the first day that every format can name.
pub const FIRST_DAY: i64 = 315_532_800;
/// Most indexes that name one another.
const MAX_NESTING: usize = 4;
/// Most layers: more than overlays of the kernel can stack.
const MAX_LAYERS: usize = 500;

/// Kinds of what older tools write.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/// Kinds of texts that may describe an image, for the `Accept` header.
pub const KINDS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    DOCKER_INDEX,
    DOCKER_MANIFEST,
];

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its configuration.
    pub config: Text,
    /// What the configuration says of running it.
    pub settings: ImageSettings,
    /// When it was made, as far as it says, in seconds since 1970; not before [`FIRST_DAY`].
    pub epoch: i64,
    /// Bottom first.
    pub layers: Vec<Layer>,
}

/// A text by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// sha256 (hex).
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// sha256 (hex) as it is stored.
    pub sha256: String,
    /// Size in bytes as it is stored.
    pub size: u64,
    /// sha256 (hex) of the tar file.
    pub diff_id: String,
    /// `tar`, `tar+gzip` or `tar+zstd`, as the manifest has it.
    pub packing: &'static str,
}

/// What is wrong with an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A problem without hint.
pub fn problem(message: impl Into<String>) -> Problem {
    Problem { message: message.into(), hint: None }
}

/// A problem with what to do about it.
pub fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { message: message.into(), hint: Some(hint.into()) }
}

/// What a reference may name.
#[derive(Debug)]
pub enum Named {
    /// Images for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Box<ImageManifest>),
}

/// What kind of text it is says the text itself: what the server calls it is not covered by its digest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Named {
    /// Reads what a reference names.
    pub fn parse(text: &[u8]) -> Result<Named, Problem> {
        let outline: Outline = parse("the manifest", text)?;
        match (outline.schema_version, outline.manifests.is_some(), outline.layers.is_some()) {
            (Some(1), _, _) => Err(with_hint(
                "its manifest has schema version 1, which is out of use since 2017",
                "copy it to a new tag with a tool of today, for example skopeo copy --format oci",
            )),
            (_, true, true) => Err(problem("its manifest is an index as well")),
            (_, true, false) => {
                let index: ImageIndex = parse("the index", text)?;
                Ok(Named::Index(index.manifests().clone()))
            }
            (_, false, true) => Ok(Named::Manifest(Box::new(parse("the manifest", text)?))),
            (_, false, false) => Err(problem("its manifest has neither layers nor manifests")),
        }
    }
}

/// Manifests among `from`, and among the indexes that it names.
pub fn manifests<E: From<Problem>>(
    from: Vec<Descriptor>,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<Vec<Descriptor>, E> {
    let mut found = Vec::new();
    flatten(from, 0, &mut found, read)?;
    Ok(found)
}

fn flatten<E: From<Problem>>(
    from: Vec<Descriptor>,
    depth: usize,
    to: &mut Vec<Descriptor>,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    if depth > MAX_NESTING {
        return Err(problem("its indexes are nested too deeply").into());
    }
    for descriptor in from {
        match descriptor.media_type() {
            MediaType::ImageIndex => {}
            MediaType::Other(name) if name == DOCKER_INDEX => {}
            MediaType::ImageManifest => {
                to.push(descriptor);
                continue;
            }
            MediaType::Other(name) if name == DOCKER_MANIFEST => {
                to.push(descriptor);
                continue;
            }
            // Signatures and other things that are no images.
            _ => continue,
        }
        let index: ImageIndex = parse("an index", &read(&descriptor)?)?;
        flatten(index.manifests().clone(), depth + 1, to, read)?;
    }
    Ok(())
}

/// The manifests for our platform, each once; those for any processor of it come first. To find none is an error.
pub fn fitting(candidates: &[Descriptor]) -> Result<Vec<Descriptor>, Problem> {
    let platform =
        |it: &Descriptor| it.platform().as_ref().map(|it| format!("{}/{}", it.os(), it.architecture()));
    let mut seen = BTreeSet::new();
    let mut fitting: Vec<_> = candidates
        .iter()
        .filter(|it| platform(it).is_none_or(|it| it == PLATFORM))
        .filter(|it| seen.insert(it.digest().to_string()))
        .cloned()
        .collect();
    fitting.sort_by_key(|it| {
        let variant = it.platform().as_ref().and_then(|it| it.variant().clone());
        variant.is_some_and(|it| it != "v1")
    });
    match fitting.is_empty() {
        false => Ok(fitting),
        true => {
            let there: BTreeSet<_> =
                candidates.iter().filter_map(platform).filter(|it| !it.starts_with("unknown/")).collect();
            let there: Vec<_> = there.iter().map(String::as_str).collect();
            Err(problem(format!("there is no image for {PLATFORM}; there is: {}", there.join(", "))))
        }
    }
}

/// Reads an image from its manifest.
pub fn image<E: From<Problem>>(
    manifest: &ImageManifest,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<Image, E> {
    match manifest.config().media_type() {
        MediaType::ImageConfig => {}
        MediaType::Other(name) if name == DOCKER_CONFIG => {}
        other => return Err(problem(format!("it is no image, but something else: {other}")).into()),
    }
    let packings = manifest.layers().iter().map(packing).collect::<Result<Vec<_>, _>>()?;
    let text = read(manifest.config())?;
    let config = config(&text)?;
    let diff_ids = diff_ids(&config, manifest.layers().len())?;
    let layers = manifest.layers().iter().zip(packings).zip(diff_ids).map(|((layer, packing), diff_id)| {
        Ok(Layer { sha256: sha256_of(layer)?, size: layer.size(), diff_id, packing })
    });
    Ok(Image {
        config: Text { sha256: sha256_of(manifest.config())?, size: manifest.config().size() },
        settings: ImageSettings::of(&config),
        epoch: epoch(&config),
        layers: layers.collect::<Result<_, Problem>>()?,
    })
}

fn packing(layer: &Descriptor) -> Result<&'static str, Problem> {
    let kind = layer.media_type();
    let is_elsewhere = match kind {
        MediaType::ImageLayer => return Ok("tar"),
        MediaType::ImageLayerGzip => return Ok("tar+gzip"),
        MediaType::ImageLayerZstd => return Ok("tar+zstd"),
        MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => true,
        MediaType::Other(name) => match name.strip_prefix(DOCKER_LAYER) {
            Some("") => return Ok("tar"),
            Some(".gzip") => return Ok("tar+gzip"),
            Some(".zstd") => return Ok("tar+zstd"),
            _ => name.starts_with(DOCKER_FOREIGN),
        },
        _ => false,
    };
    let message = format!("it has a layer of a kind that is not supported: {kind}");
    Err(match is_elsewhere {
        true => with_hint(message, "such layers must be had from their maker; registries do not hold them"),
        false => problem(message),
    })
}

/// Parses a configuration that is for our platform.
pub fn config(text: &[u8]) -> Result<ImageConfiguration, Problem> {
    let config: ImageConfiguration = parse("the configuration", text)?;
    match (config.os(), config.architecture()) {
        (Os::Linux, Arch::Amd64) => Ok(config),
        (os, architecture) => {
            Err(problem(format!("there is no image for {PLATFORM}; there is: {os}/{architecture}")))
        }
    }
}

/// Digests of the tar files of all layers.
pub fn diff_ids(config: &ImageConfiguration, n_layers: usize) -> Result<Vec<String>, Problem> {
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != n_layers {
        let n = diff_ids.len();
        return Err(problem(format!("its manifest has {n_layers} layers, its configuration {n}")));
    }
    if n_layers > MAX_LAYERS {
        return Err(problem(format!("it has {n_layers} layers; {MAX_LAYERS} is the most")));
    }
    diff_ids.iter().map(|it| sha256_digits(it)).collect()
}

/// When the image was made, as far as it says.
pub fn epoch(config: &ImageConfiguration) -> i64 {
    let created = config.created().as_deref().and_then(|it| chrono::DateTime::parse_from_rfc3339(it).ok());
    created.map_or(FIRST_DAY, |it| it.timestamp().max(FIRST_DAY))
}

/// Parses a text of an image.
pub fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|err| problem(format!("{what} does not parse: {err}")))
}

/// Whether these are the digits of a sha256.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// sha256 (hex) of what a descriptor names.
pub fn sha256_of(descriptor: &Descriptor) -> Result<String, Problem> {
    sha256_digits(descriptor.digest().as_ref())
}

fn sha256_digits(digest: &str) -> Result<String, Problem> {
    match digest.strip_prefix("sha256:").filter(|it| is_sha256(it)) {
        Some(digits) => Ok(digits.to_owned()),
        None => Err(problem(format!("only sha256 digests are supported, not `{digest}`"))),
    }
}

/// Checks a text against its digest.
pub fn check_digest(what: &str, expected: &str, content: &[u8]) -> Result<(), Problem> {
    let found = format!("{:x}", Sha256::digest(content));
    match found == expected {
        true => Ok(()),
        false => Err(problem(format!("{what} is damaged: expected sha256 {expected}, found {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of an image as `docker build` wrote it in some year.
    const CONFIG: &str = r#"{
        "architecture": "amd64", "container": "0123", "docker_version": "18.09.7", "os": "linux",
        "created": "2020-01-02T03:04:05.678901234Z",
        "config": {
            "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "Tty": false,
            "ExposedPorts": { "80/tcp": {} }, "Env": ["PATH=/bin"], "Cmd": null, "Image": "sha256:1", "Volumes": null,
            "WorkingDir": "", "Entrypoint": ["/x"], "OnBuild": null, "Labels": null, "ArgsEscaped": true,
            "Healthcheck": { "Test": ["CMD", "true"], "Interval": 30000000000 }, "StopSignal": "SIGQUIT"
        },
        "container_config": { "Cmd": ["/bin/sh", "-c", "(nop)"] },
        "history": [{ "created": "2020-01-02T03:04:05Z", "created_by": "ADD", "empty_layer": true }],
        "rootfs": { "type": "layers", "diff_ids": [] }
    }"#;

    #[test]
    fn configurations_of_other_tools() {
        let epoch_of = |text: &str| {
            let config = config(text.as_bytes()).unwrap();
            assert!(diff_ids(&config, 0).is_ok());
            epoch(&config)
        };
        assert_eq!(epoch_of(CONFIG), 1_577_934_245);
        assert_eq!(epoch_of(&CONFIG.replace("05.678901234Z", "05+01:00")), 1_577_930_645);
        for other in ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "nonsense"] {
            assert_eq!(epoch_of(&CONFIG.replace("2020-01-02T03:04:05.678901234Z", other)), FIRST_DAY);
        }
        assert_eq!(
            epoch_of(&CONFIG.replace("\"Volumes\": null", "\"Volumes\": { \"/data\": {} }")),
            1_577_934_245
        );
        let settings = ImageSettings::of(&config(CONFIG.as_bytes()).unwrap());
        assert_eq!(settings.command(), ["/x"]);
        assert_eq!(settings.env, ["PATH=/bin"]);
        assert_eq!((settings.user, settings.workdir), (None, None));
    }

    #[test]
    fn what_a_reference_names() {
        for (text, expected) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "its manifest has schema version 1"),
            (r#"{"schemaVersion":2}"#, "neither layers nor manifests"),
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, "is an index as well"),
            (r#"{"schemaVersion":2,"layers":[]}"#, "the manifest does not parse"),
            (r#"{"schemaVersion":2,"manifests":[{}]}"#, "the index does not parse"),
            ("<html>", "the manifest does not parse"),
        ] {
            let found = Named::parse(text.as_bytes()).unwrap_err().message;
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn the_plain_processor_goes_first() {
        let of = |digit: &str, platform: &str| {
            serde_json::from_str::<Descriptor>(&format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,
                    "digest":"sha256:{}"{platform}}}"#,
                digit.repeat(64)
            ))
            .unwrap()
        };
        let variant = r#","platform":{"os":"linux","architecture":"amd64","variant":"v3"}"#;
        let amd = r#","platform":{"os":"linux","architecture":"amd64"}"#;
        let arm = r#","platform":{"os":"linux","architecture":"arm64"}"#;
        let all = [of("0", arm), of("1", variant), of("2", amd), of("2", amd), of("3", amd)];
        let found: Vec<_> =
            fitting(&all).unwrap().iter().map(|it| it.digest().to_string()[7..8].to_owned()).collect();
        assert_eq!(found, ["2", "3", "1"]);
        assert!(fitting(&all[..1]).unwrap_err().message.ends_with("there is: linux/arm64"));
    }
}
