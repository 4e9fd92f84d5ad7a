//! Image files: from the few small JSON files that describe an image to the layers that it consists of.
//!
//! Every file that another one names by digest is checked; the layers themselves are checked where they are unpacked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Span;
use raptor_lang::stmt::{ImageFile, ImageFormat};
use raptor_lang::world::FileKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::findings::Findings;
use super::{DEFAULT_EPOCH, Failed, Project, Provenance, SourceFile, Stack, StackLayer};
use crate::derivation::{Derivation, Image, SANDBOX, SYSTEM};

/// Most indexes that name one another.
const MAX_NESTING: usize = 4;
/// Most layers: more than overlays of the kernel can stack.
const MAX_LAYERS: usize = 500;
/// Annotation that names an image of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Kinds of manifests and layers that older tools write.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYERS: [&str; 2] =
    ["application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar"];

impl Findings<'_> {
    /// The layers of `FROM oci:…`, `oci-archive:…` or `docker-archive:…`, each a derivation on the one below it.
    pub(super) fn image(&mut self, image: &ImageFile, span: Span) -> Result<Stack, Failed> {
        let found = match (Reader { project: self.project, image }).read() {
            Ok(found) => found,
            Err(Problem { message, hint }) => {
                let mut problem =
                    Diagnostic::new(Code::BadImage, format!("{image}: {message}"), span, "this base");
                problem.hint = hint;
                return Err(self.error(problem));
            }
        };
        let stem = Path::new(&image.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut stack: Stack = Vec::new();
        for (idx, layer) in found.layers.into_iter().enumerate() {
            let (source, member) = match image.format {
                ImageFormat::Oci => (Path::new(&image.path).join(&layer.file), None),
                ImageFormat::OciArchive | ImageFormat::DockerArchive => {
                    (PathBuf::from(&image.path), Some(layer.file))
                }
            };
            let source = match self.project_source(&SourceFile::whole(&source)) {
                Ok((_, source, _)) => source,
                Err(reason) => {
                    let message = format!("cannot read {}: {reason}", source.display());
                    return Err(self.error(Diagnostic::new(Code::BadImage, message, span, "this base")));
                }
            };
            let name = format!("{stem}-{}", idx + 1);
            let derivation = Derivation::Image(Image {
                name: name.clone(),
                system: SYSTEM.to_owned(),
                sandbox: SANDBOX,
                parent: stack.last().map(|it| it.id),
                source,
                member,
                sha256: layer.sha256,
                diff_id: layer.diff_id,
                epoch: found.epoch,
            });
            let place = (span, Vec::new());
            let provenance =
                Provenance { steps: vec![place.clone()], place: Some(place), ..Provenance::default() };
            let id = self.add(derivation, provenance);
            stack.push(StackLayer { name: super::layer::mount_text(&name), id, epoch: found.epoch });
        }
        Ok(stack)
    }
}

/// What an image consists of.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    layers: Vec<FoundLayer>,
    epoch: i64,
}

#[derive(Debug, PartialEq, Eq)]
struct FoundLayer {
    /// Below the directory, or in the archive.
    file: String,
    /// Of the file as it is stored.
    sha256: Option<String>,
    /// sha256 of the tar file.
    diff_id: String,
}

/// What is wrong with an image.
struct Problem {
    message: String,
    hint: Option<String>,
}

fn problem(message: impl Into<String>) -> Problem {
    Problem { message: message.into(), hint: None }
}

fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { message: message.into(), hint: Some(hint.into()) }
}

/// One entry of `manifest.json` in a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

struct Reader<'a> {
    project: &'a dyn Project,
    image: &'a ImageFile,
}

