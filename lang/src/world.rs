//! The one door through which files reach the language.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::FetchSource;

/// Why a file could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such file.
    #[error("no such file")]
    NotFound,
    /// Not text.
    #[error("not UTF-8 (first bad byte at offset {0})")]
    NotUtf8(usize),
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else.
    Other,
}

/// Files and links of a project. Paths are as written in the project: relative ones count from the base
/// directory (the one of Raptor.toml, else the working directory); `$std/…` is the standard library.
///
/// Every call is an input of the evaluation: implementations record it.
pub trait World: Sync {
    /// The text of a file.
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError>;

    /// What a path is, following symbolic links; `None` if there is nothing.
    fn kind(&self, path: &Path) -> Option<FileKind>;

    /// Names in a directory, sorted by bytes.
    fn list(&self, path: &Path) -> Result<Vec<OsString>, ReadError>;

    /// Whether a path is a symbolic link, for `path(…).is_symlink()`. Worlds without links keep the default.
    fn is_symlink(&self, _path: &Path) -> bool {
        false
    }

    /// Directory of a linked package (`$name`), relative to the base, for files in the directory `from`: a package may
    /// have links of its own. `None` if it is not linked.
    fn link(&self, name: &str, from: &Path) -> Option<PathBuf>;

    /// The file that `[fetch.NAME]` describes, for files in the directory `from`.
    fn fetch(&self, _name: &str, _from: &Path) -> Option<FetchSource> {
        None
    }
}
