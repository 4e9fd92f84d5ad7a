//! Layers: one module, its base and its actions.

use std::collections::BTreeMap;
use std::path::Path;

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::program::{Action, ActionKind, Base, ModuleId};
use raptor_lang::source::Span;
use raptor_lang::stmt::{FileOpts, Spanned};

use super::{DEFAULT_EPOCH, Evaluator, Failed, Place, Provenance, Stack, StackLayer};
use crate::derivation::{Attrs, CopySource, Derivation, DrvId, Layer, SANDBOX, SYSTEM, Source, Step};

/// Name of the layer of a module: its path without extension, and its instance.
pub fn layer_name(module: &ModuleId) -> String {
    let path = module.path.with_extension("");
    format!("{}{}", path.display(), module.instance.as_deref().unwrap_or_default())
}

/// A module being entered, or already done.
enum Task {
    Enter(ModuleId, Option<Span>),
    Finish(ModuleId),
}

impl Evaluator<'_> {
    /// The layers of a module, bottom first.
    pub fn stack(&mut self, module: &ModuleId) -> Result<Stack, Failed> {
        let mut entered: Vec<ModuleId> = Vec::new();
        // A chain of FROM may be longer than the machine's stack.
        let mut tasks = vec![Task::Enter(module.clone(), None)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Enter(module, from) => {
                    if self.layers.contains_key(&module) {
                        continue;
                    }
                    if entered.contains(&module) {
                        self.cycle(&module, from);
                        for it in entered.drain(..) {
                            self.layers.insert(it, Err(Failed));
                        }
                        break;
                    }
                    entered.push(module.clone());
                    tasks.push(Task::Finish(module.clone()));
                    if let Ok(program) = self.program(&module)
                        && let Some(Spanned { value: Base::Module(base), span }) = &program.from
                    {
                        tasks.push(Task::Enter(base.clone(), Some(*span)));
                    }
                }
                Task::Finish(module) => {
                    let stack = self.finish(&module);
                    entered.retain(|it| *it != module);
                    self.layers.insert(module, stack);
                }
            }
        }
        self.layers.get(module).cloned().unwrap_or(Err(Failed))
    }

    fn cycle(&mut self, module: &ModuleId, from: Option<Span>) {
        if let Some(span) = from {
            let message = format!("FROM leads back to {}", module.path.display());
            let problem = Diagnostic::new(Code::FromCycle, message, span, "the cycle closes here");
            self.diagnostics
                .push(problem.with_hint("a module cannot be its own base, not even through others"));
        }
    }

    /// The stack of a module whose base, if it is a module, is done.
    fn finish(&mut self, module: &ModuleId) -> Result<Stack, Failed> {
        let program = self.program(module)?;
        // Before the base, whose absence must not hide what is wrong here.
        let steps = self.steps(&program.actions);
        let mut stack = match &program.from {
            None => Vec::new(),
            Some(Spanned { value: Base::Debian(reference), .. }) => self.debian(reference)?,
            Some(Spanned { value: Base::Docker(reference), span }) => {
                return Err(self.docker(reference, *span));
            }
            Some(Spanned { value: Base::Module(base), .. }) => {
                self.layers.get(base).cloned().unwrap_or(Err(Failed))?
            }
        };
        let name = layer_name(module);
        let (steps, spans) = steps?;
        let below = stack.last();
        let epoch = below.map_or(DEFAULT_EPOCH, |it| it.epoch);
        let layer = Layer {
            name: name.clone(),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            parent: below.map(|it| it.id),
            network: match steps.iter().any(|step| matches!(step, Step::Run { .. })) {
                true => self.lock.layers.get(&name).cloned().unwrap_or_default(),
                false => Vec::new(),
            },
            steps,
            epoch,
        };
        let provenance = Provenance { module: Some(module.clone()), steps: spans, source: None };
        let id = self.add(Derivation::Layer(layer), provenance);
        stack.push(StackLayer { name: mount_name(module), id, epoch });
        Ok(stack)
    }

    /// Steps of actions, with ENV and WORKDIR worked in; all problems, not the first.
    fn steps(&mut self, actions: &[Action]) -> Result<(Vec<Step<DrvId>>, Vec<Place>), Failed> {
        let mut env = BTreeMap::new();
        let mut cwd = String::from("/");
        let mut steps = Vec::new();
        let mut spans = Vec::new();
        let mut failed = false;
        for action in actions {
            let step = match &action.kind {
                ActionKind::Env(vars) => {
                    env.extend(vars.iter().cloned());
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
                ActionKind::Copy { sources, dest, opts } => {
                    let mut found = Vec::new();
                    for source in sources {
                        match self.source(&source.value, source.span, &action.stack) {
                            Ok(source) => found.push(source),
                            Err(Failed) => failed = true,
                        }
                    }
                    Step::Copy { sources: found, dest: absolute(&cwd, dest), attrs: attrs(opts) }
                }
            };
            steps.push(step);
            spans.push((action.span, action.stack.clone()));
        }
        if failed { Err(Failed) } else { Ok((steps, spans)) }
    }

    fn source(&mut self, path: &Path, span: Span, stack: &[Span]) -> Result<CopySource<DrvId>, Failed> {
        match self.project_source(path) {
            Ok((name, id)) => Ok(CopySource { name, source: id }),
            Err(reason) => {
                let message = format!("cannot read {}: {reason}", path.display());
                let mut problem = Diagnostic::new(Code::FileNotFound, message, span, "this source");
                problem.stack = stack.to_vec();
                Err(self.error(problem))
            }
        }
    }

    /// The derivation of a project file or directory, with its file name.
    pub(super) fn project_source(&mut self, path: &Path) -> Result<(String, DrvId), String> {
        let info = self.project.imported(path)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let source = Derivation::Source(Source { name: name.clone(), tree: info.hash });
        let provenance = Provenance { source: Some(path.to_path_buf()), ..Provenance::default() };
        Ok((name, self.add(source, provenance)))
    }
}

/// Name of a module's layer in `layers` mounts: the file stem with the instance, in characters that every file
/// system and boot loader takes.
fn mount_name(module: &ModuleId) -> String {
    let stem = module.path.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}{}", module.instance.as_deref().unwrap_or_default());
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