impl Reader<'_> {
    fn read(&self) -> Result<Found, Problem> {
        let archive = |wanted: ImageFormat| format!("write `{}:{}`", wanted.scheme(), self.image.path);
        match (self.project.kind(Path::new(&self.image.path)), self.image.format) {
            (None, _) => Err(with_hint(
                "no such file or directory",
                "the path counts from the directory of the file it is named in",
            )),
            (Some(FileKind::Dir), ImageFormat::OciArchive | ImageFormat::DockerArchive) => {
                Err(with_hint("this is a directory", archive(ImageFormat::Oci)))
            }
            (Some(FileKind::File), ImageFormat::Oci) => {
                Err(with_hint("this is a file", archive(ImageFormat::OciArchive)))
            }
            (Some(FileKind::Other), _) => Err(problem("this is neither a file nor a directory")),
            (_, ImageFormat::DockerArchive) => self.docker(),
            (_, ImageFormat::Oci | ImageFormat::OciArchive) => self.oci(),
        }
    }

    fn oci(&self) -> Result<Found, Problem> {
        let index: ImageIndex = parse("index.json", &self.part("index.json")?)?;
        let wanted = self.named(index.manifests())?;
        let mut candidates = Vec::new();
        self.flatten(wanted, 0, &mut candidates)?;
        let manifest = self.manifest(&candidates)?;
        let manifest: ImageManifest = parse("the manifest", &self.blob(&manifest)?)?;
        let config: ImageConfiguration = parse("the configuration", &self.blob(manifest.config())?)?;
        check_platform(&config)?;
        let diff_ids = diff_ids(&config, manifest.layers().len())?;
        let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
            let kind = layer.media_type();
            let known = match kind {
                MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => true,
                MediaType::Other(name) => DOCKER_LAYERS.contains(&name.as_str()),
                _ => false,
            };
            match known {
                true => Ok(FoundLayer { file: blob_path(layer)?, sha256: Some(sha256_of(layer)?), diff_id }),
                false => Err(problem(format!("it has a layer of a kind that is not supported: {kind}"))),
            }
        });
        Ok(Found { layers: layers.collect::<Result<_, _>>()?, epoch: epoch(&config) })
    }

    /// Entries of `index.json` that the reference names; without one all, if they are one image.
    fn named(&self, all: &[Descriptor]) -> Result<Vec<Descriptor>, Problem> {
        let name = |it: &Descriptor| it.annotations().as_ref().and_then(|it| it.get(REF_NAME).cloned());
        let names: BTreeSet<String> = all.iter().filter_map(name).collect();
        let list = || names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.image.reference {
            Some(wanted) => {
                let is_wanted = |it: &&Descriptor| {
                    name(it).as_ref() == Some(wanted) || it.digest().to_string() == *wanted
                };
                let found: Vec<_> = all.iter().filter(is_wanted).cloned().collect();
                match (found.is_empty(), names.is_empty()) {
                    (false, _) => Ok(found),
                    (true, false) => {
                        Err(problem(format!("there is no image `{wanted}`; there is: {}", list())))
                    }
                    (true, true) => {
                        Err(problem(format!("there is no image `{wanted}`; its images have no names")))
                    }
                }
            }
            None if all.is_empty() => Err(problem("there is no image in it")),
            None if names.len() > 1 => Err(self.several(&list())),
            None => Ok(all.to_vec()),
        }
    }

    fn several(&self, names: &str) -> Problem {
        let hint =
            format!("name one, for example: FROM {}:{}:NAME", self.image.format.scheme(), self.image.path);
        with_hint(format!("there are several images in it: {names}"), hint)
    }

    /// Manifests of indexes that are named by others.
    fn flatten(&self, from: Vec<Descriptor>, depth: usize, to: &mut Vec<Descriptor>) -> Result<(), Problem> {
        if depth > MAX_NESTING {
            return Err(problem("its indexes are nested too deeply"));
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
            let index: ImageIndex = parse("an index", &self.blob(&descriptor)?)?;
            self.flatten(index.manifests().clone(), depth + 1, to)?;
        }
        Ok(())
    }

    /// The one manifest for our platform.
    fn manifest(&self, candidates: &[Descriptor]) -> Result<Descriptor, Problem> {
        let platform = |it: &Descriptor| {
            it.platform().as_ref().map(|it| (it.os().to_string(), it.architecture().to_string()))
        };
        let fits = |it: &&Descriptor| {
            platform(it).is_none_or(|(os, architecture)| os == "linux" && architecture == "amd64")
        };
        let fitting: Vec<_> = candidates.iter().filter(fits).collect();
        let digests: BTreeSet<String> = fitting.iter().map(|it| it.digest().to_string()).collect();
        match (fitting.first(), digests.len()) {
            (Some(only), 1) => Ok((*only).clone()),
            (Some(_), _) => {
                let digests: Vec<_> = digests.iter().map(String::as_str).collect();
                Err(self.several(&digests.join(", ")))
            }
            (None, _) => {
                let there: BTreeSet<_> = candidates
                    .iter()
                    .filter_map(platform)
                    .filter(|(os, _)| os != "unknown")
                    .map(|(os, architecture)| format!("{os}/{architecture}"))
                    .collect();
                let there: Vec<_> = there.iter().map(String::as_str).collect();
                Err(problem(format!("there is no image for linux/amd64; there is: {}", there.join(", "))))
            }
        }
    }

    fn docker(&self) -> Result<Found, Problem> {
        let images: Vec<DockerImage> = parse("manifest.json", &self.part("manifest.json")?)?;
        let tags = |it: &DockerImage| it.repo_tags.clone().unwrap_or_default();
        let all: Vec<String> = images.iter().flat_map(tags).collect();
        let image = match (&self.image.reference, images.as_slice()) {
            (Some(wanted), images) => {
                let latest = format!("{wanted}:latest");
                let found =
                    images.iter().find(|it| tags(it).iter().any(|tag| tag == wanted || *tag == latest));
                found.ok_or_else(|| {
                    problem(format!("there is no image `{wanted}`; there is: {}", all.join(", ")))
                })?
            }
            (None, []) => return Err(problem("there is no image in it")),
            (None, [only]) => only,
            (None, _) => return Err(self.several(&all.join(", "))),
        };
        let text = self.part(&image.config)?;
        // Most tools name the file by its digest.
        let stem = Path::new(&image.config).file_stem().unwrap_or_default().to_string_lossy();
        if is_sha256(&stem) {
            check_digest(&image.config, &stem, &text)?;
        }
        let config: ImageConfiguration = parse("the configuration", &text)?;
        check_platform(&config)?;
        let diff_ids = diff_ids(&config, image.layers.len())?;
        let layer =
            |(file, diff_id): (&String, String)| FoundLayer { file: file.clone(), sha256: None, diff_id };
        Ok(Found { layers: image.layers.iter().zip(diff_ids).map(layer).collect(), epoch: epoch(&config) })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
        let path = blob_path(descriptor)?;
        let content = self.part(&path)?;
        check_digest(&path, &sha256_of(descriptor)?, &content)?;
        Ok(content)
    }

    fn part(&self, name: &str) -> Result<Vec<u8>, Problem> {
        match self.project.image_part(Path::new(&self.image.path), name) {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(with_hint(
                format!("it has no file {name}"),
                match self.image.format {
                    ImageFormat::DockerArchive => "a docker archive is what `docker save` writes",
                    _ => "an OCI layout has oci-layout, index.json and blobs/",
                },
            )),
            Err(reason) => Err(problem(reason)),
        }
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|err| problem(format!("{what} does not parse: {err}")))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn sha256_of(descriptor: &Descriptor) -> Result<String, Problem> {
    sha256_digits(descriptor.digest().as_ref())
}

