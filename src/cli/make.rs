//! `raptor make`: jobs and groups of Raptor.toml.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::args::{Make, Stale};
use super::errors::CliError;
use super::project::{Evaluated, Project};
use super::run::{self, Container};
use super::session::{KeptGoal, Session};
use super::state::StateDir;
use super::ui::Ui;
use crate::derivation::DrvId;
use crate::eval::{Job, JobMount, Planned, Stack};
use crate::sandbox::Network;
use crate::schedule::Realization;
use crate::store::{Placed, Store};

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    jobs: Vec<String>,
    builds: Vec<String>,
}

pub fn main(session: &Session, args: &Make) -> Result<ExitCode, CliError> {
    let project = Project::load(session, &args.file)?;
    let wanted = wanted(&project, &args.targets)?;
    let jobs = wanted.jobs.iter().map(|name| project.job(name)).collect::<Result<Vec<_>, _>>()?;
    let builds = wanted.builds.iter().map(|name| project.module(name)).collect::<Result<Vec<_>, _>>()?;
    if jobs.is_empty() && builds.is_empty() {
        return Err(CliError::Usage(format!("{} has no jobs", args.file.display())));
    }
    let mut outputs = BTreeMap::new();
    for job in &jobs {
        for output in job.sources.get("output").into_iter().flatten() {
            project.check_writable(&output.path)?;
            if let Some(other) = outputs.insert(project.output(&output.path), &job.name) {
                let path = output.path.display();
                return Err(CliError::Other(format!("jobs `{other}` and `{}` both write {path}", job.name)));
            }
        }
    }
    if session.global.no_act {
        jobs.iter().for_each(|job| session.ui.info(&would_run(job)));
        wanted.builds.iter().for_each(|name| session.ui.info(&format!("Would build {name}")));
        return Ok(ExitCode::SUCCESS);
    }
    let modules: Vec<_> = jobs.iter().flat_map(Job::modules).chain(builds.iter().cloned()).collect();
    let (evaluated, (planned, layers)) = project.evaluate(session, |evaluator| {
        evaluator.prepare(&modules);
        let planned: Vec<_> = jobs.iter().map(|job| evaluator.job(job)).collect();
        let layers: Vec<_> = builds.iter().map(|module| evaluator.layer(module)).collect();
        Ok((
            planned.into_iter().collect::<Result<Vec<_>, _>>()?,
            layers.into_iter().collect::<Result<Vec<_>, _>>()?,
        ))
    })?;
    let mut goals: Vec<DrvId> = layers.iter().map(|it| it.id).collect();
    for plan in &planned {
        match plan {
            Planned::Pure { run, .. } => goals.push(*run),
            Planned::Impure { stack, mounts, .. } => goals.extend(run::goals(stack, mounts)),
        }
    }
    for (job, plan) in jobs.iter().zip(&planned) {
        if let Planned::Impure { mounts, .. } = plan {
            let to_be_made =
                |path: &Path| outputs.iter().any(|(it, by)| **by != job.name && path.starts_with(it));
            run::check_mounts(session, &project, job, mounts, to_be_made)?;
        }
    }
    let (built, mut failed) = session.realize_most(&project, &evaluated, &goals)?;
    for (name, top) in wanted.builds.iter().zip(&layers) {
        session.keep(&project, &evaluated, &built, &KeptGoal { target: name, id: top.id, placed: None })?;
    }
    let making = Making { session, project: &project, evaluated: &evaluated, built: &built };
    let mut results = BTreeMap::new();
    for (job, plan) in jobs.iter().zip(&planned) {
        let go_on = session.global.keep_going && !session.cancel.load(Ordering::Relaxed);
        let made = match plan {
            Planned::Pure { run, output } => making.output(job, *run, output),
            // These have effects, so they wait for everything to be well.
            Planned::Impure { .. } if failed.is_some() && !go_on => continue,
            Planned::Impure { reason, stack, argv, mounts } => {
                making.impure(job, reason, stack, argv, mounts)
            }
        };
        match made {
            Ok(Some(result)) => drop(results.insert(job.name.clone(), result)),
            // What it needs has failed, which is told at the end.
            Ok(None) => {}
            Err(err) if failed.is_some() => err.report(&session.ui),
            Err(err) if go_on => failed = Some(err),
            Err(err) => return Err(err),
        }
    }
    let (_, realization) = &built;
    if args.json {
        let report = json!({ "jobs": results, "built": realization.built, "reused": realization.reused });
        writeln!(std::io::stdout(), "{report}")?;
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    Ok(ExitCode::SUCCESS)
}

/// What jobs are finished with, after everything that they need was built or has failed.
struct Making<'a> {
    session: &'a Session,
    project: &'a Project,
    evaluated: &'a Evaluated<'a>,
    built: &'a (Store, Realization),
}

