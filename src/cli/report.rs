//! The report of a build: a few lines or one event at the end, and the timings page. Specified in `spec/progress.md`.

mod timings;

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::MessageFormat;
use super::errors::CliError;
use super::progress::{End, Trace, megabytes};
use super::session::{Session, absolute};
use crate::derivation::DrvId;
use crate::schedule::Task;

/// How many of the slowest are told.
const N_SLOWEST: usize = 3;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It did what it was asked for.
    Done,
    /// Something failed.
    Failed,
    /// It was stopped from outside.
    Interrupted,
}

/// What a build came to.
#[derive(Debug, Serialize)]
pub struct Report {
    status: Status,
    /// Milliseconds since the command began.
    millis: u64,
    built: usize,
    reused: usize,
    fetched: Fetched,
    slowest: Vec<Item>,
    critical_path: Chain,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Fetched {
    bytes: u64,
    files: usize,
}

/// A derivation that was built.
#[derive(Debug, Serialize)]
struct Item {
    derivation: DrvId,
    kind: &'static str,
    name: String,
    millis: u64,
}

/// The chain of inputs that took longest.
#[derive(Debug, Serialize)]
struct Chain {
    millis: u64,
    derivations: Vec<DrvId>,
}

#[derive(Debug, Serialize)]
struct Failed {
    derivation: DrvId,
    kind: &'static str,
    name: String,
    /// Command that prints its log, if there is one.
    log: Option<String>,
}

/// Refuses a timings page that could not be written, before the build takes its time.
pub fn check_place(file: Option<&Path>) -> Result<(), CliError> {
    let Some(file) = file else { return Ok(()) };
    let full = absolute(file)?;
    let dir = full.parent().unwrap_or(Path::new("/"));
    let refuse =
        |why: &str| Err(CliError::Usage(format!("--timings {}: {} {why}", file.display(), dir.display())));
    match std::fs::metadata(dir) {
        _ if full.is_dir() => {
            Err(CliError::Usage(format!("--timings {}: this is a directory", file.display())))
        }
        Ok(stat) if stat.is_dir() => Ok(()),
        Ok(_) => refuse("is no directory"),
        Err(_) => refuse("does not exist"),
    }
}

/// Tells what the build of a command came to, and writes the timings page; nothing if nothing was planned.
pub fn finish(session: &Session, status: Status, timings: Option<&Path>) -> Result<(), CliError> {
    let trace = session.watch.trace();
    if trace.planned.is_none() {
        return Ok(());
    }
    let report = Report::of(&trace, status);
    let written = timings.map(|file| timings::write(&trace, &report, file)).transpose();
    if !session.ui.is_quiet() {
        match session.ui.format() {
            MessageFormat::Json => session.ui.event(&report.event()),
            _ => report.lines().iter().for_each(|it| session.ui.info(it)),
        }
    }
    written.map(drop)
}

impl Report {
    fn of(trace: &Trace, status: Status) -> Report {
        let tasks = || trace.plan.tasks().iter().zip(&trace.works);
        // Importing a project file is too quick to talk about.
        let built = tasks().filter(|(task, work)| work.end == Some(End::Built) && task.kind != "source");
        let mut slowest: Vec<Item> = built.map(|(task, work)| Item::of(task, work.millis)).collect();
        slowest.sort_by_key(|it| std::cmp::Reverse(it.millis));
        slowest.truncate(N_SLOWEST);
        let failed = tasks().filter(|(_, work)| work.end == Some(End::Failed));
        let failed = failed.map(|(task, work)| Failed {
            derivation: task.id,
            kind: task.kind,
            name: task.name.clone(),
            // The log begins with the first step.
            log: (!work.steps.is_empty()).then(|| format!("raptor log {}", task.id)),
        });
        let (millis, chain) = trace.plan.longest_chain(&trace.spent());
        let chain = chain.iter().filter_map(|it| Some(trace.plan.tasks().get(*it)?.id));
        let (bytes, files) = trace.fetched();
        Report {
            status,
            millis: trace.now(),
            built: trace.count(End::Built),
            reused: trace.count(End::Reused),
            fetched: Fetched { bytes, files },
            slowest,
            critical_path: Chain { millis, derivations: chain.collect() },
            failed: failed.collect(),
        }
    }

    fn event(&self) -> Value {
        let mut event = json!(self);
        if let Some(fields) = event.as_object_mut() {
            fields.insert("type".to_owned(), json!("report"));
        }
        event
    }

    fn lines(&self) -> Vec<String> {
        let status = match self.status {
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
        };
        let mut first = format!("{status}: {} built, {} reused", self.built, self.reused);
        if !self.failed.is_empty() {
            first.push_str(&format!(", {} failed", self.failed.len()));
        }
        if self.fetched.bytes > 0 {
            let files = match self.fetched.files {
                1 => "1 file".to_owned(),
                n => format!("{n} files"),
            };
            first.push_str(&format!(", {} in {files} fetched", megabytes(self.fetched.bytes)));
        }
        first.push_str(&format!(", {} in all", seconds(self.millis)));
        let mut lines = vec![first];
        if !self.slowest.is_empty() {
            let slowest =
                self.slowest.iter().map(|it| format!("{} {} {}", it.kind, it.name, seconds(it.millis)));
            lines.push(format!("slowest: {}", slowest.collect::<Vec<_>>().join(", ")));
        }
        for it in &self.failed {
            let log = it.log.as_ref().map(|log| format!("; its log: {log}"));
            lines.push(format!("failed: {} {}{}", it.kind, it.name, log.unwrap_or_default()));
        }
        lines
    }
}

impl Item {
    fn of(task: &Task, millis: u64) -> Item {
        Item { derivation: task.id, kind: task.kind, name: task.name.clone(), millis }
    }
}

/// A time in words.
fn seconds(millis: u64) -> String {
    match millis {
        0..600_000 => format!("{:.1} s", millis as f64 / 1e3),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}
