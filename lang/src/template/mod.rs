//! The template stage: a file is rendered as a whole before its statements are read (language.md §3).
//!
//! The text is exactly what minijinja makes of the file. Beside it comes a [`SourceMap`], so that everything that
//! is found in the rendered text is reported at its place in the files that the author wrote.

mod bounds;
mod builtins;
mod data;
mod engine;
mod error;
mod guard;
mod map;
mod scan;
mod undefined;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

pub use map::SourceMap;

use crate::diag::{Code, Diagnostic};
use crate::source::{FileId, Sources, Span};
use crate::world::World;
use engine::{Ask, Engine, Inner, PathInfo, Root, Shared};
use map::{Buffer, Recorder};

/// Variables that a template sees.
pub type Context = BTreeMap<String, Value>;

/// Most files that one template may ask for.
const MAX_FILES: usize = 10_000;

/// A rendered file.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What the engine wrote.
    pub text: String,
    /// Where it comes from.
    pub map: SourceMap,
    /// Variables and macros that the file defines at its top level, with their last values.
    pub exports: Context,
    /// What it logged, in order.
    pub log: Vec<LogMessage>,
}

/// A message of `info(…)` and its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMessage {
    /// How important it is.
    pub level: LogLevel,
    /// Template that logged.
    pub file: PathBuf,
    /// Arguments, joined with blanks.
    pub text: String,
}

/// Levels of messages, least important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace(…)`
    Trace,
    /// `debug(…)`
    Debug,
    /// `info(…)`
    Info,
    /// `warning(…)`
    Warning,
    /// `error(…)`
    Error,
}

impl LogLevel {
    /// All of them.
    pub const ALL: &[LogLevel] =
        &[LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error];

    /// Name of the function that logs at this level.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
        }
    }
}

/// Which files a template may open.
pub enum Reach<'a> {
    /// All that the world has.
    World(&'a dyn World),
    /// None: a template that needs another file is an error.
    ThisFileOnly,
}

/// Renders `text`, the content of the file `path`. A final newline is added if it has none.
pub fn render(
    reach: &Reach<'_>,
    path: &Path,
    text: &Arc<str>,
    context: &Context,
    sources: &mut Sources,
) -> Result<Rendered, Vec<Diagnostic>> {
    run(Uses::Once, path, text, reach, context, sources)
}

/// The same for a file that others include, each with a context of its own: the thread keeps the compiled template.
pub fn render_included(
    world: &dyn World,
    path: &Path,
    text: &Arc<str>,
    context: &Context,
    sources: &mut Sources,
) -> Result<Rendered, Vec<Diagnostic>> {
    run(Uses::Included, path, text, &Reach::World(world), context, sources)
}

/// The same for the template of a RENDER, whose output is a file of the image: no newline is added to it.
pub fn render_document(
    world: &dyn World,
    path: &Path,
    text: &Arc<str>,
    context: &Context,
    sources: &mut Sources,
) -> Result<Rendered, Vec<Diagnostic>> {
    run(Uses::Document, path, text, &Reach::World(world), context, sources)
}

/// What a rendering is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    /// A module, evaluated once.
    Once,
    /// A file that is included, perhaps often.
    Included,
    /// The template of a RENDER, likewise.
    Document,
}

fn run(
    uses: Uses,
    path: &Path,
    text: &Arc<str>,
    reach: &Reach<'_>,
    context: &Context,
    sources: &mut Sources,
) -> Result<Rendered, Vec<Diagnostic>> {
    let file = sources.add(path, text.clone());
    if uses != Uses::Document && scan::is_plain(text) {
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        return Ok(Rendered {
            text: format!("{text}{newline}"),
            map: SourceMap::identity(file, text.len(), newline.len()),
            exports: Context::new(),
            log: Vec::new(),
        });
    }
    let name = path.to_string_lossy().into_owned();
    let root = Root { name, text: text.clone(), is_document: uses == Uses::Document };
    let mut engine = match uses {
        Uses::Once => Engine::new_of(&root),
        Uses::Included | Uses::Document => Engine::of(&root),
    };
    let result = rounds(&mut engine, &root.name, file, reach, context, sources);
    match (uses, &result) {
        (Uses::Included | Uses::Document, Ok(_)) => engine.keep(root),
        _ => engine.put_back(),
    }
    result
}

