//! `raptor realize`: targets or derivations to store paths.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::args::Realize;
use super::errors::CliError;
use super::project::{Evaluated, Project};
use super::session::{KeptGoal, MirrorSettings, Session};
use crate::derivation::{Derivation, DrvId};
use crate::schedule::{self, Goals, Realization};
use crate::store::Store;

pub fn main(session: &Session, args: &Realize) -> Result<ExitCode, CliError> {
    let ids: Option<Vec<DrvId>> = args.targets.iter().map(|it| it.parse().ok()).collect();
    match ids {
        Some(ids) => by_id(session, args, &ids),
        None => {
            let project = Project::open(session, &args.targets)?;
            let (evaluated, ids) = project.derivations(session, &args.targets, &args.with.parameters())?;
            if session.global.no_act {
                return Ok(would_realize(session, &evaluated, &ids));
            }
            let built = session.realize(&project, &evaluated, &ids)?;
            for (target, id) in args.targets.iter().zip(&ids) {
                session.keep(&project, &evaluated, &built, &KeptGoal { target, id: *id, placed: None })?;
            }
            let (store, realization) = built;
            print_results(&args.targets, &ids, &realization, &store, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Derivations that an earlier command left in the store: nothing is evaluated, nothing recorded.
fn by_id(session: &Session, args: &Realize, ids: &[DrvId]) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let mut derivations: BTreeMap<DrvId, Derivation> = BTreeMap::new();
    let mut todo = ids.to_vec();
    while let Some(id) = todo.pop() {
        if derivations.contains_key(&id) {
            continue;
        }
        let derivation = schedule::recall(&store, &id)?
            .ok_or_else(|| CliError::Other(format!("the store has no derivation {id}")))?;
        todo.extend(derivation.inputs());
        derivations.insert(id, derivation);
    }
    let provenance = BTreeMap::new();
    let recorder = |_: &str, _: &[_]| Ok(());
    let goals = Goals {
        derivations: &derivations,
        provenance: &provenance,
        files: None,
        goals: ids,
        recorder: &recorder,
        recorded: &|_| Ok(None),
    };
    let realization =
        session.realize_with(&store, &goals, &MirrorSettings::default(), false).map_err(|failures| {
            let places = failures.iter().map(|_| None).collect();
            CliError::Failed { failures, places, updates: Vec::new() }
        })?;
    print_results(&args.targets, ids, &realization, &store, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what a build would look at, inputs first.
pub fn would_realize(session: &Session, evaluated: &Evaluated<'_>, ids: &[DrvId]) -> ExitCode {
    for id in evaluated.evaluator.closure(ids) {
        if let Some(derivation) = evaluated.evaluator.derivations.get(&id) {
            session.ui.info(&format!("would realize {} {id}", derivation.name()));
        }
    }
    ExitCode::SUCCESS
}

/// Prints the store path of each target, or all about it as JSON.
pub fn print_results(
    names: &[String],
    ids: &[DrvId],
    realization: &Realization,
    store: &Store,
    as_json: bool,
) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let mut results = Vec::new();
    for (name, id) in names.iter().zip(ids) {
        let Some(hash) = realization.outputs.get(id).and_then(|it| it.0.last()) else { continue };
        let path = store.path(hash);
        match as_json {
            true => results.push(
                json!({ "target": name, "derivation": id, "hash": hash, "path": path.display().to_string() }),
            ),
            false => writeln!(out, "{}", path.display())?,
        }
    }
    if as_json {
        writeln!(
            out,
            "{}",
            json!({ "results": results, "built": realization.built, "reused": realization.reused })
        )?;
    }
    Ok(())
}
