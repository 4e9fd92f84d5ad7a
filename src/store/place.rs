//! Copies of outputs outside the store, and what is known of them so that a fresh one is not copied again.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;
use rustix::fs::{FlockOperation, RenameFlags};
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
    /// Of a directory that is about to replace another: inode of that one, which a kill may leave in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<u64>,
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
        let replaced = self.check_place(placed, dest)?;
        let parent = dest.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        clear_unfinished(parent);
        let temp = Unfinished::new(parent)?;
        let copy = temp.dir.path().join("copy");
        copy_tree(&self.path(&placed.0), &copy)?;
        let stat = fs::symlink_metadata(&copy)?;
        if stat.is_dir() {
            self.note_placed(dest, &Seen { replaced, ..seen(placed, &stat) })?;
        }
        put(&copy, dest, &temp.dir.path().join("old"))?;
        // Before the record: who finds that one does not look for what is left.
        temp.dir.close()?;
        self.note_placed(dest, &seen(placed, &fs::symlink_metadata(dest)?))
    }

    fn note_placed(&self, dest: &Path, seen: &Seen) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        fs::create_dir_all(self.root().join("state/placed"))?;
        record::write(self.root(), &self.state_file("placed", &name(dest)), seen)
    }

    /// Refuses to put a copy over a directory that somebody else made; gives the inode of one that is ours.
    fn check_place(&self, placed: &Placed, dest: &Path) -> Result<Option<u64>> {
        let Ok(stat) = std::fs::symlink_metadata(dest) else { return Ok(None) };
        if !stat.is_dir() {
            return Ok(None);
        }
        let refuse = |reason: &str| {
            let message = format!("{} is a directory {reason}", dest.display());
            Err(Error::Io(std::io::Error::new(std::io::ErrorKind::AlreadyExists, message)))
        };
        if !fs::symlink_metadata(self.path(&placed.0))?.is_dir() {
            return refuse("and the output is a file");
        }
        let known: Option<Seen> = record::read_intact(&self.state_file("placed", &name(dest)))?;
        let ours = known.is_some_and(|it| {
            it.times.is_none() && (it.inode == stat.ino() || it.replaced == Some(stat.ino()))
        });
        match ours || fs::read_dir(dest)?.next().is_none() {
            true => Ok(ours.then(|| stat.ino())),
            false => refuse("that raptor did not make; move it away, or choose another output"),
        }
    }
}

/// Begins the names of directories that hold copies in the making, beside their destinations.
const UNFINISHED: &str = ".raptor-placing-";

/// Mode of these directories.
const PRIVATE: u32 = 0o700;

/// A directory for a copy in the making, locked while its maker lives.
struct Unfinished {
    dir: tempfile::TempDir,
    _held: Option<std::fs::File>,
}

impl Unfinished {
    fn new(parent: &Path) -> Result<Unfinished> {
        loop {
            let private = std::fs::Permissions::from_mode(PRIVATE);
            let dir = tempfile::Builder::new().prefix(UNFINISHED).permissions(private).tempdir_in(parent)?;
            // Where directories cannot be locked, nobody clears them away either.
            let held = std::fs::File::open(dir.path()).ok().filter(try_lock);
            // A cleaner may have taken it between its creation and our lock.
            if dir.path().exists() {
                return Ok(Unfinished { dir, _held: held });
            }
        }
    }
}

/// Removes what killed processes left beside a destination. What cannot be removed is no reason not to go on.
fn clear_unfinished(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let ours = entry.metadata().is_ok_and(|it| {
            it.is_dir() && it.uid() == rustix::process::geteuid().as_raw() && it.mode() & 0o7777 == PRIVATE
        });
        if ours && std::fs::File::open(entry.path()).is_ok_and(|it| try_lock(&it)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn try_lock(dir: &std::fs::File) -> bool {
    rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Moves a copy to its place; a directory that is there goes to `old`, in the same step where the file system can.
fn put(copy: &Path, dest: &Path, old: &Path) -> Result<()> {
    if std::fs::symlink_metadata(dest).is_ok_and(|it| it.is_dir()) {
        let cwd = rustix::fs::CWD;
        if rustix::fs::renameat_with(cwd, copy, cwd, dest, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
        fs::rename(dest, old)?;
    }
    Ok(fs::rename(copy, dest)?)
}

fn name(dest: &Path) -> String {
    blake3::hash(dest.as_os_str().as_encoded_bytes()).to_hex().to_string()
}

fn seen(placed: &Placed, stat: &std::fs::Metadata) -> Seen {
    Seen {
        tree: placed.0,
        inode: stat.ino(),
        size: if stat.is_file() { stat.size() } else { 0 },
        replaced: None,
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
