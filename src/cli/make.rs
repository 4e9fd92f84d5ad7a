//! `raptor make`: jobs and groups of Raptor.toml.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::args::Make;
use super::errors::CliError;
use super::project::Project;
use super::run::{self, Container};
use super::session::{KeptGoal, Session};
use super::ui::Ui;
use crate::derivation::DrvId;
use crate::eval::{Job, Planned};
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
    let built = session.realize(&project, &evaluated, &goals)?;
    for (name, top) in wanted.builds.iter().zip(&layers) {
        session.keep(&project, &evaluated, &built, &KeptGoal { target: name, id: top.id, placed: None })?;
    }
    let (store, realization) = &built;
    let mut results = BTreeMap::new();
    for (job, plan) in jobs.iter().zip(&planned) {
        match plan {
            Planned::Pure { run, output } => {
                let hash = realization.outputs.get(run).and_then(|it| it.0.last());
                let Some(hash) = hash else { continue };
                let dest = std::path::absolute(project.output(output))?;
                place(&session.ui, store, &Placed::of(*hash), &dest, output)?;
                let goal = KeptGoal { target: &job.name, id: *run, placed: Some(&dest) };
                session.keep(&project, &evaluated, &built, &goal)?;
                results
                    .insert(job.name.clone(), json!({ "output": dest.display().to_string(), "hash": hash }));
            }
            Planned::Impure { reason, stack, argv, mounts } => {
                session.ui.info(&format!("job {} always runs: {reason}", job.name));
                for (idx, id) in run::goals(stack, mounts).into_iter().enumerate() {
                    let target = format!("{} ({idx})", job.name);
                    session.keep(
                        &project,
                        &evaluated,
                        &built,
                        &KeptGoal { target: &target, id, placed: None },
                    )?;
                }
                let container =
                    Container { stack, argv, mounts, env: &job.env, state_dir: project.state_dir(&job.name) };
                let status = run::execute(session, &project, store, realization, &container)?;
                if status != 0 {
                    return Err(CliError::Other(format!("job {} ended with status {status}", job.name)));
                }
                results.insert(job.name.clone(), json!({ "status": status }));
            }
        }
    }
    if args.json {
        let report = json!({ "jobs": results, "built": realization.built, "reused": realization.reused });
        writeln!(std::io::stdout(), "{report}")?;
    }
    Ok(ExitCode::SUCCESS)
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
