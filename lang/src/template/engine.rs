//! The template engine as `.rapt` files know it, and the files that it asks for.
//!
//! The engine's hooks must own what they use, so they cannot hold a borrowed `World`. They look into a cache
//! instead; what is missing there is noted as wanted, the caller fetches it and renders again. Rendering has no
//! other effects, so the last round is the only one that counts. An engine costs more than most files, so each
//! thread keeps one and empties it between renderings.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{self, WhitespaceConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};

use super::map::Marks;
use super::scan::{self, Instrumented};
use super::{LogMessage, bounds, builtins, guard};
use crate::paths;
use crate::world::{FileKind, ReadError};

/// Instructions of the engine that one file may take; some seconds of work.
pub(super) const FUEL: u64 = 20_000_000;

/// Bytes of text between tags that one file may copy into values.
const MAX_RAW: u64 = 256 << 20;

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

/// Name of the global that leads from the engine's state to [`Shared`].
const SHARED: &str = "__raptor_shared";

/// The engine with its hooks.
pub(super) struct Engine {
    pub(super) env: Environment<'static>,
    pub(super) shared: Arc<Shared>,
}

thread_local! {
    /// The engine that this thread does not use right now.
    static IDLE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    /// Engines with one compiled template each, the one that was used last at the end.
    static KEPT: RefCell<Vec<(Root, Engine)>> = const { RefCell::new(Vec::new()) };
}

/// Most engines that a thread keeps with their template.
const MAX_KEPT: usize = 128;

/// A template that is rendered, and how.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) name: String,
    pub(super) text: Arc<str>,
    /// Its output is a file, so it gets no final newline.
    pub(super) is_document: bool,
}

impl Root {
    /// Whether an engine that has compiled this one needs not compile `other`.
    fn is(&self, other: &Root) -> bool {
        Arc::ptr_eq(&self.text, &other.text)
            && self.name == other.name
            && self.is_document == other.is_document
    }
}

impl Engine {
    /// An engine without templates, from this thread's store if it has one.
    fn take() -> Engine {
        IDLE.take().unwrap_or_else(|| {
            let shared = Arc::new(Shared::default());
            Engine { env: environment(&shared), shared }
        })
    }

    /// An engine that is about to render `root`, and perhaps has compiled it already.
    pub(super) fn of(root: &Root) -> Engine {
        let kept = KEPT.with_borrow_mut(|kept| {
            let idx = kept.iter().rposition(|(it, _)| it.is(root))?;
            Some(kept.remove(idx).1)
        });
        kept.unwrap_or_else(|| Engine::new_of(root))
    }

    /// An engine that is about to render `root` and nothing else.
    pub(super) fn new_of(root: &Root) -> Engine {
        let engine = Engine::take();
        let mut inner = engine.shared.lock();
        let path = PathBuf::from(&root.name);
        inner.document = root.is_document.then(|| path.clone());
        inner.texts.insert(path, Ok(root.text.clone()));
        inner.fuel = FUEL;
        drop(inner);
        engine
    }

    /// Stores the engine with what it compiled, for files that are rendered with one context after the other. If
    /// the template asked for anything beside itself, the answers may be others next time, and nothing is kept.
    pub(super) fn keep(self, root: Root) {
        let mut inner = self.shared.lock();
        let alone = inner.templates.len() == 1 && inner.texts.len() == 1 && inner.infos.is_empty();
        inner.log.clear();
        let is_clean = alone && inner.wanted.is_none() && !inner.restart;
        drop(inner);
        if !is_clean {
            return self.put_back();
        }
        let dropped = KEPT.with_borrow_mut(|kept| {
            kept.push((root, self));
            (kept.len() > MAX_KEPT).then(|| kept.remove(0).1)
        });
        if let Some(engine) = dropped {
            engine.put_back();
        }
    }

    /// Empties the engine and stores it for the next rendering of this thread.
    pub(super) fn put_back(mut self) {
        self.env.clear_templates();
        *self.shared.lock() = Inner::default();
        self.shared.marks.n_loaded.store(0, Ordering::Relaxed);
        IDLE.set(Some(self));
    }
}

/// State that the hooks of one rendering share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// For the source map.
    pub(super) marks: Marks,
    /// For the bounds of values.
    pub(super) used: bounds::Used,
    inner: Mutex<Inner>,
}

impl Object for Shared {}

/// The part behind the lock.
#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The one template that does not get a final newline.
    pub(super) document: Option<PathBuf>,
    pub(super) texts: BTreeMap<PathBuf, Result<Arc<str>, ReadError>>,
    pub(super) infos: BTreeMap<PathBuf, PathInfo>,
    /// Templates that were compiled, by name.
    pub(super) templates: BTreeMap<String, Template>,
    /// Probes given out so far.
    n_probes: u32,
    pub(super) log: Vec<LogMessage>,
    pub(super) wanted: Option<Ask>,
    /// Instructions that the next round may take.
    pub(super) fuel: u64,
    /// Whether this round had more than that.
    pub(super) restart: bool,
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
    /// That of the rendering which `state` belongs to. A value may have come from another one.
    pub(super) fn of(state: &State<'_, '_>) -> Result<Arc<Shared>, Error> {
        let shared = state.lookup(SHARED).and_then(|it| it.downcast_object());
        shared
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("`{SHARED}` is not yours to set")))
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
    env.set_syntax(syntax());
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

fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().line_statement_prefix("$ ").build().unwrap_or_default()
}

/// The engine with loader, functions and filters.
fn environment(shared: &Arc<Shared>) -> Environment<'static> {
    let mut env = bare();
    let loader = shared.clone();
    let syntax = syntax();
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
        let newline = if text.ends_with('\n') || inner.document.as_ref() == Some(&path) { "" } else { "\n" };
        let (instrumented, steps) = instrument(&syntax, &format!("{text}{newline}"), inner.n_probes);
        if let Some(steps) = steps.filter(|it| *it < inner.fuel) {
            inner.fuel = steps;
            inner.restart = true;
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("`{name}` needs a round with less fuel"),
            ));
        }
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
    env.add_global(SHARED, Value::from_dyn_object(shared.clone()));
    builtins::add(&mut env, shared);
    bounds::add(&mut env, shared);
    env
}

/// Adds probes and bounds if the template parses without them; errors must be about what the author wrote. Also
/// tells the number of steps after which the template may have copied too much text.
fn instrument(syntax: &SyntaxConfig, original: &str, first_probe: u32) -> (Instrumented, Option<u64>) {
    let Some(guarded) = parse(syntax, original, |tree| Some(guard::guard(tree, original))) else {
        return (Instrumented::plain(original), None);
    };
    let steps = guarded.captures.then(|| MAX_RAW / guarded.longest_raw.max(1) as u64);
    (scan::instrument(original, first_probe, guarded.edits), steps)
}

/// Looks at the engine's tree of a template; the default if it has none.
pub(super) fn parse<'a, T: Default>(
    syntax: &SyntaxConfig,
    text: &'a str,
    look: impl FnOnce(&Stmt<'a>) -> T,
) -> T {
    let whitespace = WhitespaceConfig { keep_trailing_newline: true, ..WhitespaceConfig::default() };
    machinery::parse(text, "", syntax.clone(), whitespace).map(|tree| look(&tree)).unwrap_or_default()
}
