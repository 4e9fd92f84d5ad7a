//! Jobs: a target's container, its mounts and a command, from Raptor.toml or the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::program::{ModuleId, Program, ProgramMount};
use raptor_lang::source::Span;
use raptor_lang::stmt::{MountKind, Spanned};

use super::{BaseImage, Evaluator, Failed, Provenance, SourceFile, Stack, StackLayer};
use crate::derivation::{Derivation, DrvId, LayerEntry, LayersTarget, Run, RunMount, SANDBOX, SYSTEM};

/// A job as asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// For people.
    pub name: String,
    /// The container.
    pub target: ModuleId,
    /// Sources by mount name, in the order given.
    pub sources: BTreeMap<String, Vec<JobInput>>,
    /// Instead of the target's ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the target's CMD.
    pub args: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Runs for its effects on the host, not for its output.
    pub stateful: bool,
}

/// One source of a mount.
#[derive(Clone, Debug)]
pub struct JobInput {
    /// As the user wrote it; `layers` mounts show it.
    pub text: String,
    /// Taken as a module, if it is one.
    pub module: Option<ModuleId>,
    /// Taken as a path, relative to the project.
    pub path: PathBuf,
}

/// A mount of a job that must run on the host's own files.
#[derive(Clone, Debug)]
pub struct JobMount {
    /// What the container calls it.
    pub name: String,
    /// Where the container sees it.
    pub dest: String,
    /// simple, file, layers or overlay.
    pub kind: MountKind,
    /// Host path, for simple and file.
    pub host: Option<PathBuf>,
    /// Without write access.
    pub readonly: bool,
    /// Modules with their layers, for layers and overlay.
    pub targets: Vec<(String, Stack)>,
}

/// What a job comes to.
#[derive(Clone, Debug)]
pub enum Planned {
    /// A derivation, and the path where its output goes.
    Pure {
        /// The run.
        run: DrvId,
        /// Destination of the output, relative to the working directory.
        output: PathBuf,
    },
    /// It works on host files, for this reason, so it always runs.
    Impure {
        /// Why.
        reason: String,
        /// The container's layers.
        stack: Stack,
        /// Entrypoint and arguments.
        argv: Vec<String>,
        /// Mounts.
        mounts: Vec<JobMount>,
    },
}

impl Job {
    /// The target, and every source that may be a module.
    pub fn modules(&self) -> Vec<ModuleId> {
        let sources = self.sources.values().flatten().filter_map(|it| it.module.clone());
        std::iter::once(self.target.clone()).chain(sources).collect()
    }
}

/// Command line of a container: entrypoint (default `/bin/sh -c`) and arguments (default CMD).
pub fn command(
    program: &Program,
    entrypoint: Option<&[String]>,
    args: Option<&[String]>,
) -> Option<Vec<String>> {
    let default = || program.entrypoint.as_ref().map(|it| it.value.clone());
    let mut argv = entrypoint
        .map(<[String]>::to_vec)
        .or_else(default)
        .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    let args = args.map(<[String]>::to_vec).or_else(|| program.cmd.as_ref().map(|it| it.value.clone()));
    match args {
        Some(args) => argv.extend(args),
        // An entrypoint of its own may need no arguments; the default one does.
        None if entrypoint.is_none() && program.entrypoint.is_none() => return None,
        None => {}
    }
    Some(argv)
}

