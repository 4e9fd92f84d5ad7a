//! States of failed steps, kept for people to look at: neither roots nor inputs, and removed once they are old.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::gc::{age, discard};
use super::{KeyLock, Result, Rules, Store, WorkDir, record};

/// What a state is, in its directory.
const RECORD: &str = "record.json";
/// How long a state is kept if nobody says otherwise.
const USUAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A state that stays as long as this lives.
#[derive(Debug)]
pub struct Failed<T> {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub record: T,
    _held: KeyLock,
}

impl Store {
    /// Keeps a directory of a work dir under a name, with what it is. A state of that name takes its place there. False
    /// if somebody is looking at that one now.
    pub fn keep_failed<T: Serialize>(&self, name: &str, dir: &Path, what: &T) -> Result<bool> {
        self.writable()?;
        let Some(_lock) = self.lock_failed(name, FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(false);
        };
        record::write(self.root(), &dir.join(RECORD), what)?;
        let dest = self.failed_dir(name);
        fs::create_dir_all(self.root().join("failed"))?;
        let rename = |flags| rustix::fs::renameat_with(CWD, dir, CWD, &dest, flags);
        match rename(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => rename(RenameFlags::EXCHANGE),
            other => other,
        }
        .map_err(|err| {
            let what = format!("cannot move {} to {}: {err}", dir.display(), dest.display());
            std::io::Error::new(std::io::Error::from(err).kind(), what)
        })?;
        Ok(true)
    }

    /// Names of all states that are kept, the newest first.
    pub fn failed_names(&self) -> Result<Vec<String>> {
        let mut states: Vec<(SystemTime, String)> = Vec::new();
        for path in self.files("failed")? {
            let Ok(made) = std::fs::symlink_metadata(&path).and_then(|it| it.modified()) else { continue };
            states.extend(path.file_name().map(|name| (made, name.to_string_lossy().into_owned())));
        }
        states.sort();
        Ok(states.into_iter().rev().map(|(_, name)| name).collect())
    }

    /// A state that is kept; `None` if there is none of that name that this version understands.
    pub fn failed<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Failed<T>>> {
        let Some(held) = self.lock_failed(name, FlockOperation::LockShared)? else { return Ok(None) };
        let path = self.failed_dir(name);
        let record = record::read_intact(&path.join(RECORD))?;
        Ok(record.map(|record| Failed { path, record, _held: held }))
    }

    /// States that are old enough to go, and at which nobody looks, with the right to remove them.
    pub(super) fn old_failed(&self, rules: &Rules) -> Result<Vec<(PathBuf, KeyLock)>> {
        let least = match rules.max_size {
            // Where room is scarce, they are the first that nobody needs.
            Some(_) => Duration::ZERO,
            None => rules.older_than.unwrap_or(USUAL_AGE),
        };
        let mut old = Vec::new();
        for path in self.files("failed")? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if age(&path) >= least
                && let Some(lock) = self.lock_failed(&name, FlockOperation::NonBlockingLockExclusive)?
            {
                old.push((path, lock));
            }
        }
        Ok(old)
    }

    /// Removes old states.
    pub(super) fn remove_failed(
        &self,
        rules: &Rules,
        work: &WorkDir,
        strays: &mut Vec<PathBuf>,
    ) -> Result<()> {
        for (path, _lock) in self.old_failed(rules)? {
            discard(work, &path)?;
            strays.push(path);
        }
        Ok(())
    }

    fn failed_dir(&self, name: &str) -> PathBuf {
        self.root().join("failed").join(name)
    }

    fn lock_failed(&self, name: &str, how: FlockOperation) -> Result<Option<KeyLock>> {
        KeyLock::take(&self.root().join("locks").join(format!("failed-{name}")), how)
    }
}
