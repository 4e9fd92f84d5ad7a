//! A world in memory, diagnostics as text, and how many cases properties meet, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::ProptestConfig;

use crate::diag::Diagnostic;
use crate::source::{Sources, Span};
use crate::world::{FileKind, ReadError, World};

/// So many cases, or what `PROPTEST_CASES` says; the library reads it, and without it wants 256.
pub(crate) fn cases(n: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.cases == 256 { ProptestConfig { cases: n, ..config } } else { config }
}

/// Files by path; directories exist when a file is below them.
#[derive(Default)]
pub(crate) struct MemoryWorld {
    pub(crate) files: BTreeMap<PathBuf, Arc<str>>,
    pub(crate) links: BTreeMap<String, PathBuf>,
}

impl MemoryWorld {
    /// Files of a fixture: each begins with a line `--- path`; `--- link name path` links a package.
    pub(crate) fn new(fixture: &str) -> MemoryWorld {
        let mut world = MemoryWorld::default();
        for file in fixture.split("--- ").skip(1) {
            let (path, text) = file.split_once('\n').unwrap();
            match path.strip_prefix("link ").and_then(|it| it.split_once(' ')) {
                Some((name, path)) => drop(world.links.insert(name.to_owned(), path.into())),
                None => drop(world.files.insert(path.into(), text.into())),
            }
        }
        world
    }
}

impl World for MemoryWorld {
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError> {
        self.files.get(path).cloned().ok_or(ReadError::NotFound)
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        if self.files.contains_key(path) {
            return Some(FileKind::File);
        }
        self.files.keys().any(|it| it.starts_with(path)).then_some(FileKind::Dir)
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, ReadError> {
        let names = self.files.keys().filter_map(|it| it.strip_prefix(path).ok()?.components().next());
        let names: BTreeSet<OsString> = names.map(|it| it.as_os_str().to_owned()).collect();
        Ok(names.into_iter().collect())
    }

    fn link(&self, name: &str, _from: &Path) -> Option<PathBuf> {
        self.links.get(name).cloned()
    }
}

/// `path:line: «text»` of a span.
pub(crate) fn show_span(span: Span, sources: &Sources) -> String {
    let text = sources.text(span.file);
    let line = text[..span.start as usize].matches('\n').count() + 1;
    let part = text[span.start as usize..span.end as usize].escape_debug().to_string();
    format!(
        "{}:{line}: «{}»",
        sources.path(span.file).display(),
        part.replace("\\\"", "\"").replace("\\'", "'")
    )
}

/// One diagnostic as a line, with its stack on lines of its own.
pub(crate) fn show(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let mut shown = format!(
        "{} {} {}",
        diagnostic.code.id(),
        show_span(diagnostic.labels[0].span, sources),
        diagnostic.message
    );
    for label in &diagnostic.labels[1..] {
        shown += &format!("\n  also {} {}", show_span(label.span, sources), label.text);
    }
    for span in &diagnostic.stack {
        shown += &format!("\n  in {}", show_span(*span, sources));
    }
    shown
}
