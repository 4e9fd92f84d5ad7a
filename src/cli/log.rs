//! `raptor log`: what the steps of a target printed when it was last built.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::args::Log;
use super::errors::CliError;
use super::project::Project;
use super::session::Session;
use super::store::name::{by_path, is_prefix};
use crate::derivation::DrvId;
use crate::schedule::{self, Origins};
use crate::store::{Key, Store};
use crate::tree::TreeHash;

/// Digits of ids in lists.
const DIGITS: usize = 16;

/// A log with everything that it is called: ids of derivations and keys of results.
struct Logged {
    names: BTreeSet<String>,
    written: SystemTime,
    bytes: u64,
}

pub fn main(session: &Session, args: &Log) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    match &args.target {
        Some(target) => print(session, &store, args, target),
        None => list(&store, args),
    }
}

fn print(session: &Session, store: &Store, args: &Log, target: &str) -> Result<ExitCode, CliError> {
    let names = names(session, store, args, target)?;
    if args.follow {
        for id in names.iter().filter_map(|it| it.parse::<DrvId>().ok()) {
            if schedule::follow_log(store, &id, &session.cancel, &mut std::io::stdout().lock())? {
                return Ok(ExitCode::SUCCESS);
            }
            if session.cancel.load(Ordering::Relaxed) {
                return Err(CliError::interrupted());
            }
        }
    }
    for name in names {
        let Some(text) = schedule::read_log(store, &name)? else { continue };
        let mut out = std::io::stdout().lock();
        match args.json {
            true => {
                let text = String::from_utf8_lossy(&text);
                writeln!(out, "{}", json!({ "target": target, "name": name, "text": text }))?;
            }
            false => out.write_all(&text)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Named {
        message: format!("there is no log of {target}"),
        hint: Some("to list the logs: raptor log".to_owned()),
    })
}

/// Names that the log may have, the likeliest first.
fn names(session: &Session, store: &Store, args: &Log, target: &str) -> Result<Vec<String>, CliError> {
    let tree = by_path(store, target);
    if tree.is_some() || target.parse::<TreeHash>().is_ok() {
        let origins = Origins::read(store)?;
        let trees: Vec<TreeHash> = tree.or_else(|| target.parse().ok()).into_iter().collect();
        // An id and a hash look alike.
        let ids = target.parse::<DrvId>().into_iter().chain(trees.iter().flat_map(|it| origins.of(it)));
        let names = ids.flat_map(|id| [Some(id.to_string()), origins.keys.get(&id).map(Key::to_string)]);
        return Ok(names.flatten().collect());
    }
    if is_prefix(target) {
        let logs = logs(store)?;
        let found: Vec<&Logged> =
            logs.iter().filter(|it| it.names.iter().any(|name| name.starts_with(target))).collect();
        match found.as_slice() {
            [one] => return Ok(one.names.iter().cloned().collect()),
            // What is built for the first time has no log yet.
            [] => {
                let ids: Vec<String> =
                    store.drvs()?.into_iter().filter(|it| it.starts_with(target)).collect();
                if !ids.is_empty() {
                    return Ok(ids);
                }
            }
            more => {
                return Err(CliError::Other(format!(
                    "{} logs have a name that begins with {target}",
                    more.len()
                )));
            }
        }
    }
    let targets = [target.to_owned()];
    let project = Project::open(session, &targets)?;
    let (evaluated, ids) = project.derivations(session, &targets, &args.with.parameters())?;
    let order = evaluated.evaluator.closure(&ids);
    let mut names = Vec::new();
    for id in &ids {
        names.push(id.to_string());
        let key = schedule::key_of(store, &evaluated.evaluator.derivations, &order, id)?;
        names.extend(key.map(|it| it.to_string()));
    }
    Ok(names)
}

/// Prints all logs, the latest last.
fn list(store: &Store, args: &Log) -> Result<ExitCode, CliError> {
    let origins = Origins::read(store)?;
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for log in logs(store)? {
        let id =
            log.names.iter().find_map(|it| it.parse().ok().filter(|id| origins.derivations.contains_key(id)));
        let derivation = id.as_ref().and_then(|it| origins.derivations.get(it));
        let (kind, name) = derivation.map_or(("", ""), |it| (it.kind(), it.name()));
        let mut built = false;
        for key in log.names.iter().filter_map(|it| it.parse::<Key>().ok()) {
            built |= store.recorded(&key)?.is_some();
        }
        let called = id.map(|it| it.to_string()).or_else(|| log.names.first().cloned()).unwrap_or_default();
        if args.json {
            let written = log.written.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
            rows.push(json!({ "log": called, "derivation": id, "kind": kind, "name": name, "built": built,
                "written": written, "bytes": log.bytes }));
            continue;
        }
        let (short, result) =
            (called.get(..DIGITS).unwrap_or(&called), if built { "built" } else { "failed" });
        writeln!(out, "{short}  {:>8}  {result:<6}  {kind:<9}  {name}", age(log.written))?;
    }
    if args.json {
        writeln!(out, "{}", json!({ "logs": rows }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All logs, the latest last.
fn logs(store: &Store) -> Result<Vec<Logged>, CliError> {
    let mut logs: BTreeMap<(u64, u64), Logged> = BTreeMap::new();
    for file in store.logs()? {
        // Whoever removes or replaces it meanwhile is right.
        let (Ok(stat), Some(name)) = (std::fs::metadata(&file), file.file_stem()) else { continue };
        let (written, bytes) = (stat.modified()?, stat.len());
        let new = || Logged { names: BTreeSet::new(), written, bytes };
        let log = logs.entry((stat.dev(), stat.ino())).or_insert_with(new);
        log.names.insert(name.to_string_lossy().into_owned());
    }
    let mut logs: Vec<Logged> = logs.into_values().collect();
    logs.sort_by(|a, b| (a.written, &a.names).cmp(&(b.written, &b.names)));
    Ok(logs)
}

fn age(written: SystemTime) -> String {
    match written.elapsed().as_ref().map_or(0, Duration::as_secs) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