impl Evaluator<'_> {
    /// Plans a job of Raptor.toml.
    pub fn job(&mut self, job: &Job) -> Result<Planned, Failed> {
        self.prepare(&job.modules());
        let program = self.program(&job.target)?;
        let stack = self.stack(&job.target)?;
        let argv = self.argv(&program, job, &stack)?;
        match impure_reason(&program, job) {
            Some(reason) => {
                let mounts = self.host_mounts(&program, job)?;
                Ok(Planned::Impure { reason, stack, argv, mounts })
            }
            None => self.pure(job, &program, &stack, argv),
        }
    }

    /// Plans a job that works on the host: `raptor run`.
    pub fn host_job(&mut self, job: &Job) -> Result<(Stack, Vec<String>, Vec<JobMount>), Failed> {
        self.prepare(&job.modules());
        let program = self.program(&job.target)?;
        let stack = self.stack(&job.target)?;
        let argv = self.argv(&program, job, &stack)?;
        let mounts = self.host_mounts(&program, job)?;
        Ok((stack, argv, mounts))
    }

    fn argv(&mut self, program: &Program, job: &Job, stack: &Stack) -> Result<Vec<String>, Failed> {
        match command(program, job.entrypoint.as_deref(), job.args.as_deref()) {
            Some(argv) => Ok(argv),
            None => {
                let message = format!("{} has neither CMD nor arguments", job.target.path.display());
                let span = Span::new(program.file, 0, 0);
                let problem =
                    Diagnostic::new(Code::MissingOperand, message, span, "there is no command to run");
                let hint = match self.base_image(stack) {
                    Some(BaseImage { name, command, .. }) if !command.is_empty() => {
                        let words: Vec<_> = command.iter().map(|it| format!("{it:?}")).collect();
                        format!("{name} says that it runs: CMD {}", words.join(" "))
                    }
                    _ => "add a CMD, or give arguments after the target".to_owned(),
                };
                Err(self.error(problem.with_hint(hint)))
            }
        }
    }

    /// The image that somebody else made and a stack begins with.
    pub fn base_image(&self, stack: &Stack) -> Option<&BaseImage> {
        self.provenance.get(&stack.first()?.id)?.image.as_ref()
    }

    fn pure(
        &mut self,
        job: &Job,
        program: &Program,
        stack: &Stack,
        argv: Vec<String>,
    ) -> Result<Planned, Failed> {
        let mut mounts = Vec::new();
        let mut output = None;
        let mut epoch = top(stack)?.epoch;
        for mount in &program.mounts {
            let sources =
                job.sources.get(&mount.value.mount.name.value).map(Vec::as_slice).unwrap_or_default();
            let name = mount.value.mount.name.value.as_str();
            let dest = mount.value.mount.path.value.clone();
            match (mount.value.mount.kind, name) {
                (MountKind::Simple, "cache") => mounts.push(RunMount::Scratch { dest }),
                (MountKind::Simple | MountKind::File, "output") if !sources.is_empty() => {
                    self.single(mount, sources)?;
                    if output.is_some() {
                        return Err(self.mount_error(mount, "the job has two outputs", "this is the second"));
                    }
                    output = sources.first().map(|it| it.path.clone());
                    mounts.push(RunMount::Output { dest, file: mount.value.mount.kind == MountKind::File });
                }
                (_, _) if sources.is_empty() => self.missing(mount)?,
                (MountKind::Simple | MountKind::File, _) => {
                    let source = self.single(mount, sources)?;
                    let mut findings = self.findings();
                    let imported = findings.project_source(&SourceFile::whole(&source.path));
                    let found = findings.found;
                    self.join(found);
                    match imported {
                        Ok((_, tree, _)) => mounts.push(RunMount::Tree { dest, tree }),
                        Err(reason) => {
                            let message = format!("cannot read {}: {reason}", source.path.display());
                            return Err(self.mount_error(mount, &message, "wanted by this mount"));
                        }
                    }
                }
                (MountKind::Layers, _) => {
                    let (targets, newest) = self.layers_targets(mount, sources)?;
                    epoch = epoch.max(newest);
                    mounts.push(RunMount::Layers { dest, targets });
                }
                (MountKind::Overlay, _) => {
                    let source = self.single(mount, sources)?.clone();
                    let stack = self.input_stack(mount, &source)?;
                    let top = top(&stack)?;
                    epoch = epoch.max(top.epoch);
                    mounts.push(RunMount::Overlay { dest, stack: top.id });
                }
            }
        }
        let Some(output) = output else {
            let message = format!("{} has no mount `output`", job.target.path.display());
            let span = Span::new(program.file, 0, 0);
            return Err(self.error(Diagnostic::new(
                Code::BadMount,
                message,
                span,
                "the job wants an output of it",
            )));
        };
        let run = Run {
            name: job.name.clone(),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            container: top(stack)?.id,
            argv,
            env: job.env.clone(),
            mounts,
            epoch,
        };
        Ok(Planned::Pure { run: self.add(Derivation::Run(run), Provenance::default()), output })
    }

    fn layers_targets(
        &mut self,
        mount: &Spanned<ProgramMount>,
        sources: &[JobInput],
    ) -> Result<(Vec<LayersTarget<DrvId>>, i64), Failed> {
        let mut targets = Vec::new();
        let mut epoch = i64::MIN;
        for source in sources {
            let stack = self.input_stack(mount, source)?;
            let mut layers = Vec::new();
            for layer in &stack {
                epoch = epoch.max(layer.epoch);
                let shown = match &mount.value.each {
                    Some(builder) => self.each(mount, builder, layer)?,
                    None => layer.id,
                };
                layers.push(LayerEntry { name: layer.name.clone(), layer: layer.id, shown });
            }
            targets.push(LayersTarget { name: source.text.clone(), layers });
        }
        Ok((targets, epoch))
    }

    /// The run of a `--each` builder on one layer: its `input` is the layer, its `output` what is shown.
    fn each(
        &mut self,
        mount: &Spanned<ProgramMount>,
        builder: &ModuleId,
        layer: &StackLayer,
    ) -> Result<DrvId, Failed> {
        let program = self.program(builder)?;
        let stack = self.stack(builder)?;
        let Some(argv) = command(&program, None, None) else {
            return Err(self.mount_error(mount, "the builder of --each has no CMD", "named here"));
        };
        let mut mounts = Vec::new();
        let mut outputs = 0;
        for it in &program.mounts {
            let dest = it.value.mount.path.value.clone();
            match (it.value.mount.name.value.as_str(), it.value.mount.kind) {
                ("input", MountKind::Simple) => mounts.push(RunMount::Tree { dest, tree: layer.id }),
                ("output", kind @ (MountKind::File | MountKind::Simple)) => {
                    outputs += 1;
                    mounts.push(RunMount::Output { dest, file: kind == MountKind::File });
                }
                ("cache", MountKind::Simple) => mounts.push(RunMount::Scratch { dest }),
                _ if it.value.mount.optional => {}
                _ => {
                    let message =
                        "a builder for --each has mounts `input` (simple), `output` and `cache` only";
                    return Err(self.mount_error(mount, message, "named here"));
                }
            }
        }
        if outputs != 1 {
            return Err(self.mount_error(
                mount,
                "a builder for --each needs one mount `output`",
                "named here",
            ));
        }
        let run = Run {
            name: format!(
                "{}-{}",
                builder.path.file_stem().unwrap_or_default().to_string_lossy(),
                layer.name
            ),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            container: top(&stack)?.id,
            argv,
            env: BTreeMap::new(),
            mounts,
            epoch: top(&stack)?.epoch.max(layer.epoch),
        };
        Ok(self.add(Derivation::Run(run), Provenance::default()))
    }

    fn host_mounts(&mut self, program: &Program, job: &Job) -> Result<Vec<JobMount>, Failed> {
        let mut mounts = Vec::new();
        for mount in &program.mounts {
            let it = &mount.value.mount;
            let sources = job.sources.get(&it.name.value).map(Vec::as_slice).unwrap_or_default();
            if sources.is_empty() {
                self.missing(mount)?;
                continue;
            }
            let mut planned = JobMount {
                name: it.name.value.clone(),
                dest: it.path.value.clone(),
                kind: it.kind,
                host: None,
                readonly: it.readonly,
                targets: Vec::new(),
            };
            match it.kind {
                MountKind::Simple | MountKind::File => {
                    planned.host = Some(self.single(mount, sources)?.path.clone());
                }
                MountKind::Overlay => {
                    let source = self.single(mount, sources)?.clone();
                    planned.targets = vec![(source.text.clone(), self.input_stack(mount, &source)?)];
                }
                MountKind::Layers => {
                    for source in sources {
                        planned.targets.push((source.text.clone(), self.input_stack(mount, source)?));
                    }
                }
            }
            mounts.push(planned);
        }
        Ok(mounts)
    }

    fn input_stack(&mut self, mount: &Spanned<ProgramMount>, source: &JobInput) -> Result<Stack, Failed> {
        match &source.module {
            Some(module) => self.stack(module),
            None => {
                let message = format!("`{}` is not a module", source.text);
                Err(self.mount_error(mount, &message, "this mount takes modules"))
            }
        }
    }

    fn single<'s>(
        &mut self,
        mount: &Spanned<ProgramMount>,
        sources: &'s [JobInput],
    ) -> Result<&'s JobInput, Failed> {
        match sources {
            [one] => Ok(one),
            _ => Err(self.mount_error(mount, "only a single source can be mounted here", "this mount")),
        }
    }

    fn missing(&mut self, mount: &Spanned<ProgramMount>) -> Result<(), Failed> {
        if mount.value.mount.optional {
            return Ok(());
        }
        let name = &mount.value.mount.name.value;
        let message = format!("required mount [{name}] not specified");
        Err(self.mount_error(mount, &message, "needs a source"))
    }

    fn mount_error(&mut self, mount: &Spanned<ProgramMount>, message: &str, label: &str) -> Failed {
        self.error(Diagnostic::new(Code::BadMount, message, mount.span, label))
    }
}

fn top(stack: &Stack) -> Result<&StackLayer, Failed> {
    stack.last().ok_or(Failed)
}

/// Why a job is not a function of its inputs, if it is not.
pub fn impure_reason(program: &Program, job: &Job) -> Option<String> {
    if job.stateful {
        return Some("it keeps a state directory".to_owned());
    }
    if job.sources.get("output").is_none_or(Vec::is_empty) {
        return Some("it names no output".to_owned());
    }
    for mount in &program.mounts {
        let it = &mount.value.mount;
        let given = job.sources.get(&it.name.value).is_some_and(|sources| !sources.is_empty());
        let host = matches!(it.kind, MountKind::Simple | MountKind::File);
        if given && host && !it.readonly && it.name.value != "cache" && it.name.value != "output" {
            return Some(format!("mount `{}` gives write access to a host path", it.name.value));
        }
    }
    None
}
