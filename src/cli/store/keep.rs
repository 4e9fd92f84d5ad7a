//! `raptor store gc` and `optimise`: making room.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::name::bytes;
use super::{Gc, Json};
use crate::cli::errors::CliError;
use crate::cli::session::Session;
use crate::derivation::DrvId;
use crate::schedule;
use crate::store::{GcMode, Rules, Store};

pub fn gc(session: &Session, args: &Gc) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let rules = Rules {
        keep_last: args.keep_last.get(),
        older_than: args.older_than,
        max_size: args.max_size,
        derivations: derivations(&store)?,
    };
    let dry_run = args.dry_run || session.global.no_act;
    let done = store.collect(&rules, if dry_run { GcMode::DryRun } else { GcMode::Remove })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({ "dry_run": dry_run, "result": done }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (root, tree) = match dry_run {
        true => ("would drop the root", "would remove"),
        false => ("dropped the root", "removed"),
    };
    done.dropped_roots.iter().for_each(|it| session.ui.info(&format!("{root} {it}")));
    for it in &done.removed {
        writeln!(out, "{tree} {} {}", it.hash, bytes(it.bytes))?;
    }
    for it in &done.checkpoints {
        writeln!(out, "{tree} checkpoints of {} {}", it.layer, bytes(it.bytes))?;
    }
    for it in &done.strays {
        session.ui.detail(&format!("{tree} {}", it.display()));
    }
    let (n, freed) = (done.removed.len(), bytes(done.freed));
    session.ui.info(&format!(
        "{tree} {n} trees with {freed}; {} stay with {}",
        done.kept,
        bytes(done.kept_bytes)
    ));
    if let Some(most) = args.max_size.filter(|most| done.kept_bytes > *most) {
        session.ui.warning(&format!("what is needed has more than {}", bytes(most)));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn optimise(session: &Session, args: &Json) -> Result<ExitCode, CliError> {
    let done = session.store()?.optimise()?;
    if args.json {
        writeln!(std::io::stdout(), "{}", json!(done))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (files, saved) = (done.reflinked + done.linked, bytes(done.saved));
    session.ui.info(&format!("{files} files share their space now, which saves {saved}"));
    if done.busy > 0 {
        session.ui.info(&format!("{} trees are in use and stay as they are", done.busy));
    }
    Ok(ExitCode::SUCCESS)
}

/// Ids of what live roots were built from. What is damaged is not kept for that.
fn derivations(store: &Store) -> Result<BTreeSet<String>, CliError> {
    let mut ids = BTreeSet::new();
    let mut todo: Vec<DrvId> = Vec::new();
    for (_, root) in store.roots()? {
        if root.is_alive() {
            todo.extend(root.results.iter().filter_map(|it| it.derivation.parse::<DrvId>().ok()));
        }
    }
    while let Some(id) = todo.pop() {
        if ids.insert(id.to_string())
            && let Ok(Some(derivation)) = schedule::recall(store, &id)
        {
            todo.extend(derivation.inputs());
        }
    }
    Ok(ids)
}
