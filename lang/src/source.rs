//! Source files by id, and spans that point into them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One file in a [`Sources`] arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u32);

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

/// Every file that took part in an evaluation. Ids are handed out in order of first use.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(PathBuf, Arc<str>)>,
}

impl Sources {
    /// Adds a file and returns its id; the same path and text twice give the same id.
    pub fn add(&mut self, path: &Path, text: Arc<str>) -> FileId {
        if let Some(idx) = self.files.iter().position(|(p, t)| p == path && *t == text) {
            return FileId(idx as u32);
        }
        self.files.push((path.to_path_buf(), text));
        FileId(self.files.len() as u32 - 1)
    }

    /// The file with this path, if it took part.
    pub fn find(&self, path: &Path) -> Option<FileId> {
        self.files.iter().position(|(p, _)| p == path).map(|idx| FileId(idx as u32))
    }

    /// Path of a file, as messages name it.
    pub fn path(&self, file: FileId) -> &Path {
        &self.files[file.0 as usize].0
    }

    /// Text of a file, as written.
    pub fn text(&self, file: FileId) -> &Arc<str> {
        &self.files[file.0 as usize].1
    }
}
