//! `raptor lock`: Raptor.lock complete, and nothing more in it than is used.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::args;
use super::errors::CliError;
use super::inputs::{Needs, Targets, recording};
use super::project::Project;
use super::session::Session;
use crate::derivation::DrvId;
use crate::eval::Evaluator;
use crate::lock::{Change, Input, changes};
use crate::schedule;

pub fn main(session: &Session, args: &args::Lock) -> Result<ExitCode, CliError> {
    let project = Project::open(session, &args.targets)?;
    let targets = match args.targets.is_empty() {
        true => Targets::everything(&project)?.some()?,
        false => Targets::named(&project, &args.targets, &args.with.parameters())?,
    };
    if session.global.no_act {
        return look(session, &project, &targets, args);
    }
    let before = project.lock();
    let (evaluated, ids) = project.evaluate(session, |evaluator| targets.ask(evaluator))?;
    let goals: Vec<DrvId> = recording(&evaluated.evaluator, &ids).into_iter().map(|(id, _)| id).collect();
    let (_, failed) = session.realize_most(&project, &evaluated, &goals)?;
    if failed.is_none() && args.targets.is_empty() && session.may_record() {
        prune(&project, &targets)?;
    }
    let file = project.lock_file().display();
    let changes = changes(&before, &project.lock());
    print_changes(&changes, args.json)?;
    match failed {
        Some(failed) => Err(failed),
        None => {
            session.ui.info(&match changes.is_empty() {
                true => format!("{file} is complete"),
                false => format!("{file} is complete now"),
            });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn prune(project: &Project, targets: &Targets) -> Result<(), CliError> {
    let superfluous = Needs::of(project, targets).superfluous(&project.lock());
    if !superfluous.is_empty() {
        project.change_lock(|lock| superfluous.iter().for_each(|it| lock.forget(it)))?;
    }
    Ok(())
}

/// Says what would be done.
fn look(
    session: &Session,
    project: &Project,
    targets: &Targets,
    args: &args::Lock,
) -> Result<ExitCode, CliError> {
    let lock = project.lock();
    let needs = Needs::of(project, targets);
    let missing: Vec<String> = needs.missing.iter().map(Input::to_string).collect();
    // With something missing, nobody knows what the rest would use.
    let superfluous = match args.targets.is_empty() && missing.is_empty() {
        true => needs.superfluous(&lock),
        false => Vec::new(),
    };
    let superfluous: Vec<String> = superfluous.iter().map(Input::to_string).collect();
    let unbuilt = match missing.is_empty() {
        true => unbuilt(session, project, targets)?,
        false => Vec::new(),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let found = json!({ "missing": missing, "superfluous": superfluous, "unbuilt": unbuilt });
        writeln!(out, "{found}")?;
    } else {
        missing.iter().try_for_each(|it| writeln!(out, "missing {it}"))?;
        superfluous.iter().try_for_each(|it| writeln!(out, "superfluous {it}"))?;
    }
    let file = project.lock_file().display();
    for layer in &unbuilt {
        session.ui.info(&format!("note: only building {layer} tells whether {file} has all its requests"));
    }
    if !args.check || missing.is_empty() && superfluous.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let hint = "raptor lock completes it, and removes what nothing uses".to_owned();
    Err(CliError::Named { message: format!("{file} is not as the project needs it"), hint: Some(hint) })
}

/// Layers with RUN steps that the store does not have as the lock describes them.
fn unbuilt(session: &Session, project: &Project, targets: &Targets) -> Result<Vec<String>, CliError> {
    let mut evaluator = Evaluator::new(&project.files, project.lock());
    let Ok(ids) = targets.ask(&mut evaluator) else {
        // The errors of the files are told as every command tells them.
        project.evaluate(session, |evaluator| targets.ask(evaluator))?;
        return Ok(Vec::new());
    };
    let store = session.store()?;
    let order = evaluator.closure(&ids);
    let mut names = BTreeSet::new();
    for (id, layer) in recording(&evaluator, &ids) {
        let key = schedule::key_of(&store, &evaluator.derivations, &order, &id)?;
        let known = key.map(|key| store.recorded(&key)).transpose()?.flatten();
        if known.is_none() {
            names.insert(layer.name.clone());
        }
    }
    Ok(names.into_iter().collect())
}

/// Prints what became of a lock.
pub fn print_changes(changes: &[Change], as_json: bool) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", json!({ "changes": changes }))?;
        return Ok(());
    }
    for change in changes {
        writeln!(out, "{change}")?;
    }
    Ok(())
}