fn sha256_digits(digest: &str) -> Result<String, Problem> {
    match digest.strip_prefix("sha256:").filter(|it| is_sha256(it)) {
        Some(digits) => Ok(digits.to_owned()),
        None => Err(problem(format!("only sha256 digests are supported, not `{digest}`"))),
    }
}

fn blob_path(descriptor: &Descriptor) -> Result<String, Problem> {
    Ok(format!("blobs/sha256/{}", sha256_of(descriptor)?))
}

fn check_digest(what: &str, expected: &str, content: &[u8]) -> Result<(), Problem> {
    let found = format!("{:x}", Sha256::digest(content));
    match found == expected {
        true => Ok(()),
        false => Err(problem(format!("{what} is damaged: expected sha256 {expected}, found {found}"))),
    }
}

fn check_platform(config: &ImageConfiguration) -> Result<(), Problem> {
    let (os, architecture) = (config.os(), config.architecture());
    match (os, architecture) {
        (Os::Linux, Arch::Amd64) => Ok(()),
        _ => Err(problem(format!("there is no image for linux/amd64; there is: {os}/{architecture}"))),
    }
}

fn diff_ids(config: &ImageConfiguration, n_layers: usize) -> Result<Vec<String>, Problem> {
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

/// When the image was made, as far as it says; never before the first day that every format can name.
fn epoch(config: &ImageConfiguration) -> i64 {
    let created = config.created().as_deref().and_then(|it| chrono::DateTime::parse_from_rfc3339(it).ok());
    created.map_or(DEFAULT_EPOCH, |it| it.timestamp().max(DEFAULT_EPOCH))
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
            let config: ImageConfiguration = parse("it", text.as_bytes()).map_err(|it| it.message).unwrap();
            assert!(check_platform(&config).is_ok() && diff_ids(&config, 0).is_ok());
            epoch(&config)
        };
        assert_eq!(epoch_of(CONFIG), 1_577_934_245);
        assert_eq!(epoch_of(&CONFIG.replace("05.678901234Z", "05+01:00")), 1_577_930_645);
        for other in ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "nonsense"] {
            assert_eq!(epoch_of(&CONFIG.replace("2020-01-02T03:04:05.678901234Z", other)), DEFAULT_EPOCH);
        }
        assert_eq!(
            epoch_of(&CONFIG.replace("\"Volumes\": null", "\"Volumes\": { \"/data\": {} }")),
            1_577_934_245
        );
    }
}
