//! Work directories and key locks: both live exactly as long as the process that holds them.

use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_OMIT};

use super::Result;

/// A private directory; it and its lock file vanish on drop.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    lock: PathBuf,
    _held: std::fs::File,
}

impl WorkDir {
    pub(super) fn new(tmp: &Path) -> Result<WorkDir> {
        loop {
            let (held, lock) = tempfile::Builder::new()
                .prefix("work-")
                .suffix(".lock")
                .tempfile_in(tmp)?
                .keep()
                .map_err(|err| err.error)?;
            rustix::fs::flock(&held, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            // A cleaner may have taken the file between its creation and our lock.
            if !lock.exists() {
                continue;
            }
            let path = lock.with_extension("");
            fs::create_dir(&path)?;
            return Ok(WorkDir { path, lock, _held: held });
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and says if that failed.
    pub fn clear(self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Files of other ids make this fail; then the lock file stays, and the next process finds an abandoned
        // directory.
        if matches!(std::fs::remove_dir_all(&self.path), Ok(())) || !self.path.exists() {
            let _ = std::fs::remove_file(&self.lock);
        }
    }
}

/// Begins the names of files that become records; whoever writes one holds a lock on it.
pub(super) const RECORD: &str = "record-";

/// Directories in `tmp` whose owner is gone. Records that nobody finishes are removed.
pub(super) fn abandoned(tmp: &Path) -> Result<Vec<WorkDir>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tmp)? {
        let entry = entry?;
        let path = entry.path();
        let is_record = entry.file_name().as_encoded_bytes().starts_with(RECORD.as_bytes());
        if !is_record && path.extension().is_none_or(|ext| ext != "lock") {
            continue;
        }
        let Ok(held) = std::fs::File::open(&path) else { continue };
        if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        match is_record {
            // Somebody else may have been quicker.
            true => drop(std::fs::remove_file(&path)),
            false => found.push(WorkDir { path: path.with_extension(""), lock: path, _held: held }),
        }
    }
    Ok(found)
}

/// A file in a work directory whose owner is at work.
#[derive(Debug)]
pub struct AtWork {
    /// The file.
    pub path: PathBuf,
    lock: PathBuf,
}

impl AtWork {
    /// Whether the process that writes it is still there, and has not moved it to where it belongs.
    pub fn goes_on(&self) -> bool {
        let held = || {
            let Ok(lock) = std::fs::File::open(&self.lock) else { return false };
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
        };
        self.path.exists() && held()
    }
}

/// The file of this name in the work directory of a process that runs.
pub(super) fn at_work(tmp: &Path, name: &str) -> Result<Option<AtWork>> {
    for entry in fs::read_dir(tmp)? {
        let dir = entry?.path();
        let file = AtWork { path: dir.join(name), lock: dir.with_extension("lock") };
        if dir.extension().is_none() && file.goes_on() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Exclusive right to realize a key, among all processes; released on drop.
#[derive(Debug)]
pub struct KeyLock {
    _held: std::fs::File,
}

impl KeyLock {
    /// Takes the lock; `None` if `how` does not wait and another has it.
    pub(super) fn take(file: &Path, how: FlockOperation) -> Result<Option<KeyLock>> {
        loop {
            let held =
                fs::OpenOptions::new().create(true).truncate(false).write(true).open(file)?.into_parts().0;
            match rustix::fs::flock(&held, how) {
                // Whoever cleans up removes a lock file while holding it: then it is no longer the lock of that name.
                Ok(()) if is_same_file(&held, file)? => return Ok(Some(KeyLock { _held: held })),
                Ok(()) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(err) => return Err(std::io::Error::from(err).into()),
            }
        }
    }
}

fn is_same_file(held: &std::fs::File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = held.metadata()?;
    Ok(std::fs::symlink_metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (held.dev(), held.ino())))
}

/// Sets the modification time of a file, not following links.
pub fn set_mtime(path: &Path, seconds: i64) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(
        |err| {
            std::io::Error::new(
                std::io::Error::from(err).kind(),
                format!("cannot set the time of {}: {err}", path.display()),
            )
        },
    )?;
    Ok(())
}