/// Renders until no file is missing.
fn rounds(
    engine: &mut Engine,
    name: &str,
    root: FileId,
    reach: &Reach<'_>,
    context: &Context,
    sources: &mut Sources,
) -> Result<Rendered, Vec<Diagnostic>> {
    let Engine { env, shared } = engine;
    for _ in 0..MAX_FILES {
        shared.marks.probe.store(u32::MAX, Ordering::Relaxed);
        shared.used.reset();
        let mut inner = shared.lock();
        inner.log.clear();
        env.set_fuel(Some(inner.fuel));
        drop(inner);
        let mut recorder = Recorder::new(&shared.marks);
        // This release of the engine panics when it compares some numbers (`1.0 < 9007199254740993`).
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let template = env.get_template(name)?;
            template.render_to_write(context, &mut recorder).map(|state| exports(&state))
        }));
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::InvalidOperation, "the template engine gave up on this template"))
        });
        if mem::take(&mut shared.lock().restart) {
            continue;
        }
        if let Reach::World(world) = reach {
            let wanted = shared.lock().wanted.take();
            if let Some(ask) = wanted {
                fetch(*world, ask, shared);
                continue;
            }
        }
        return match outcome {
            Ok(exports) => {
                let log = shared.lock().log.split_off(0);
                let (text, map) = finish(recorder, env, root, shared, sources);
                Ok(Rendered { text, map, exports, log })
            }
            Err(error) => {
                let first = error::diagnostic(&error, &shared.lock(), root, context, reach, sources);
                Err(with_others(first, env, &shared.lock(), root, context, sources))
            }
        };
    }
    let message = format!("the template asks for more than {MAX_FILES} files");
    Err(vec![Diagnostic::new(Code::TemplateError, message, Span::new(root, 0, 0), "")])
}

/// Adds the names behind a first undefined one that are undefined for certain.
fn with_others(
    first: Diagnostic,
    env: &Environment<'_>,
    inner: &Inner,
    root: FileId,
    context: &Context,
    sources: &Sources,
) -> Vec<Diagnostic> {
    let Some(label) = first.labels.first() else { return vec![first] };
    if first.code != Code::UndefinedValue || label.span.file != root || !first.stack.is_empty() {
        return vec![first];
    }
    let text = sources.text(root);
    let done = label.span.end as usize;
    let first_name = text.get(label.span.start as usize..done).unwrap_or_default();
    let first_name = first_name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
    let is_known = |name: &str| {
        context.contains_key(name) || first_name == Some(name) || env.globals().any(|(it, _)| it == name)
    };
    let names = engine::parse(&env.syntax().clone(), text, |tree| undefined::certain(tree, done));
    let others: Vec<Diagnostic> = names
        .into_iter()
        .filter(|(name, _)| !is_known(name))
        .map(|(_, range)| {
            let span = Span::new(root, range.start, range.end);
            error::undefined(None, span, inner, context, sources)
        })
        .collect();
    [first].into_iter().chain(others).collect()
}

/// Ranges of `text` of which only rendering tells what statements they become: whole lines with tags, and what
/// comments, raw blocks and captures enclose.
pub fn uncertain(text: &str) -> Vec<Range<usize>> {
    scan::uncertain(text)
}

fn fetch(world: &dyn World, ask: Ask, shared: &Shared) {
    match ask {
        Ask::Read(path) => {
            let text = world.read(&path);
            shared.lock().texts.insert(path, text);
        }
        Ask::Kind(path) => {
            let info = PathInfo { kind: world.kind(&path), is_symlink: world.is_symlink(&path) };
            shared.lock().infos.insert(path, info);
        }
    }
}

fn exports(state: &minijinja::State<'_, '_>) -> Context {
    let names = state.exports().into_iter();
    names.filter_map(|name| Some((name.to_owned(), state.lookup(name)?))).collect()
}

fn finish(
    recorder: Recorder<'_>,
    env: &Environment<'_>,
    root: FileId,
    shared: &Shared,
    sources: &mut Sources,
) -> (String, SourceMap) {
    let inner = shared.lock();
    let mut lens = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (name, template) in &inner.templates {
        let file = sources.add(&template.path, template.text.clone());
        lens.insert(file, template.text.len() as u32);
        files.insert(name.as_str(), file);
    }
    let originals: BTreeMap<&str, _> = inner
        .templates
        .iter()
        .map(|(name, it)| (name.as_str(), |pos| it.instrumented.original(pos)))
        .collect();
    let compiled: Vec<_> = env.templates().collect();
    let buffers = compiled.iter().filter_map(|(name, template)| {
        let original: &dyn Fn(usize) -> usize = originals.get(name)?;
        let ordinal = inner.templates.get(*name)?.ordinal;
        Some(Buffer { source: template.source(), file: *files.get(name)?, ordinal, original })
    });
    let tag = |probe: u32| {
        let (name, template) = inner.templates.iter().find(|(_, it)| it.probes().contains(&probe))?;
        let range = template.instrumented.writers.get((probe - template.first_probe) as usize)?;
        Some(Span::new(*files.get(name.as_str())?, range.start, range.end))
    };
    recorder.finish(root, lens, buffers.collect(), &tag)
}
