//! Bases that are not modules: what can be said of their text without asking anybody.

use std::collections::BTreeMap;
use std::path::Path;

use raptor_lang::def::DebianRequest;
use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::manifest::{ArchivePlace, BaseRecipe, Distribution};
use raptor_lang::source::Span;
use raptor_lang::stmt::Spanned;
use sha2::{Digest, Sha256};

use super::findings::Findings;
use super::{Failed, Project, Provenance, SourceFile, Stack, StackLayer, Unpinned};
use crate::derivation::{Bootstrap, Derivation, DrvId, KeyFile, Repository, SANDBOX, SYSTEM};
use crate::lock::{DebianPin, Lock};

/// A `debian://` base as the files of a project describe it.
pub struct Base {
    /// The text after `debian://`, understood.
    pub request: DebianRequest,
    /// What it is made of.
    pub recipe: BaseRecipe,
    /// Contents of the files of keys that it names, by path.
    pub keys: BTreeMap<String, Vec<u8>>,
}

/// The contents of all files of keys that a recipe names; or what is wrong with one of them.
fn key_files(
    project: &dyn Project,
    recipe: &BaseRecipe,
) -> Result<BTreeMap<String, Vec<u8>>, Box<Diagnostic>> {
    let mut keys = BTreeMap::new();
    let own = recipe.archives.iter().filter_map(|it| it.key.as_ref());
    for Spanned { value: path, span } in recipe.keyring.iter().chain(own) {
        let content = project.key_file(Path::new(path)).map_err(|err| {
            let message = format!("cannot read the keys `{path}`: {err}");
            let problem = Diagnostic::new(Code::FileNotFound, message, *span, "named here");
            Box::new(problem.with_hint("the path counts from the directory of Raptor.toml"))
        })?;
        keys.insert(path.clone(), content);
    }
    Ok(keys)
}

impl Base {
    /// Reads what the text after `debian://` means in a project.
    pub fn new(
        project: &dyn Project,
        distributions: &BTreeMap<String, Distribution>,
        request: DebianRequest,
    ) -> Result<Base, Box<Diagnostic>> {
        let recipe = BaseRecipe::new(&request, distributions.get(&request.suite));
        let keys = key_files(project, &recipe)?;
        Ok(Base { request, recipe, keys })
    }

    /// Content of a file of keys.
    pub fn key(&self, file: &Spanned<String>) -> &[u8] {
        self.keys.get(&file.value).map_or(&[], Vec::as_slice)
    }

    /// Digest of a file of keys, as the lock has it.
    pub fn key_digest(&self, file: Option<&Spanned<String>>) -> Option<String> {
        let digest = Sha256::digest(self.key(file?));
        Some(digest.iter().map(|it| format!("{it:02x}")).collect())
    }

    /// The entry of the lock, under the name of today or, in old ones, as it is written; only if it pins this very base.
    pub fn pin<'l>(&self, reference: &str, lock: &'l Lock) -> Option<&'l DebianPin> {
        let entry = lock.debian.get(&self.request.to_string()).or_else(|| lock.debian.get(reference));
        entry.filter(|pin| self.fits(pin))
    }

    /// Whether a pin is one of this base, and not of what Raptor.toml said before. Mirrors of the machine do not count.
    pub fn fits(&self, pin: &DebianPin) -> bool {
        let Some((base, others)) = self.recipe.archives.split_first() else { return false };
        let at = |place: &ArchivePlace, url: &str| match place {
            ArchivePlace::Url(wanted) => wanted.trim_end_matches('/') == url,
            ArchivePlace::Mirror | ArchivePlace::SecurityMirror => true,
        };
        at(&base.place, &pin.mirror)
            && base.components == pin.components
            && self.key_digest(self.recipe.keyring.as_ref()) == pin.keyring
            && others.len() == pin.repositories.len()
            && others.iter().zip(&pin.repositories).all(|(it, pinned)| {
                at(&it.place, &pinned.url)
                    && (&it.repository, &it.suite, &it.components)
                        == (&pinned.name, &pinned.suite, &pinned.components)
                    && self.key_digest(it.key.as_ref()) == pinned.key
            })
    }
}

impl Findings<'_> {
    /// The stack of `FROM debian://REFERENCE`, if the lock pins it.
    pub(super) fn debian(&mut self, reference: &str, span: Span) -> Result<Stack, Failed> {
        let request = match reference.parse::<DebianRequest>() {
            Ok(request) => request,
            Err(err) => {
                let problem = Diagnostic::new(Code::BadReference, err.to_string(), span, "not a Debian base");
                return Err(self.error(problem));
            }
        };
        let base = Base::new(self.project, self.debian, request).map_err(|problem| self.error(*problem))?;
        let Some(pin) = base.pin(reference, self.lock) else {
            let wanted = Unpinned::Debian(base.request.to_string());
            return Err(self.unpinned(wanted, (span, Vec::new())));
        };
        let name = format!("debian-{}", base.request.suite);
        let mut repositories = Vec::new();
        for (archive, pinned) in base.recipe.archives.iter().skip(1).zip(&pin.repositories) {
            repositories.push(Repository {
                name: pinned.name.clone(),
                url: pinned.url.clone(),
                suite: pinned.suite.clone(),
                components: pinned.components.clone(),
                key: self.key(&base, pinned.id(), archive.key.as_ref())?,
            });
        }
        let bootstrap = Bootstrap {
            name: name.clone(),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            distribution: base.recipe.distribution.clone(),
            suite: base.recipe.suite().to_owned(),
            components: pin.components.clone(),
            mirror: pin.mirror.clone(),
            keyring: self.key(&base, &base.request.suite, base.recipe.keyring.as_ref())?,
            repositories,
            packages: pin.packages.clone(),
            included: pin.included.clone(),
            epoch: pin.date,
        };
        let epoch = pin.date;
        let provenance = Provenance { place: Some((span, Vec::new())), ..Provenance::default() };
        let id = self.add(Derivation::Bootstrap(bootstrap), provenance);
        Ok(vec![StackLayer { name, id, epoch }])
    }

    /// A file of keys, as the image will have it: apt tells by the extension whether it is text.
    fn key(
        &mut self,
        base: &Base,
        name: &str,
        file: Option<&Spanned<String>>,
    ) -> Result<Option<KeyFile<DrvId>>, Failed> {
        let Some(file) = file else { return Ok(None) };
        let armored = base.key(file).trim_ascii_start().starts_with(b"-----BEGIN");
        let extension = if armored { "asc" } else { "gpg" };
        match self.project_source(&SourceFile::whole(Path::new(&file.value))) {
            Ok((_, source, _)) => Ok(Some(KeyFile { name: format!("{name}.{extension}"), source })),
            Err(err) => {
                let message = format!("cannot read the keys `{}`: {err}", file.value);
                Err(self.error(Diagnostic::new(Code::FileNotFound, message, file.span, "named here")))
            }
        }
    }
}
