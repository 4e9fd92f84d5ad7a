//! `raptor store ls`, `info`, `path` and `du`: which trees there are, and what is known of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use super::name::{bytes, find};
use super::{Json, Trees};
use crate::cli::errors::CliError;
use crate::cli::session::Session;
use crate::derivation::{Derivation, DrvId};
use crate::schedule::Origins;
use crate::tree::TreeHash;

pub fn ls(session: &Session, args: &Json) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let names = names(&Origins::read(&store)?);
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for (info, used) in store.list()? {
        let (kind, name) = names.get(&info.hash).cloned().unwrap_or(("", String::new()));
        if args.json {
            let used = used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
            let path = store.path(&info.hash).display().to_string();
            rows.push(json!({ "hash": info.hash, "path": path, "entries": info.entries, "bytes": info.bytes,
                "used": used, "kind": kind, "name": name }));
        } else {
            let size = bytes(info.bytes);
            writeln!(out, "{}  {size:>11}  {:>5}  {kind:<9}  {name}", info.hash, age(used))?;
        }
    }
    if args.json {
        writeln!(out, "{}", json!({ "trees": rows }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn info(session: &Session, args: &Trees) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let origins = Origins::read(&store)?;
    let roots = store.roots()?;
    let mut out = std::io::stdout().lock();
    let mut all = Vec::new();
    for name in &args.trees {
        let hash = find(session, &store, name)?;
        let Some(info) = store.registered(&hash)? else { continue };
        let ids = origins.of(&hash);
        let inputs =
            of_all(&ids, |id| origins.derivations.get(id).map(Derivation::inputs).unwrap_or_default());
        let users =
            origins.derivations.iter().filter(|(_, it)| it.inputs().iter().any(|id| ids.contains(id)));
        let users: Vec<DrvId> = users.map(|(id, _)| *id).collect();
        let roots: Vec<String> = roots
            .iter()
            .filter(|(_, root)| root.results.iter().any(|it| it.trees.contains(&hash)))
            .map(|(_, root)| format!("{}: {}", root.project.display(), root.target))
            .collect();
        let path = store.path(&hash).display().to_string();
        if args.json {
            let named = |ids: &[DrvId]| -> Vec<_> {
                let output = |id| origins.outputs.get(id).and_then(|it| it.0.last());
                ids.iter()
                    .map(|id| {
                        let derivation = origins.derivations.get(id);
                        json!({ "derivation": id, "name": derivation.map(Derivation::name),
                            "kind": derivation.map(Derivation::kind), "output": output(id) })
                    })
                    .collect()
            };
            all.push(json!({ "hash": hash, "path": path, "entries": info.entries, "bytes": info.bytes,
                "derivations": named(&ids), "inputs": named(&inputs), "used_by": named(&users), "roots": roots }));
            continue;
        }
        writeln!(out, "{hash}")?;
        writeln!(out, "  path     {path}")?;
        writeln!(out, "  size     {} in {} entries", bytes(info.bytes), info.entries)?;
        for (title, ids) in [("made by", &ids), ("from", &inputs), ("used by", &users)] {
            for id in ids {
                let derivation = origins.derivations.get(id);
                let (kind, name) = derivation.map_or(("", ""), |it| (it.kind(), it.name()));
                writeln!(out, "  {title:<8} {kind} {name} {id}")?;
            }
        }
        for root in roots {
            writeln!(out, "  root     {root}")?;
        }
    }
    if args.json {
        writeln!(out, "{}", json!({ "trees": all }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn path(session: &Session, args: &Trees) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let mut out = std::io::stdout().lock();
    let mut paths = Vec::new();
    for name in &args.trees {
        let hash = find(session, &store, name)?;
        let path = store.path(&hash).display().to_string();
        match args.json {
            true => paths.push(json!({ "name": name, "hash": hash, "path": path })),
            false => writeln!(out, "{path}")?,
        }
    }
    if args.json {
        writeln!(out, "{}", json!({ "trees": paths }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn du(session: &Session, args: &Json) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let names = names(&Origins::read(&store)?);
    let usage = store.usage()?;
    let checkpoints = store.checkpoint_usage()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({ "trees": usage, "checkpoints": checkpoints }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:>11}  {:>11}", "own", "shared")?;
    for it in usage {
        let name = names.get(&it.hash).map_or("", |(_, name)| name.as_str());
        writeln!(out, "{:>11}  {:>11}  {}  {name}", bytes(it.own), bytes(it.shared), it.hash)?;
    }
    for it in checkpoints {
        writeln!(out, "{:>11}  {:>11}  checkpoints of {}", bytes(it.bytes), bytes(0), it.layer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kind and name of what made each tree; of several the first.
fn names(origins: &Origins) -> BTreeMap<TreeHash, (&'static str, String)> {
    let mut names = BTreeMap::new();
    for (id, outputs) in &origins.outputs {
        if let (Some(tree), Some(derivation)) = (outputs.0.last(), origins.derivations.get(id)) {
            names.entry(*tree).or_insert_with(|| (derivation.kind(), derivation.name().to_owned()));
        }
    }
    names
}

fn of_all(ids: &[DrvId], of: impl Fn(&DrvId) -> Vec<DrvId>) -> Vec<DrvId> {
    let mut all: Vec<DrvId> = ids.iter().flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

/// How long ago something was used, roughly: uses are noted to the day.
fn age(used: SystemTime) -> String {
    match used.elapsed().map_or(0, |it| it.as_secs() / (24 * 3600)) {
        0 => "today".to_owned(),
        days => format!("{days} d"),
    }
}