impl Making<'_> {
    /// Puts the output of a pure job into its place; None if it was not built.
    fn output(&self, job: &Job, run: DrvId, output: &Path) -> Result<Option<Value>, CliError> {
        let (store, realization) = self.built;
        let Some(hash) = realization.outputs.get(&run).and_then(|it| it.0.last()) else { return Ok(None) };
        let dest = std::path::absolute(self.project.output(output))?;
        place(&self.session.ui, store, &Placed::of(*hash), &dest, output)?;
        self.keep(&job.name, run, Some(&dest))?;
        Ok(Some(json!({ "output": dest.display().to_string(), "hash": hash })))
    }

    /// Runs a job that works on the host; None if what it needs was not built.
    fn impure(
        &self,
        job: &Job,
        reason: &str,
        stack: &Stack,
        argv: &[String],
        mounts: &[JobMount],
    ) -> Result<Option<Value>, CliError> {
        let (store, realization) = self.built;
        let goals = run::goals(stack, mounts);
        if !goals.iter().all(|id| realization.outputs.contains_key(id)) {
            return Ok(None);
        }
        self.session.ui.info(&format!("job {} always runs: {reason}", job.name));
        for (idx, id) in goals.into_iter().enumerate() {
            self.keep(&format!("{} ({idx})", job.name), id, None)?;
        }
        let state = self.project.state_dir(&job.name).as_deref().map(StateDir::open).transpose()?;
        let container = Container {
            target: &job.name,
            stack,
            argv,
            mounts,
            env: &job.env,
            state,
            stale: Stale::Fail,
            network: Network::Host,
        };
        let ended = run::execute(self.session, self.project, store, realization, container)?;
        if ended.status == 0 {
            return Ok(Some(json!({ "status": 0 })));
        }
        if ended.asked {
            self.session.cancel.store(true, Ordering::Relaxed);
        }
        Err(CliError::Other(format!("job {} ended with status {}", job.name, ended.status)))
    }

    fn keep(&self, target: &str, id: DrvId, placed: Option<&Path>) -> Result<(), CliError> {
        self.session.keep(self.project, self.evaluated, self.built, &KeptGoal { target, id, placed })
    }
}

fn wanted(project: &Project, targets: &[String]) -> Result<Wanted, CliError> {
    let mut wanted = Wanted::default();
    if targets.is_empty() {
        wanted.jobs = project.manifest.runs.keys().cloned().collect();
    }
    for target in targets {
        let Some(name) = target.strip_prefix('%') else {
            push_new(&mut wanted.jobs, target);
            continue;
        };
        let group = project.manifest.groups.get(name).ok_or_else(|| {
            let known: Vec<&str> = project.manifest.groups.keys().map(String::as_str).collect();
            CliError::Other(format!("there is no group `{name}`; known groups: {}", known.join(", ")))
        })?;
        group.run.iter().for_each(|it| push_new(&mut wanted.jobs, &it.value));
        group.build.iter().for_each(|it| push_new(&mut wanted.builds, &it.value));
    }
    Ok(wanted)
}

fn push_new(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|it| it == name) {
        names.push(name.to_owned());
    }
}

fn would_run(job: &Job) -> String {
    let mut line = format!("Would run {}", job.name);
    for (name, flag) in [("cache", "-C"), ("input", "-I"), ("output", "-O")] {
        for source in job.sources.get(name).into_iter().flatten() {
            line.push_str(&format!(" {flag} {}", source.text));
        }
    }
    line
}

/// Puts an output where the job wants it, unless it is there already.
fn place(ui: &Ui, store: &Store, placed: &Placed, dest: &Path, shown: &Path) -> Result<(), CliError> {
    if store.is_placed(placed, dest)? {
        ui.detail(&format!("{} is up to date", shown.display()));
        return Ok(());
    }
    store.place(placed, dest)?;
    ui.info(&format!("wrote {}", shown.display()));
    Ok(())
}
