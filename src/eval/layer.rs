//! Layers: one module, its base and its actions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::paths::join;
use raptor_lang::pattern::Excludes;
use raptor_lang::program::{Action, ActionKind, Base, ModuleId, describe};
use raptor_lang::source::Span;
use raptor_lang::stmt::{FileOpts, Spanned};
use raptor_lang::world::FileKind;

use super::findings::Findings;
use super::{DEFAULT_EPOCH, Failed, Place, Provenance, SourceFile, Stack, StackLayer};
use crate::derivation::{Attrs, CopySource, Derivation, DrvId, Layer, SANDBOX, SYSTEM, Step};
use crate::lock::Lock;

/// Longest description of parameters that stands in a name.
const MAX_DESCRIPTION: usize = 64;

/// Name of the layer of a module: its path without extension, its instance and its parameters.
pub fn layer_name(module: &ModuleId) -> String {
    let path = module.path.with_extension("");
    let name = format!("{}{}", path.display(), module.instance.as_deref().unwrap_or_default());
    if module.with.is_empty() {
        return name;
    }
    let parameters = describe(&module.with);
    match parameters.chars().count() <= MAX_DESCRIPTION {
        true => format!("{name}?{parameters}"),
        false => {
            let digest = blake3::hash(parameters.as_bytes()).to_hex();
            format!("{name}?{}", digest.get(..16).unwrap_or_default())
        }
    }
}

/// The layer of a module on top of another one or of nothing, with its derivation.
pub(super) fn layer(
    module: &ModuleId,
    Steps { steps, places, keep }: Steps,
    below: Option<&StackLayer>,
    lock: &Lock,
) -> (StackLayer, Derivation, Provenance) {
    let name = layer_name(module);
    let epoch = below.map_or(DEFAULT_EPOCH, |it| it.epoch);
    let layer = Layer {
        network: match steps.iter().any(|step| matches!(step, Step::Run { .. })) {
            true => lock.layers.get(&name).cloned().unwrap_or_default(),
            false => Vec::new(),
        },
        name,
        system: SYSTEM.to_owned(),
        sandbox: SANDBOX,
        parent: below.map(|it| it.id),
        steps,
        keep: keep.into_iter().collect(),
        epoch,
    };
    let provenance = Provenance { module: Some(module.clone()), steps: places, ..Provenance::default() };
    let derivation = Derivation::Layer(layer);
    (StackLayer { name: mount_name(module), id: derivation.id(), epoch }, derivation, provenance)
}

/// What the actions of a layer come to.
pub(super) struct Steps {
    steps: Vec<Step<DrvId>>,
    /// The statement of each step.
    places: Vec<Place>,
    /// Paths of KEEP.
    keep: BTreeSet<String>,
}

