//! Copies of outputs outside the store, and what is known of them so that a fresh one is not copied again.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Result, Store, record};
use crate::tree::TreeHash;

/// A tree that is wanted outside the store.
#[derive(Clone, Copy, Debug)]
pub struct Placed(TreeHash);

/// What a copy looked like when it was made.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    tree: TreeHash,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Placed {
    /// The tree with this hash.
    pub fn of(tree: TreeHash) -> Placed {
        Placed(tree)
    }
}

impl Store {
    /// Whether `dest` still is the copy that was made of this tree. Only files are told apart cheaply: a copied
    /// directory counts as stale.
    pub fn is_placed(&self, placed: &Placed, dest: &Path) -> Result<bool> {
        let Ok(stat) = std::fs::symlink_metadata(dest) else { return Ok(false) };
        let known: Option<Seen> = record::read(&self.state_file("placed", &name(dest))).unwrap_or_default();
        Ok(stat.is_file() && known == Some(seen(placed, &stat)))
    }

    /// Copies a tree to `dest`, in one step for whoever looks; missing parents are made.
    pub fn place(&self, placed: &Placed, dest: &Path) -> Result<()> {
        let parent = dest.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        let temp = tempfile::Builder::new().prefix(".raptor-").tempdir_in(parent)?;
        let copy = temp.path().join("copy");
        copy_tree(&self.path(&placed.0), &copy)?;
        if std::fs::symlink_metadata(dest).is_ok_and(|it| it.is_dir()) {
            fs::rename(dest, temp.path().join("old"))?;
        }
        fs::rename(&copy, dest)?;
        let stat = fs::symlink_metadata(dest)?;
        if stat.is_file() {
            let text = serde_json::to_vec(&seen(placed, &stat)).map_err(std::io::Error::from)?;
            self.write_state("placed", &name(dest), &text)?;
        }
        Ok(())
    }
}

fn name(dest: &Path) -> String {
    blake3::hash(dest.as_os_str().as_encoded_bytes()).to_hex().to_string()
}

fn seen(placed: &Placed, stat: &std::fs::Metadata) -> Seen {
    Seen {
        tree: placed.0,
        inode: stat.ino(),
        size: stat.size(),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        ctime: (stat.ctime(), stat.ctime_nsec()),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let stat = fs::symlink_metadata(from)?;
    if stat.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if stat.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        copy_file(from, to)?;
        let mode = if stat.mode() & 0o111 != 0 { 0o755 } else { 0o644 };
        fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Shares the blocks where the file system can.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let (source, dest) = (fs::File::open(from)?, fs::File::create(to)?);
    if rustix::fs::ioctl_ficlone(&dest, &source).is_err() {
        drop((source, dest));
        fs::copy(from, to)?;
    }
    Ok(())
}
