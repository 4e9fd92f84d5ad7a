//! The template engine as `.rapt` files know it, and the files that it asks for.
//!
//! The engine's hooks must own what they use, so they cannot hold a borrowed `World`. They look into a cache
//! instead; what is missing there is noted as wanted, the caller fetches it and renders again. Rendering has no
//! other effects, so the last round is the only one that counts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::map::Marks;
use super::scan::{self, Instrumented};
use super::{LogMessage, builtins};
use crate::paths;
use crate::world::{FileKind, ReadError};

/// Instructions of the engine that one file may take; some seconds of work.
pub(super) const FUEL: u64 = 20_000_000;

/// A question to the world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// The text of a file.
    Read(PathBuf),
    /// What a path is.
    Kind(PathBuf),
}

/// What a path is, for `path(…)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathInfo {
    pub(super) kind: Option<FileKind>,
    pub(super) is_symlink: bool,
}

/// State that the hooks of one rendering share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// For the source map.
    pub(super) marks: Marks,
    /// The one template that does not get a final newline.
    pub(super) document: Option<PathBuf>,
    inner: Mutex<Inner>,
}

/// The part behind the lock.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) texts: BTreeMap<PathBuf, Result<Arc<str>, ReadError>>,
    pub(super) infos: BTreeMap<PathBuf, PathInfo>,
    /// Templates that were compiled, by name.
    pub(super) templates: BTreeMap<String, Template>,
    /// Probes given out so far.
    n_probes: u32,
    pub(super) log: Vec<LogMessage>,
    pub(super) wanted: Option<Ask>,
}

/// A template as it was compiled.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) path: PathBuf,
    /// As its author wrote it.
    pub(super) text: Arc<str>,
    pub(super) instrumented: Instrumented,
    pub(super) first_probe: u32,
    /// How many templates were compiled before.
    pub(super) ordinal: u32,
}

impl Template {
    /// Numbers of its probes.
    pub(super) fn probes(&self) -> Range<u32> {
        self.first_probe..self.first_probe + self.instrumented.writers.len() as u32
    }
}

impl Shared {
    /// For a template whose output is a file of its own.
    pub(super) fn of_document(path: &Path) -> Shared {
        Shared { document: Some(path.to_path_buf()), ..Shared::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Text of a file; notes it as wanted if nobody fetched it yet.
    pub(super) fn text(&self, path: &Path) -> Result<Result<Arc<str>, ReadError>, Error> {
        let mut inner = self.lock();
        match inner.texts.get(path) {
            Some(text) => Ok(text.clone()),
            None => Err(inner.want(Ask::Read(path.to_path_buf()))),
        }
    }

    /// What a path is; likewise.
    pub(super) fn info(&self, path: &Path) -> Result<PathInfo, Error> {
        let mut inner = self.lock();
        match inner.infos.get(path) {
            Some(info) => Ok(*info),
            None => Err(inner.want(Ask::Kind(path.to_path_buf()))),
        }
    }
}

impl Inner {
    fn want(&mut self, ask: Ask) -> Error {
        let (Ask::Read(path) | Ask::Kind(path)) = &ask;
        let message = format!("`{}` is another file", path.display());
        self.wanted.get_or_insert(ask);
        Error::new(ErrorKind::InvalidOperation, message)
    }
}

/// The engine without hooks: syntax and settings of language.md §3.
pub(super) fn bare<'a>() -> Environment<'a> {
    let mut env = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().line_statement_prefix("$ ").build() {
        env.set_syntax(syntax);
    }
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_keep_trailing_newline(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_path_join_callback(|name, parent| {
        let path = paths::join(paths::dir_of(Path::new(parent)), Path::new(name));
        path.to_string_lossy().into_owned().into()
    });
    env
}

/// The engine with loader, functions and filters.
pub(super) fn environment(shared: &Arc<Shared>) -> Environment<'static> {
    let mut env = bare();
    let loader = shared.clone();
    let checker = bare();
    env.set_loader(move |name| {
        let path = PathBuf::from(name);
        let text = match loader.text(&path)? {
            Ok(text) => text,
            Err(ReadError::NotFound) => return Ok(None),
            Err(error) => {
                let message = format!("cannot read `{name}`: {error}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
        if let Some(range) = scan::overlong(&text) {
            let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
            let message = format!("the expression or `if` at line {line} of `{name}` is too long");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        let mut inner = loader.lock();
        let newline = if text.ends_with('\n') || loader.document.as_ref() == Some(&path) { "" } else { "\n" };
        let instrumented = instrument(&checker, format!("{text}{newline}"), inner.n_probes);
        let ordinal = loader.marks.n_loaded.fetch_add(1, Ordering::Relaxed);
        let template = Template { path, text, instrumented, first_probe: inner.n_probes, ordinal };
        inner.n_probes += template.instrumented.writers.len() as u32;
        let source = template.instrumented.source.clone();
        inner.templates.insert(name.to_owned(), template);
        Ok(Some(source))
    });
    let probe = shared.clone();
    env.add_function(scan::PROBE, move |id: u32, value: Value| {
        probe.marks.probe.store(id, Ordering::Relaxed);
        value
    });
    builtins::add(&mut env, shared);
    env
}

/// Adds probes if the template compiles with and without them; errors must be about what the author wrote.
fn instrument(checker: &Environment<'_>, original: String, first_probe: u32) -> Instrumented {
    let compiles = |source: &str| checker.template_from_named_str("check", source).is_ok();
    let instrumented = scan::instrument(&original, first_probe);
    match compiles(&original) && compiles(&instrumented.source) {
        true => instrumented,
        false => Instrumented::plain(&original),
    }
}