impl Findings<'_> {
    /// The layers of a base that is no module, bottom first.
    pub(super) fn base(&mut self, base: &Spanned<Base>) -> Result<Stack, Failed> {
        match &base.value {
            Base::Debian(reference) => self.debian(reference, base.span),
            Base::Docker(reference) => self.docker(reference, base.span),
            Base::Image(image) => self.image(image, base.span),
            Base::Module(_) => Ok(Stack::new()),
        }
    }

    /// Steps of actions, with ENV and WORKDIR worked in; all problems, not the first.
    pub(super) fn steps(&mut self, actions: &[Action]) -> Result<Steps, Failed> {
        let mut env = BTreeMap::new();
        let mut cwd = String::from("/");
        let mut steps = Vec::new();
        let mut places = Vec::new();
        let mut keep = BTreeSet::new();
        let mut failed = false;
        for action in actions {
            let step = match &action.kind {
                ActionKind::Env(vars) => {
                    env.extend(vars.iter().cloned());
                    continue;
                }
                ActionKind::Keep(paths) => {
                    let whole = |path: &String| join(Path::new("/"), Path::new(path));
                    keep.extend(paths.iter().map(|it| whole(&it.value).to_string_lossy().into_owned()));
                    continue;
                }
                ActionKind::Workdir(path) => {
                    cwd = absolute(&cwd, path);
                    Step::Workdir { path: cwd.clone() }
                }
                ActionKind::Run(argv) => Step::Run { argv: argv.clone(), env: env.clone(), cwd: cwd.clone() },
                ActionKind::Write { text, path, opts } => {
                    Step::Write { text: text.clone(), path: absolute(&cwd, path), attrs: attrs(opts) }
                }
                ActionKind::Mkdir { path, parents, opts } => {
                    Step::Mkdir { path: absolute(&cwd, path), parents: *parents, attrs: attrs(opts) }
                }
                ActionKind::Fetch { url, mirrors, dest, digest, opts } => {
                    let dest = absolute(&cwd, dest);
                    let place = (action.span, action.stack.clone());
                    match self.fetched(url, mirrors, digest.as_ref(), &dest, &place) {
                        Ok(source) => Step::Copy { sources: vec![source], dest, attrs: attrs(opts) },
                        Err(Failed) => {
                            failed = true;
                            continue;
                        }
                    }
                }
                ActionKind::Copy { sources, dest, exclude, opts } => {
                    let mut found = Vec::new();
                    for source in sources {
                        match self.source(source, exclude, &action.stack) {
                            Ok(source) => found.push(source),
                            Err(Failed) => failed = true,
                        }
                    }
                    Step::Copy { sources: found, dest: absolute(&cwd, dest), attrs: attrs(opts) }
                }
            };
            steps.push(step);
            places.push((action.span, action.stack.clone()));
        }
        if failed { Err(Failed) } else { Ok(Steps { steps, places, keep }) }
    }

    fn source(
        &mut self,
        source: &Spanned<PathBuf>,
        exclude: &Excludes,
        stack: &[Span],
    ) -> Result<CopySource<DrvId>, Failed> {
        let Spanned { value: path, span } = source;
        let file = SourceFile { path: path.clone(), exclude: exclude.clone() };
        match self.project_source(&file) {
            Ok((name, id, info)) => {
                let is_empty_dir = info.entries == 1 && self.project.kind(path) == Some(FileKind::Dir);
                if is_empty_dir && self.project.list(path).is_ok_and(|names| !names.is_empty()) {
                    let message = format!("--exclude leaves nothing of {}", path.display());
                    let mut problem =
                        Diagnostic::new(Code::Ineffective, message, *span, "an empty directory is copied");
                    problem.stack = stack.to_vec();
                    self.error(problem);
                }
                Ok(CopySource { name, source: id })
            }
            Err(reason) => {
                let message = format!("cannot read {}: {reason}", path.display());
                let mut problem = Diagnostic::new(Code::FileNotFound, message, *span, "this source");
                problem.stack = stack.to_vec();
                Err(self.error(problem))
            }
        }
    }
}

/// Name of a module's layer in `layers` mounts: the file stem with the instance.
fn mount_name(module: &ModuleId) -> String {
    let stem = module.path.file_stem().unwrap_or_default().to_string_lossy();
    mount_text(&format!("{stem}{}", module.instance.as_deref().unwrap_or_default()))
}

/// A name in characters that every file system and boot loader takes.
pub(super) fn mount_text(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "@._-".contains(c) { c } else { '-' }).collect()
}

/// `path` below `cwd` if it is relative; a trailing slash stays, for it means a directory.
fn absolute(cwd: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{cwd}/{path}") };
    let parts: Vec<&str> = joined.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let slash = if joined.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

fn attrs(opts: &FileOpts) -> Attrs {
    let chown = opts.chown.as_ref();
    Attrs {
        mode: opts.chmod.map(|mode| format!("{mode:04o}")),
        user: chown.and_then(|it| it.user.clone()),
        group: chown.and_then(|it| it.group.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn destinations_become_absolute() {
        for (cwd, path, expected) in [
            ("/", "a/b", "/a/b"),
            ("/srv", "a/", "/srv/a/"),
            ("/srv/", "./a//b", "/srv/a/b"),
            ("/srv", "/etc/../x", "/etc/../x"),
            ("/srv", "/", "/"),
            ("/srv", ".", "/srv"),
        ] {
            assert_eq!(absolute(cwd, path), expected, "{path} in {cwd}");
        }
    }
}
