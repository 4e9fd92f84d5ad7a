//! Import of project files into the store.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;

use super::{Files, stdlib};
use crate::eval::SourceFile;
use crate::store::{self, Store};
use crate::tree::{self, TreeHash, TreeInfo};

/// Why a source is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is a socket, pipe or device.
    #[error("{0} is neither a file, a directory nor a symbolic link")]
    Special(std::path::PathBuf),
    /// Somebody edited it meanwhile.
    #[error("{0} changed while it was being built; run the command again")]
    Changed(std::path::PathBuf),
    /// It is not there any more.
    #[error("{0} is gone")]
    Gone(std::path::PathBuf),
}

/// Copies a file or directory, but for what is left out, into the store and checks that it is what was evaluated.
pub fn import(
    files: &Files,
    SourceFile { path, exclude }: &SourceFile,
    expected: &TreeHash,
    store: &Store,
) -> Result<TreeInfo, ImportError> {
    let work = store.work_dir()?;
    let dest = work.path().join("source");
    match files.on_disk(path) {
        Some(file) => {
            let root = fs::canonicalize(file)?;
            copy(&root, &dest, &|path, is_dir| {
                path.strip_prefix(&root).is_ok_and(|it| exclude.excludes(it, is_dir))
            })?
        }
        None => {
            let content = stdlib::file(path).ok_or_else(|| ImportError::Gone(path.clone()))?;
            fs::write(&dest, content)?;
            finish(&dest, 0o644)?;
        }
    }
    let info = tree::hash_tree(&dest, tree::Owner::Imported).map_err(store::Error::from)?;
    if info.hash != *expected {
        return Err(ImportError::Changed(path.clone()));
    }
    store.register(&dest, &info)?;
    Ok(info)
}

fn copy(from: &Path, to: &Path, left_out: &tree::LeftOut<'_>) -> Result<(), ImportError> {
    let stat = fs::symlink_metadata(from)?;
    let kind = stat.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return Ok(store::set_mtime(to, 0)?);
    }
    if kind.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if !left_out(&entry.path(), entry.file_type()?.is_dir()) {
                copy(&entry.path(), &to.join(entry.file_name()), left_out)?;
            }
        }
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        return Err(ImportError::Special(from.to_path_buf()));
    }
    finish(to, tree::imported_mode(&stat))
}

fn finish(path: &Path, mode: u32) -> Result<(), ImportError> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(store::set_mtime(path, 0)?)
}
