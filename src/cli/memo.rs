//! Evaluations of earlier commands, kept with the inputs they had. Specified in `spec/evaluation.md`.
//!
//! A record is trusted only if every input is what it was, so deleting, losing or never writing one changes
//! nothing but time. Whatever goes wrong here is therefore silent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use raptor_lang::diag::{Applicability, Code, Diagnostic, Edit, Fix, Label};
use raptor_lang::program::{LogLevel, LogMessage};
use raptor_lang::source::{FileId, Sources, Span};
use raptor_lang::world::World;
use serde::{Deserialize, Serialize};

use super::project::Project;
use crate::world::{Files, Freshness, Inputs};

/// Changes with the form and the meaning of records.
const FORMAT: &str = "raptor-eval-1";
/// Switches all of this off.
const SWITCH: &str = "RAPTOR_NO_EVAL_CACHE";
/// Most records that are kept.
const MAX_RECORDS: usize = 64;
/// Most bytes that all of them may take.
const MAX_BYTES: u64 = 256 << 20;

/// What an evaluation came to, as far as commands show it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files that the diagnostics point into.
    pub sources: Sources,
    /// Problems, warnings included.
    pub diagnostics: Vec<Diagnostic>,
    /// What templates logged.
    pub log: Vec<LogMessage>,
    /// What the command prints as its result.
    pub output: String,
}

/// The place for the record of one command.
pub struct Memo {
    /// Nothing if there is no place.
    file: Option<PathBuf>,
}

impl Memo {
    /// For a command on a project: `command` says all that its result depends on beside the project's files.
    pub fn new(project: &Project, command: &[&str]) -> Memo {
        let file = directory().and_then(|dir| Some(dir.join(key(project, command)?)));
        Memo { file }
    }

    /// The outcome that the command would have again.
    pub fn recall(&self, files: &Files) -> Option<Outcome> {
        let file = self.file.as_deref()?;
        if !is_ours(file.parent()?) {
            return None;
        }
        let record = Record::decode(file, &std::fs::read(file).ok()?)?;
        let freshness = record.inputs.freshness(files);
        if let Freshness::Changed = freshness {
            return None;
        }
        let outcome = record.outcome.restore(files)?;
        if let Freshness::Touched(inputs) = freshness {
            // So that the next command need not read them again.
            let _ = self.write(&Record { inputs, outcome: record.outcome });
        }
        Some(outcome)
    }

    /// Keeps an outcome that came of everything that `files` was asked for so far.
    pub fn keep(&self, files: &Files, outcome: &Outcome) {
        // Failing to is no problem of the user's.
        let _ = self.write(&Record { inputs: Inputs::of(files), outcome: Data::of(outcome) });
    }

    fn write(&self, record: &Record) -> std::io::Result<()> {
        let Some((file, dir)) = self.file.as_deref().and_then(|it| Some((it, it.parent()?))) else {
            return Ok(());
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if !is_ours(dir) {
            return Ok(());
        }
        let Some(bytes) = record.encode(file).filter(|it| it.len() as u64 <= MAX_BYTES / 2) else {
            return Ok(());
        };
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        temp.write_all(&bytes)?;
        temp.persist(file)?;
        prune(dir, file)
    }
}

/// `$XDG_CACHE_HOME/raptor/eval`, by default `~/.cache/raptor/eval`.
fn directory() -> Option<PathBuf> {
    if std::env::var_os(SWITCH).is_some_and(|it| !it.is_empty()) {
        return None;
    }
    let set = |name: &str| std::env::var_os(name).filter(|it: &OsString| Path::new(it).is_absolute());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&set("HOME")?).join(".cache")))?;
    Some(cache.join("raptor").join("eval"))
}

/// Whether nobody else may write there: a record decides what a build is made of.
fn is_ours(dir: &Path) -> bool {
    let us = rustix::process::geteuid().as_raw();
    std::fs::metadata(dir).is_ok_and(|it| it.uid() == us && it.mode() & 0o022 == 0)
}

/// Drops the oldest records but `new` until the rest is within bounds, and what killed commands left.
fn prune(dir: &Path, new: &Path) -> std::io::Result<()> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let stat = entry.metadata()?;
        records.push((stat.modified()?, stat.len(), entry.path()));
    }
    records.sort();
    let mut bytes: u64 = records.iter().map(|(_, len, _)| len).sum();
    let mut n_records = records.len();
    for (_, len, path) in records.iter().filter(|(_, _, path)| path != new) {
        if n_records <= MAX_RECORDS && bytes <= MAX_BYTES {
            break;
        }
        let _ = std::fs::remove_file(path);
        n_records -= 1;
        bytes -= len;
    }
    Ok(())
}

/// Name of a record: the hash of everything that the outcome depends on beside files of the project.
fn key(project: &Project, command: &[&str]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(FORMAT.as_bytes());
    part(env!("CARGO_PKG_VERSION").as_bytes());
    // Another build of this program may evaluate otherwise; the standard library is part of it, too.
    let program = std::fs::metadata("/proc/self/exe").ok()?;
    for number in [program.dev(), program.ino(), program.size()] {
        part(&number.to_le_bytes());
    }
    for number in [program.mtime(), program.mtime_nsec(), program.ctime(), program.ctime_nsec()] {
        part(&number.to_le_bytes());
    }
    part(project.files.base().as_os_str().as_bytes());
    part(project.digest().as_bytes());
    part(format!("{:?}", project.files.packages()).as_bytes());
    part(b"");
    command.iter().for_each(|it| part(it.as_bytes()));
    Some(hasher.finalize().to_hex().to_string())
}

