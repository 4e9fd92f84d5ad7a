//! Everything that Raptor.toml names: jobs against the mounts of their targets, groups, links.

use raptor_lang::diag::{Code, Diagnostic, Severity};
use raptor_lang::manifest::RunJob;
use raptor_lang::program::{Program, ProgramMount};
use raptor_lang::stmt::{MountKind, Spanned};
use raptor_lang::world::World;

use super::follow;
use crate::cli::project::Project;
use crate::eval::{Evaluator, Job, command, impure_reason};

/// The mounts that a job can give sources for.
const GIVEN: &[&str] = &["cache", "input", "output"];

/// Collects the problems of all jobs and groups.
pub fn check(project: &Project, evaluator: &mut Evaluator<'_>) {
    let jobs = project.manifest.runs.keys().filter_map(|name| project.job(name).ok());
    let builds = project.manifest.groups.values().flat_map(|group| &group.build);
    let builds = builds.filter_map(|it| project.module_at(it).ok());
    evaluator.prepare(&jobs.flat_map(|job| job.modules()).chain(builds).collect::<Vec<_>>());
    for (name, entry) in &project.manifest.runs {
        job(project, evaluator, name, entry);
    }
    for it in project.manifest.groups.values().flat_map(|group| &group.build) {
        match project.module_at(it) {
            Ok(module) => follow(evaluator, &module),
            Err(problem) => evaluator.diagnostics.push(problem),
        }
    }
    // What could not be read may be what uses a link.
    if !evaluator.has_errors() {
        unused_links(project, evaluator);
        unused_files(project, evaluator);
    }
}

fn job(project: &Project, evaluator: &mut Evaluator<'_>, name: &str, entry: &RunJob) {
    let planned = match project.module_at(&entry.target) {
        Ok(_) => project.job(name),
        Err(problem) => return evaluator.diagnostics.push(problem),
    };
    let Ok(planned) = planned else { return };
    follow(evaluator, &planned.target);
    let Ok(program) = evaluator.program(&planned.target) else { return };
    let mut job = JobCheck { project, entry, planned: &planned, program: &program, problems: Vec::new() };
    job.command();
    job.mounts();
    let problems = job.problems;
    let sound = problems.iter().all(|it| it.severity() == Severity::Warning);
    evaluator.diagnostics.extend(problems);
    for mount in &program.mounts {
        if takes_modules(mount) {
            let sources = planned.sources.get(&mount.value.mount.name.value);
            for module in sources.into_iter().flatten().filter_map(|it| it.module.as_ref()) {
                follow(evaluator, module);
            }
        }
    }
    if sound {
        // What is left to find concerns the builders of its mounts.
        let _ = evaluator.job(&planned);
    }
}

struct JobCheck<'a> {
    project: &'a Project,
    entry: &'a RunJob,
    planned: &'a Job,
    program: &'a Program,
    problems: Vec<Diagnostic>,
}

impl<'a> JobCheck<'a> {
    fn command(&mut self) {
        let job = self.planned;
        if command(self.program, job.entrypoint.as_deref(), job.args.as_deref()).is_none() {
            let message = format!("{} has no CMD, and the job gives no `args`", job.target.path.display());
            let problem =
                Diagnostic::new(Code::MissingOperand, message, self.entry.target.span, "nothing to run");
            self.problems.push(problem.with_hint("add a CMD to the target, or `args = [\"…\"]` to the job"));
        }
    }

    fn mounts(&mut self) {
        let pure = impure_reason(self.program, self.planned).is_none();
        for mount in &self.program.mounts {
            let it = &mount.value.mount;
            let sources = self.written(&it.name.value);
            match sources {
                [] => self.missing(mount, pure),
                // A second output is wrong whatever the mount is, and has been told.
                [_, _, ..] if it.name.value == "output" => {}
                [_, second, ..] if it.kind != MountKind::Layers => {
                    let message = format!("the mount `{}` takes a single source", it.name.value);
                    let problem = Diagnostic::new(Code::BadMount, message, second.span, "one too many");
                    self.problems.push(problem.with_label(mount.span, "mounted here"));
                }
                _ if takes_modules(mount) => {
                    for source in sources {
                        let problem = self.project.module_at(source).err();
                        self.problems
                            .extend(problem.map(|it| it.with_label(mount.span, "this mount takes modules")));
                    }
                }
                [source, ..] if pure && !matches!(it.name.value.as_str(), "cache" | "output") => {
                    self.readable(source, mount);
                }
                _ => {}
            }
        }
        for name in GIVEN {
            let is_mounted = self.program.mounts.iter().any(|it| it.value.mount.name.value == *name);
            if let ([first, ..], false) = (self.written(name), is_mounted) {
                let target = self.planned.target.path.display();
                let message = format!("{target} has no mount `{name}`");
                // The output of a job without state is all it is run for.
                let problem = match pure && *name == "output" {
                    true => Diagnostic::new(Code::BadMount, message, first.span, "nothing is written here"),
                    false => Diagnostic::new(Code::UnusedSource, message, first.span, "not used"),
                };
                let hint = format!("add `MOUNT {name} /PATH` to the target, or leave the key out");
                self.problems.push(problem.with_hint(hint));
            }
        }
    }

