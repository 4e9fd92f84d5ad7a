//! Opening stores: making new ones, refusing what is none, laying one above others.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use rustix::fs::StatVfsMountFlags;

use super::{Error, Inner, Result, Store, VERSION, layout, record, uses};

impl Store {
    /// Opens a store, making it if the directory is missing or empty.
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_above(root, &[])
    }

    /// Opens a store above others: what these have is used where it is, and nothing is ever written to them.
    pub fn open_above(root: &Path, lower: &[PathBuf]) -> Result<Store> {
        let lower = lower.iter().map(|it| open_lower(it)).collect::<Result<_>>()?;
        if !root.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|err| {
                std::io::Error::new(err.kind(), format!("cannot create the store {}: {err}", root.display()))
            })?;
        }
        let root = owned(root)?;
        let flags = rustix::fs::statvfs(&root).map_err(std::io::Error::from)?.f_flag;
        let read_only = flags.contains(StatVfsMountFlags::RDONLY);
        if !has_version(&root)? {
            if read_only {
                return Err(Error::NotAStore(root));
            }
            make(&root)?;
        }
        if !read_only {
            close(&root)?;
        }
        Ok(Store(Arc::new(Inner { root, read_only, lower, uses: uses::Uses::default() })))
    }
}

fn open_lower(root: &Path) -> Result<Store> {
    if !root.is_dir() {
        return Err(Error::NoLower(root.to_path_buf()));
    }
    // Files of a store of somebody else would have other owners inside sandboxes than their hashes say.
    let root = owned(root)?;
    match has_version(&root)? {
        true => {
            let (lower, uses) = (Vec::new(), uses::Uses::default());
            Ok(Store(Arc::new(Inner { root, read_only: true, lower, uses })))
        }
        false => Err(Error::NotAStore(root)),
    }
}

/// The directory without links, if it belongs to the caller.
fn owned(root: &Path) -> Result<PathBuf> {
    let root = fs::canonicalize(root)?;
    let owner = fs::metadata(&root)?.uid();
    match owner == rustix::process::geteuid().as_raw() {
        true => Ok(root),
        false => Err(Error::Foreign { path: root, owner }),
    }
}

/// Whether this is a store that we understand.
fn has_version(root: &Path) -> Result<bool> {
    let path = root.join("version");
    let text = match fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(err) => return Err(err.into()),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > VERSION => Err(Error::Newer { path: root.to_path_buf(), found }),
        Ok(VERSION) => Ok(true),
        _ => Err(Error::Damaged { path, reason: "it does not say a version".into() }),
    }
}

/// Lets nobody but the owner in, for trees may hold set-uid programs. Others may have made the directory.
fn close(root: &Path) -> Result<()> {
    let mode = fs::metadata(root)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        fs::set_permissions(root, std::fs::Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}

fn make(root: &Path) -> Result<()> {
    // A file system of its own has a place for what fsck finds.
    let known = |name: &std::ffi::OsStr| name == "lost+found" || layout::DIRS.iter().any(|dir| name == *dir);
    for entry in fs::read_dir(root)? {
        if !known(&entry?.file_name()) {
            // Another process may have made the store meanwhile.
            return if has_version(root)? { Ok(()) } else { Err(Error::NotAStore(root.to_path_buf())) };
        }
    }
    for dir in layout::DIRS {
        fs::create_dir_all(root.join(dir))?;
    }
    record::write_atomic(root, &root.join("version"), format!("{VERSION}\n").as_bytes())
}
