//! `raptor update`: inputs of Raptor.lock as they are now, and what is different about them.
//!
//! Every update is made with a lock of its own in the store's work area. Raptor.lock gets the new entries only once
//! everything that had to be built for them is built, so a failed or killed update changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use raptor_lang::suggest;
use serde_json::json;

use super::args::Update;
use super::errors::CliError;
use super::inputs::{Needs, Targets, base, recording};
use super::lock::print_changes;
use super::project::Project;
use super::session::Session;
use crate::derivation::DrvId;
use crate::eval::Evaluator;
use crate::lock::{Change, Input, Lock, changes};

pub fn main(session: &Session, args: &Update) -> Result<ExitCode, CliError> {
    if session.global.locked || session.offline() {
        let message = "an update needs the network and changes Raptor.lock, which the options forbid";
        return Err(CliError::Usage(message.to_owned()));
    }
    let project = Project::open(session, &[])?;
    let targets = Targets::everything(&project)?.and_recorded(&project).or_beside(&project);
    let units = units(session, &project, &targets, &args.names)?;
    if session.global.no_act {
        return would_update(&units, args.json);
    }
    let mut done = Vec::new();
    let mut failed = None;
    for unit in &units {
        if let Some(earlier) = &failed
            && session.cancel.load(Ordering::Relaxed)
        {
            CliError::report(earlier, &session.ui);
            break;
        }
        match update(session, &project, &targets, unit) {
            Ok(changes) => {
                if changes.is_empty() {
                    session.ui.info(&format!("{} is as it was", names(unit)));
                }
                done.extend(changes);
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    earlier.report(&session.ui);
                }
                session.ui.info(&format!("{} stays as it was", names(unit)));
            }
        }
    }
    print_changes(&done, args.json)?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Inputs that are only right together.
type Unit = BTreeSet<Input>;

fn names(unit: &Unit) -> String {
    unit.iter().map(Input::to_string).collect::<Vec<_>>().join(", ")
}

/// What to update: a base with the layers that stand on it, anything else alone.
fn units(
    session: &Session,
    project: &Project,
    targets: &Targets,
    names: &[String],
) -> Result<Vec<Unit>, CliError> {
    let lock = project.lock();
    let in_use = in_use(session, project, targets)?;
    let mut units: Vec<Unit> = Vec::new();
    for input in chosen(&lock, project, names)? {
        if !in_use.entries.contains(&input) {
            let message = format!("nothing in this project uses {input}");
            match names.is_empty() {
                true => session.ui.info(&format!("note: {message}; raptor lock removes it")),
                false => return Err(CliError::Other(message)),
            }
            continue;
        }
        let above = in_use.layers.get(&input).into_iter().flatten().cloned().map(Input::Layer);
        let unit: Unit = std::iter::once(input).chain(above).collect();
        if !units.iter().any(|it| it.is_superset(&unit)) {
            units.push(unit);
        }
    }
    Ok(units)
}

/// The entries that names of the command line mean, those of bases first; without names, all.
fn chosen(lock: &Lock, project: &Project, names: &[String]) -> Result<Vec<Input>, CliError> {
    let inputs = lock.inputs();
    if names.is_empty() {
        return Ok(inputs);
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        let meant: Vec<&Input> = inputs.iter().filter(|it| it.is_meant_by(name)).collect();
        if meant.is_empty() {
            return Err(unknown(&inputs, project, name));
        }
        chosen.extend(meant.into_iter().cloned());
    }
    Ok(inputs.into_iter().filter(|it| chosen.contains(it)).collect())
}

fn unknown(inputs: &[Input], project: &Project, name: &str) -> CliError {
    let known: BTreeSet<String> =
        inputs.iter().flat_map(|it| [it.to_string(), it.key().to_owned()]).collect();
    let hint = match suggest::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if inputs.is_empty() => "raptor lock pins what is needed".to_owned(),
        None => {
            let all: Vec<String> = inputs.iter().map(Input::to_string).collect();
            format!("it has: {}", all.join(", "))
        }
    };
    CliError::Named {
        message: format!("{} has no `{name}`", project.lock_file().display()),
        hint: Some(hint),
    }
}

/// What the targets use of the lock.
struct InUse {
    entries: BTreeSet<Input>,
    /// Names of the layers with RUN steps that stand on each base.
    layers: BTreeMap<Input, Vec<String>>,
}

fn in_use(session: &Session, project: &Project, targets: &Targets) -> Result<InUse, CliError> {
    let entries = Needs::of(project, targets).used;
    let mut evaluator = Evaluator::new(&project.files, project.lock());
    let Ok(ids) = targets.ask(&mut evaluator) else {
        if evaluator.has_errors() {
            // Tells them.
            project.evaluate(session, |evaluator| targets.ask(evaluator))?;
        }
        return Err(CliError::Named {
            message: format!("{} is not complete", project.lock_file().display()),
            hint: Some("raptor lock completes it".to_owned()),
        });
    };
    let found: Vec<_> = recording(&evaluator, &ids)
        .into_iter()
        .filter_map(|(id, layer)| Some((layer.name.clone(), evaluator.provenance.get(&id)?.module.clone()?)))
        .collect();
    let mut layers: BTreeMap<Input, Vec<String>> = BTreeMap::new();
    for (name, module) in found {
        if let Some(base) = base(&mut evaluator, &module) {
            layers.entry(base).or_default().push(name);
        }
    }
    Ok(InUse { entries, layers })
}

/// Gets a unit anew, and puts it into the lock.
fn update(
    session: &Session,
    project: &Project,
    targets: &Targets,
    unit: &Unit,
) -> Result<Vec<Change>, CliError> {
    let before = project.lock();
    let mut without = before.clone();
    unit.iter().for_each(|input| without.forget(input));
    let work = session.store()?.work_dir()?;
    let trial = project.apart(session, &without, work.path().join("Raptor.lock"))?;
    let (evaluated, ids) = trial.evaluate(session, |evaluator| targets.ask(evaluator))?;
    let is_ours = |name: &str| unit.contains(&Input::Layer(name.to_owned()));
    let layers = recording(&evaluated.evaluator, &ids).into_iter().filter(|(_, it)| is_ours(&it.name));
    let goals: Vec<DrvId> = layers.map(|(id, _)| id).collect();
    session.realize(&trial, &evaluated, &goals)?;
    let new = trial.lock();
    project.change_lock(|lock| unit.iter().for_each(|input| lock.take(input, &new)))?;
    let part = |lock: &Lock| {
        let mut part = Lock::default();
        unit.iter().for_each(|input| part.take(input, lock));
        part
    };
    Ok(changes(&part(&before), &part(&new)))
}

fn would_update(units: &[Unit], as_json: bool) -> Result<ExitCode, CliError> {
    use std::io::Write;
    let all: BTreeSet<&Input> = units.iter().flatten().collect();
    let mut out = std::io::stdout().lock();
    if as_json {
        let inputs: Vec<_> =
            all.iter().map(|it| json!({ "section": it.section(), "name": it.to_string() })).collect();
        writeln!(out, "{}", json!({ "inputs": inputs }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for input in all {
        match input {
            Input::Layer(name) => writeln!(out, "would record the requests of layer {name} anew")?,
            other => writeln!(out, "would pin {other} anew")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
