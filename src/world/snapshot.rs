//! Every answer of a world, kept: a path is looked at once, and the answers are the inputs of an evaluation.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::hash::BuildHasher;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use raptor_lang::pattern::Excludes;
use raptor_lang::world::{FileKind, ReadError};
use serde::{Deserialize, Serialize};

use crate::tree::TreeInfo;

/// So many threads can ask at a time without waiting, more or less.
const SHARDS: usize = 32;

/// What tells versions of a file apart without reading it. Times are in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mode: u32,
    mtime: i64,
    ctime: i64,
}

/// What was asked of one path, with the answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Taken before anything is read, so that what is read is never older than its stamp.
    pub(super) stat: Option<Result<Stamp, ReadError>>,
    pub(super) is_symlink: Option<bool>,
    pub(super) text: Option<Result<Arc<str>, ReadError>>,
    pub(super) list: Option<Result<Vec<OsString>, ReadError>>,
    pub(super) trees: Vec<TreeAnswer>,
}

/// The hash of a tree, and stamps of all that is in it.
#[derive(Clone, Debug)]
pub(super) struct TreeAnswer {
    pub(super) exclude: Excludes,
    /// Paths below the root; likewise taken before anything is read.
    pub(super) entries: Vec<(PathBuf, Stamp)>,
    pub(super) info: Result<TreeInfo, String>,
}

/// All answers so far.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When it was begun, in nanoseconds since 1970: a file changed later may change again within one tick of the
    /// clock, and its stamp would not tell.
    pub(super) begun: i64,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<OsString, Answers>>>,
}

impl Snapshot {
    /// No answers yet.
    pub(super) fn new() -> Snapshot {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Snapshot {
            begun: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The answer that is known, else that of `find`; of several that are found at the same time, the first.
    pub(super) fn ask<T: Clone>(
        &self,
        path: &Path,
        known: impl Fn(&Answers) -> Option<&T>,
        find: impl FnOnce() -> T,
        keep: impl FnOnce(&mut Answers, T),
    ) -> T {
        if let Some(answer) = self.shard(path.as_os_str()).get(path.as_os_str()).and_then(&known) {
            return answer.clone();
        }
        let found = find();
        let mut shard = self.shard(path.as_os_str());
        let answers = match shard.get_mut(path.as_os_str()) {
            Some(answers) => answers,
            None => shard.entry(path.as_os_str().to_owned()).or_default(),
        };
        if let Some(answer) = known(answers) {
            return answer.clone();
        }
        keep(answers, found.clone());
        found
    }

    /// Something of every path that was asked for.
    pub(super) fn map<T>(&self, work: impl Fn(&Path, &Answers) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            #[expect(clippy::iter_over_hash_type, reason = "the order of a record's inputs means nothing")]
            for (path, answers) in shard.iter() {
                all.push(work(Path::new(path), answers));
            }
        }
        all
    }

    /// Something of one path, if it was asked for.
    pub(super) fn get<T>(&self, path: &Path, work: impl FnOnce(&Answers) -> T) -> Option<T> {
        self.shard(path.as_os_str()).get(path.as_os_str()).map(work)
    }

    fn shard(&self, path: &OsStr) -> MutexGuard<'_, HashMap<OsString, Answers>> {
        let idx = self.hasher.hash_one(path) as usize % SHARDS;
        self.shards[idx].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    pub(super) fn of(stat: &Metadata) -> Stamp {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Stamp {
            dev: stat.dev(),
            ino: stat.ino(),
            size: stat.size(),
            mode: stat.mode(),
            mtime: nanos(stat.mtime(), stat.mtime_nsec()),
            ctime: nanos(stat.ctime(), stat.ctime_nsec()),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        match rustix::fs::FileType::from_raw_mode(self.mode) {
            rustix::fs::FileType::RegularFile => FileKind::File,
            rustix::fs::FileType::Directory => FileKind::Dir,
            _ => FileKind::Other,
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The later of its times.
    pub(super) fn changed(&self) -> i64 {
        self.mtime.max(self.ctime)
    }
}
