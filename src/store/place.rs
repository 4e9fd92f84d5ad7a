//! Copies of outputs outside the store, and what is known of them so that a fresh one is not copied again.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Error, Result, Store, record};
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
    /// Of a file only: a directory changes whenever somebody puts something into it, and is ours all the same.
    times: Option<[(i64, i64); 2]>,
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
        let known: Option<Seen> = record::read_intact(&self.state_file("placed", &name(dest)))?;
        Ok(stat.is_file() && known == Some(seen(placed, &stat)))
    }

    /// Copies a tree to `dest`, in one step for whoever looks; missing parents are made. A directory in its place
    /// is replaced only if it is empty or an earlier copy.
    pub fn place(&self, placed: &Placed, dest: &Path) -> Result<()> {
        self.check_place(placed, dest)?;
        let parent = dest.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        let temp = tempfile::Builder::new().prefix(".raptor-").tempdir_in(parent)?;
        let copy = temp.path().join("copy");
        copy_tree(&self.path(&placed.0), &copy)?;
        if std::fs::symlink_metadata(dest).is_ok_and(|it| it.is_dir()) {
            fs::rename(dest, temp.path().join("old"))?;
        }
        fs::rename(&copy, dest)?;
        if self.is_read_only() {
            return Ok(());
        }
        let file = self.state_file("placed", &name(dest));
        fs::create_dir_all(self.root().join("state/placed"))?;
        record::write(self.root(), &file, &seen(placed, &fs::symlink_metadata(dest)?))
    }

    /// Refuses to put a copy over a directory that somebody else made.
    fn check_place(&self, placed: &Placed, dest: &Path) -> Result<()> {
        let Ok(stat) = std::fs::symlink_metadata(dest) else { return Ok(()) };
        if !stat.is_dir() {
            return Ok(());
        }
        let refuse = |reason: &str| {
            let message = format!("{} is a directory {reason}", dest.display());
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::AlreadyExists, message)))
        };
        if !fs::symlink_metadata(self.path(&placed.0))?.is_dir() {
            return refuse("and the output is a file");
        }
        let known: Option<Seen> = record::read_intact(&self.state_file("placed", &name(dest)))?;
        let ours = known.is_some_and(|it| it.times.is_none() && it.inode == stat.ino());
        match ours || fs::read_dir(dest)?.next().is_none() {
            true => Ok(()),
            false => refuse("that raptor did not make; move it away, or choose another output"),
        }
    }
}

fn name(dest: &Path) -> String {
    blake3::hash(dest.as_os_str().as_encoded_bytes()).to_hex().to_string()
}

fn seen(placed: &Placed, stat: &std::fs::Metadata) -> Seen {
    Seen {
        tree: placed.0,
        inode: stat.ino(),
        size: if stat.is_file() { stat.size() } else { 0 },
        times: stat.is_file().then(|| [(stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec())]),
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
    // The record of the copy must not outlive a copy that a power cut has torn.
    fs::File::open(to)?.sync_all()?;
    Ok(())
}
