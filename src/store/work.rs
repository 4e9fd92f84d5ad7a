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

/// Directories in `tmp` whose owner is gone.
pub(super) fn abandoned(tmp: &Path) -> Result<Vec<WorkDir>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tmp)? {
        let lock = entry?.path();
        if lock.extension().is_none_or(|ext| ext != "lock") {
            continue;
        }
        let Ok(held) = std::fs::File::open(&lock) else { continue };
        if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_ok() {
            found.push(WorkDir { path: lock.with_extension(""), lock, _held: held });
        }
    }
    Ok(found)
}

/// Exclusive right to realize a key, among all processes; released on drop.
#[derive(Debug)]
pub struct KeyLock {
    _held: std::fs::File,
}

impl KeyLock {
    /// Takes the lock; `None` if `how` does not wait and another has it.
    pub(super) fn take(file: &Path, how: FlockOperation) -> Result<Option<KeyLock>> {
        let held = fs::OpenOptions::new().create(true).truncate(false).write(true).open(file)?.into_parts().0;
        loop {
            match rustix::fs::flock(&held, how) {
                Ok(()) => return Ok(Some(KeyLock { _held: held })),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(err) => return Err(std::io::Error::from(err).into()),
            }
        }
    }
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