/// A record as it is on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    inputs: Inputs,
    outcome: Data,
}

impl Record {
    fn encode(&self, file: &Path) -> Option<Vec<u8>> {
        let body = postcard::to_stdvec(self).ok()?;
        let mut bytes = seal(file, &body)?.as_bytes().to_vec();
        bytes.extend(body);
        Some(bytes)
    }

    /// Nothing if the record is torn or belongs elsewhere.
    fn decode(file: &Path, bytes: &[u8]) -> Option<Record> {
        let (digest, body) = bytes.split_at_checked(blake3::OUT_LEN)?;
        (seal(file, body)?.as_bytes() == digest).then_some(())?;
        postcard::from_bytes(body).ok()
    }
}

/// Hash of a record and of the name that it is filed under.
fn seal(file: &Path, body: &[u8]) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(file.file_name()?.as_bytes()).update(body);
    Some(hasher.finalize())
}

/// An outcome without what can be read again.
#[derive(Serialize, Deserialize)]
struct Data {
    /// Files by path, with the hash of their texts.
    files: Vec<(PathBuf, [u8; 32])>,
    diagnostics: Vec<DiagnosticData>,
    log: Vec<(u8, PathBuf, String)>,
    output: String,
}

#[derive(Serialize, Deserialize)]
struct DiagnosticData {
    code: String,
    message: String,
    labels: Vec<(SpanData, String)>,
    hint: Option<String>,
    fix: Option<FixData>,
    stack: Vec<SpanData>,
}

/// Whether the fix is certain, and its edits.
type FixData = (bool, Vec<(SpanData, String)>);

/// Number of the file, start and end.
type SpanData = (u32, u32, u32);

impl Data {
    fn of(outcome: &Outcome) -> Data {
        let mut numbers: BTreeMap<FileId, u32> = BTreeMap::new();
        let mut files = Vec::new();
        let mut span = |span: &Span| {
            let number = *numbers.entry(span.file).or_insert_with(|| {
                let text = outcome.sources.text(span.file);
                let path = outcome.sources.path(span.file).to_path_buf();
                files.push((path, *blake3::hash(text.as_bytes()).as_bytes()));
                files.len() as u32 - 1
            });
            (number, span.start, span.end)
        };
        let diagnostics = outcome.diagnostics.iter().map(|it| DiagnosticData {
            code: it.code.id().to_owned(),
            message: it.message.clone(),
            labels: it.labels.iter().map(|label| (span(&label.span), label.text.clone())).collect(),
            hint: it.hint.clone(),
            fix: it.fix.as_ref().map(|fix| {
                let edits = fix.edits.iter().map(|edit| (span(&edit.span), edit.text.clone()));
                (fix.applicability == Applicability::Certain, edits.collect())
            }),
            stack: it.stack.iter().map(&mut span).collect(),
        });
        let diagnostics = diagnostics.collect();
        let level =
            |it: LogLevel| LogLevel::ALL.iter().position(|level| *level == it).unwrap_or_default() as u8;
        let log = outcome.log.iter().map(|it| (level(it.level), it.file.clone(), it.text.clone())).collect();
        Data { files, diagnostics, log, output: outcome.output.clone() }
    }

    /// The outcome again; nothing if a file that it points into is not what it was.
    fn restore(&self, files: &Files) -> Option<Outcome> {
        let mut sources = Sources::default();
        let mut ids = Vec::new();
        for (path, digest) in &self.files {
            let text = files.read(path).ok()?;
            (blake3::hash(text.as_bytes()).as_bytes() == digest).then_some(())?;
            ids.push(sources.add(path, text));
        }
        let span = |(file, start, end): &SpanData| {
            Some(Span { file: *ids.get(*file as usize)?, start: *start, end: *end })
        };
        let mut diagnostics = Vec::new();
        for it in &self.diagnostics {
            let mut labels = Vec::new();
            for (place, text) in &it.labels {
                labels.push(Label { span: span(place)?, text: text.clone() });
            }
            let fix = match &it.fix {
                None => None,
                Some((certain, edits)) => {
                    let applicability = if *certain { Applicability::Certain } else { Applicability::Guess };
                    let edit = |(place, text): &(SpanData, String)| {
                        Some(Edit { span: span(place)?, text: text.clone() })
                    };
                    Some(Box::new(Fix {
                        applicability,
                        edits: edits.iter().map(edit).collect::<Option<_>>()?,
                    }))
                }
            };
            diagnostics.push(Diagnostic {
                code: *Code::ALL.iter().find(|code| code.id() == it.code)?,
                message: it.message.clone(),
                labels,
                hint: it.hint.clone(),
                fix,
                stack: it.stack.iter().map(span).collect::<Option<_>>()?,
            });
        }
        let mut log = Vec::new();
        for (level, file, text) in &self.log {
            let level = *LogLevel::ALL.get(usize::from(*level))?;
            log.push(LogMessage { level, file: file.clone(), text: text.clone() });
        }
        Some(Outcome { sources, diagnostics, log, output: self.output.clone() })
    }
}
