//! Image files: from the few small JSON files that describe an image to the layers that it consists of.
//!
//! Every file that another one names by digest is checked; the layers themselves are checked where they are unpacked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Span;
use raptor_lang::stmt::{ImageFile, ImageFormat};
use raptor_lang::world::FileKind;
use serde::Deserialize;

use super::findings::Findings;
use super::{BaseImage, Failed, Project, Provenance, SettingsAt, SourceFile, Stack, StackLayer};
use crate::derivation::{Derivation, DrvId, Image, SANDBOX, SYSTEM};
use crate::image::{
    self, ImageSettings, Problem, check_digest, is_sha256, parse, problem, sha256_of, with_hint,
};

/// Annotation that names an image of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layer of an image, wherever it comes from.
pub(super) struct Unpacked {
    pub source: DrvId,
    pub member: Option<String>,
    pub sha256: Option<String>,
    pub diff_id: String,
}

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
        let mut layers = Vec::new();
        for layer in found.layers {
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
            layers.push(Unpacked { source, member, sha256: layer.sha256, diff_id: layer.diff_id });
        }
        let base = BaseImage {
            name: image.to_string(),
            command: found.settings.command(),
            settings: SettingsAt::Here(found.settings),
        };
        Ok(self.unpacked(&stem, layers, found.epoch, base, span))
    }

    /// The stack of an image, a derivation for each layer on the one below it.
    pub(super) fn unpacked(
        &mut self,
        stem: &str,
        layers: Vec<Unpacked>,
        epoch: i64,
        base: BaseImage,
        span: Span,
    ) -> Stack {
        let mut stack: Stack = Vec::new();
        for (idx, layer) in layers.into_iter().enumerate() {
            let name = format!("{stem}-{}", idx + 1);
            let derivation = Derivation::Image(Image {
                name: name.clone(),
                system: SYSTEM.to_owned(),
                sandbox: SANDBOX,
                parent: stack.last().map(|it| it.id),
                source: layer.source,
                member: layer.member,
                sha256: layer.sha256,
                diff_id: layer.diff_id,
                epoch,
            });
            let place = (span, Vec::new());
            let provenance = Provenance {
                steps: vec![place.clone()],
                place: Some(place),
                image: Some(base.clone()),
                ..Provenance::default()
            };
            let id = self.add(derivation, provenance);
            stack.push(StackLayer { name: super::layer::mount_text(&name), id, epoch });
        }
        stack
    }
}

/// What an image consists of.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    layers: Vec<FoundLayer>,
    settings: ImageSettings,
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
        let mut read = |it: &Descriptor| self.blob(it);
        let fitting = image::fitting(&image::manifests(wanted, &mut read)?)?;
        let manifest = match fitting.as_slice() {
            [only] => only,
            several => {
                let digests: Vec<_> = several.iter().map(|it| it.digest().to_string()).collect();
                return Err(self.several(&digests.join(", ")));
            }
        };
        let manifest: ImageManifest = parse("the manifest", &self.blob(manifest)?)?;
        let image = image::image(&manifest, &mut read)?;
        let layers = image.layers.into_iter().map(|it| FoundLayer {
            file: format!("blobs/sha256/{}", it.sha256),
            sha256: Some(it.sha256),
            diff_id: it.diff_id,
        });
        Ok(Found { layers: layers.collect(), settings: image.settings, epoch: image.epoch })
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
        let config = image::config(&text)?;
        let diff_ids = image::diff_ids(&config, image.layers.len())?;
        let layer =
            |(file, diff_id): (&String, String)| FoundLayer { file: file.clone(), sha256: None, diff_id };
        Ok(Found {
            layers: image.layers.iter().zip(diff_ids).map(layer).collect(),
            settings: ImageSettings::of(&config),
            epoch: image::epoch(&config),
        })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
        let sha256 = sha256_of(descriptor)?;
        let path = format!("blobs/sha256/{sha256}");
        let content = self.part(&path)?;
        check_digest(&path, &sha256, &content)?;
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
