//! Source files by id, and spans that point into them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One file in [`Sources`]: the number of its table in the upper half, its place there in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u64);

/// A half-open range of byte offsets in one source file, as its author wrote it (before templates).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The file that the offsets count in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span of `start..end` in `file`.
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        Span { file, start: start as u32, end: end as u32 }
    }
}

/// Every file that took part in an evaluation.
///
/// Programs are loaded on several threads, each with a table of its own, in which ids are handed out in order of
/// first use. So ids do not depend on which thread was quicker, and tables are joined without touching a span.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Number of the table that files are added to.
    current: u32,
    tables: BTreeMap<u32, Table>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    files: Vec<(PathBuf, Arc<str>)>,
    by_path: HashMap<PathBuf, Vec<u32>>,
}

impl Sources {
    /// No files yet; those that are added get ids of the table `number`.
    pub fn numbered(number: u32) -> Sources {
        Sources { current: number, tables: BTreeMap::new() }
    }

    /// Adds a file and returns its id; the same path and text twice give the same id.
    pub fn add(&mut self, path: &Path, text: Arc<str>) -> FileId {
        let table = self.tables.entry(self.current).or_default();
        let id = |idx: u32| FileId(u64::from(self.current) << 32 | u64::from(idx));
        let known = table.by_path.get(path).map(Vec::as_slice).unwrap_or_default();
        let same = |idx: &&u32| table.files.get(**idx as usize).is_some_and(|(_, it)| *it == text);
        if let Some(idx) = known.iter().find(same) {
            return id(*idx);
        }
        let idx = table.files.len() as u32;
        table.by_path.entry(path.to_path_buf()).or_default().push(idx);
        table.files.push((path.to_path_buf(), text));
        id(idx)
    }

    /// Takes over the tables of `other`, whose numbers are not in use here.
    pub fn join(&mut self, other: Sources) {
        self.tables.extend(other.tables);
    }

    /// Paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.tables.values().flat_map(|table| &table.files).map(|(path, _)| path.as_path())
    }

    /// Path of a file, as messages name it.
    pub fn path(&self, file: FileId) -> &Path {
        &self.file(file).0
    }

    /// Text of a file, as written.
    pub fn text(&self, file: FileId) -> &Arc<str> {
        &self.file(file).1
    }

    fn file(&self, file: FileId) -> &(PathBuf, Arc<str>) {
        &self.tables[&((file.0 >> 32) as u32)].files[file.0 as u32 as usize]
    }
}