    fn missing(&mut self, mount: &Spanned<ProgramMount>, pure: bool) {
        let it = &mount.value.mount;
        let name = it.name.value.as_str();
        let is_scratch = pure && name == "cache" && it.kind == MountKind::Simple;
        if it.optional || is_scratch {
            return;
        }
        let message = format!("required mount [{name}] not specified");
        let span = self.entry.target.span;
        let problem = Diagnostic::new(Code::BadMount, message, span, format!("the target needs `{name}`"))
            .with_label(mount.span, "required here");
        self.problems.push(
            problem.with_hint(match GIVEN.contains(&name) {
                true => format!("add `{name} = \"…\"` to the job, or make the mount `--optional`"),
                false => {
                    "jobs give the mounts `cache`, `input` and `output` only; make this one `--optional`, or \
                      start the target with `raptor run -M`"
                        .to_owned()
                }
            }),
        );
    }

    fn readable(&mut self, source: &Spanned<String>, mount: &Spanned<ProgramMount>) {
        let path = self.project.job_input(&source.value).path;
        if self.project.files.kind(&path).is_none() {
            let message = format!("could not open {}: no such file or directory", path.display());
            let problem = Diagnostic::new(Code::FileNotFound, message, source.span, "does not exist");
            self.problems.push(
                problem
                    .with_label(mount.span, "wanted by this mount")
                    .with_hint("sources of jobs count from the directory of Raptor.toml"),
            );
        }
    }

    /// Sources of a mount as they stand in Raptor.toml.
    fn written(&self, mount: &str) -> &'a [Spanned<String>] {
        match mount {
            "cache" => &self.entry.cache,
            "input" => &self.entry.input,
            "output" => &self.entry.output,
            _ => &[],
        }
    }
}

fn takes_modules(mount: &Spanned<ProgramMount>) -> bool {
    matches!(mount.value.mount.kind, MountKind::Layers | MountKind::Overlay)
}

/// Links below which no file was read, and that no job names.
fn unused_links(project: &Project, evaluator: &mut Evaluator<'_>) {
    let manifest = &project.manifest;
    for (name, link) in &manifest.links {
        let Some(dir) = project.files.packages().linked.get(name) else { continue };
        let is_read = evaluator.sources.paths().any(|path| path.starts_with(dir));
        let values = manifest.runs.values().flat_map(|job| {
            let lists = [&job.cache, &job.input, &job.output].into_iter().flatten();
            lists.chain(&job.state_dir).map(|it| it.value.as_str())
        });
        let mut named = values.filter_map(|it| it.strip_prefix('$')?.split(['.', '/']).next());
        if !is_read && !named.any(|it| it == name) {
            let message = format!("nothing uses the package `{name}`");
            let problem = Diagnostic::new(Code::UnusedLink, message, link.span, "linked for nothing");
            evaluator
                .diagnostics
                .push(problem.with_hint(format!("modules of it are named `${name}.MODULE`")));
        }
    }
}

/// Files of `[fetch]` that no FETCH names.
fn unused_files(project: &Project, evaluator: &mut Evaluator<'_>) {
    let used = project.files.fetched();
    for (name, file) in project.manifest.fetch.iter().filter(|(name, _)| !used.contains(*name)) {
        let message = format!("nothing uses the file `{name}`");
        let problem = Diagnostic::new(Code::UnusedFetch, message, file.span, "described for nothing");
        evaluator.diagnostics.push(problem.with_hint(format!("it is downloaded by `FETCH @{name} DEST`")));
    }
}
