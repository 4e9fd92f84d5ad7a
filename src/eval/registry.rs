//! FROM docker: images of registries, as the lock pins them.

use raptor_lang::def::{DockerReference, DockerReferenceError};
use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Span;
use raptor_lang::stmt::Digest;

use super::findings::Findings;
use super::image::Unpacked;
use super::{BaseImage, Failed, Provenance, SettingsAt, Stack, Unpinned};
use crate::derivation::{Derivation, Fetch};
use crate::image::{FIRST_DAY, PLATFORM};

impl Findings<'_> {
    /// The stack of `FROM docker://TEXT`, if the lock pins it.
    pub(super) fn docker(&mut self, text: &str, span: Span) -> Result<Stack, Failed> {
        let reference: DockerReference = text.parse().map_err(|err: DockerReferenceError| {
            let problem = Diagnostic::new(Code::BadReference, err.to_string(), span, "this base");
            self.error(problem.with_hint("a reference is docker://[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]"))
        })?;
        let Some(pin) = self.lock.docker.get(text) else {
            return Err(self.unpinned(Unpinned::Docker(text.to_owned()), (span, Vec::new())));
        };
        let stale = |why: String| {
            let problem =
                Diagnostic::new(Code::BadImage, format!("docker://{text}: {why}"), span, "this base");
            problem
                .with_hint(format!("take [docker.\"{text}\"] out of Raptor.lock, and build to pin it anew"))
        };
        if reference.digest.as_ref().is_some_and(|it| *it != pin.digest) {
            let why = format!("Raptor.lock pins sha256:{}, which is another image", pin.digest);
            return Err(self.error(stale(why)));
        }
        let Some(image) = pin.platforms.get(PLATFORM) else {
            return Err(self.error(stale(format!("Raptor.lock pins no image for {PLATFORM}"))));
        };
        let stem = stem(&reference);
        let blob = |name: String, sha256: &str, size: u64| Fetch {
            name,
            urls: vec![blob_url(&reference, sha256)],
            digest: Digest::Sha256(sha256.to_owned()),
            size: Some(size),
        };
        let layers = image.layers.iter().enumerate().map(|(idx, layer)| {
            let fetch = blob(format!("{stem}-{}", idx + 1), &layer.sha256, layer.size);
            let provenance = Provenance { place: Some((span, Vec::new())), ..Provenance::default() };
            Unpacked {
                source: self.add(Derivation::Fetch(fetch), provenance),
                member: None,
                sha256: Some(layer.sha256.clone()),
                diff_id: layer.diff_id.clone(),
            }
        });
        let layers = layers.collect();
        let config = blob(format!("{stem}-config"), &image.config, image.config_size);
        let base = BaseImage {
            name: format!("docker://{text}"),
            command: image.command.clone(),
            settings: SettingsAt::Fetched(config),
        };
        Ok(self.unpacked(&stem, layers, image.date.max(FIRST_DAY), base, span))
    }
}

/// What the layers are called: the last part of the path, with the tag.
fn stem(reference: &DockerReference) -> String {
    let name = reference.repository.rsplit('/').next().unwrap_or_default();
    match &reference.tag {
        Some(tag) => format!("{name}-{tag}"),
        None => name.to_owned(),
    }
}

/// Where a blob of an image is: `docker://HOST/PATH@sha256:DIGEST`.
fn blob_url(reference: &DockerReference, sha256: &str) -> String {
    format!("docker://{}/{}@sha256:{sha256}", reference.host, reference.repository)
}
