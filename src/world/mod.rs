//! Files of a project and of the standard library, for the language and the evaluator.

mod import;
mod stdlib;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use raptor_lang::world::{FileKind, ReadError, World};

use crate::eval::Project;
use crate::tree::{self, Owner, TreeInfo};

pub use import::{ImportError, import};

/// A project directory with its links, on this machine's disk.
#[derive(Clone, Debug)]
pub struct Files {
    base: PathBuf,
    links: BTreeMap<String, PathBuf>,
}

impl Files {
    /// Files below `base`; `links` maps package names to directories, relative to `base` or absolute.
    pub fn new(base: PathBuf, links: BTreeMap<String, PathBuf>) -> Files {
        Files { base, links }
    }

    /// Where a path of the project is on disk; nothing for files of the standard library.
    pub fn on_disk(&self, path: &Path) -> Option<PathBuf> {
        (!stdlib::owns(path)).then(|| self.base.join(path))
    }
}

impl World for Files {
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError> {
        let bytes = match self.on_disk(path) {
            None => stdlib::file(path).ok_or(ReadError::NotFound)?.to_vec(),
            // A pipe or device may never end.
            Some(file) if std::fs::metadata(&file).is_ok_and(|it| !it.is_file()) => {
                return Err(ReadError::Other("not a regular file".into()));
            }
            Some(file) => match std::fs::read(file) {
                Ok(bytes) => bytes,
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Err(ReadError::NotFound),
                Err(err) => return Err(ReadError::Other(err.to_string())),
            },
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(err) => Err(ReadError::NotUtf8(err.utf8_error().valid_up_to())),
        }
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        let Some(file) = self.on_disk(path) else { return stdlib::kind(path) };
        let meta = fs::metadata(file).ok()?;
        Some(match meta.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Dir,
            _ => FileKind::Other,
        })
    }

    fn is_symlink(&self, path: &Path) -> bool {
        self.on_disk(path).is_some_and(|file| std::fs::symlink_metadata(file).is_ok_and(|it| it.is_symlink()))
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        match name {
            "std" if !self.links.contains_key(name) => Some(PathBuf::from(stdlib::ROOT)),
            _ => self.links.get(name).cloned(),
        }
    }
}

impl Project for Files {
    fn imported(&self, path: &Path) -> Result<TreeInfo, String> {
        match self.on_disk(path) {
            None => match stdlib::file(path) {
                Some(content) => Ok(tree::hash_imported(content, false)),
                None => Err("only single files of the standard library can be copied".into()),
            },
            Some(file) => {
                let file = fs::canonicalize(file).map_err(|err| err.to_string())?;
                tree::hash_tree(&file, Owner::Imported).map_err(|err| err.to_string())
            }
        }
    }
}
