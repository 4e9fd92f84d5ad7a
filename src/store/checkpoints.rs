//! Checkpoints: where builds of a layer can begin in the middle. Caches, one directory per layer that is built often.
//!
//! Nothing here is synced to disk: a record has the hash of its manifest, that has the hashes of all contents, and
//! what does not match is as good as none.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Key, KeyLock, Result, Store, name_of, record};

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Name of the layer, for people.
    pub layer: String,
    /// Number of the step after which it was taken, counted from 1.
    pub step: usize,
    /// Checkpoints whose packs it needs, its own last, with the sizes of these.
    pub packs: Vec<(Key, u64)>,
    /// blake3 (hex) of the manifest.
    pub manifest: String,
    /// Whether the layer was finished since.
    pub finished: bool,
    /// What its maker wants to know again.
    pub memo: serde_json::Value,
}

/// The checkpoints of one layer, which this process alone uses now.
#[derive(Debug)]
pub struct Checkpoints {
    store: Store,
    dir: PathBuf,
    _lock: KeyLock,
}

/// All checkpoints of a layer, as `du` and `gc` see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointUsage {
    /// Directory below `checkpoints/`.
    pub key: Key,
    /// Name of the layer; empty if no checkpoint is whole.
    pub layer: String,
    /// Numbers of the steps after which they were taken, ascending.
    pub steps: Vec<usize>,
    /// What they take on disk.
    pub bytes: u64,
    /// When they were last used, in seconds since 1970.
    pub used: u64,
}

impl Store {
    /// The checkpoints that share this key, for this process alone; nothing while another has them, or if the store
    /// can only be read.
    pub fn checkpoints(&self, key: &Key) -> Result<Option<Checkpoints>> {
        if self.is_read_only() {
            return Ok(None);
        }
        let Some(lock) = self.checkpoint_lock(key)? else { return Ok(None) };
        let dir = self.root().join("checkpoints").join(key.to_string());
        fs::create_dir_all(&dir)?;
        touch(&dir);
        Ok(Some(Checkpoints { store: self.clone(), dir, _lock: lock }))
    }

    /// What checkpoints take, those that were used last at the end.
    pub fn checkpoint_usage(&self) -> Result<Vec<CheckpointUsage>> {
        let mut all = Vec::new();
        for dir in self.files("checkpoints")? {
            let Some(key) = name_of(&dir) else { continue };
            // It may go away meanwhile.
            let Ok(stat) = std::fs::metadata(&dir) else { continue };
            let records: Vec<Checkpoint> = intact(&dir)?.into_values().collect();
            let mut steps: Vec<usize> = records.iter().map(|it| it.step).collect();
            steps.sort_unstable();
            steps.dedup();
            let layer = records.into_iter().next().map(|it| it.layer).unwrap_or_default();
            let (bytes, used) = (size(&dir)?, u64::try_from(stat.mtime()).unwrap_or(0));
            all.push(CheckpointUsage { key, layer, steps, bytes, used });
        }
        all.sort_by_key(|it| (it.used, it.key));
        Ok(all)
    }

    /// Removes all checkpoints of a layer; false if somebody uses them.
    pub(super) fn remove_checkpoints(&self, key: &Key) -> Result<bool> {
        let Some(_lock) = self.checkpoint_lock(key)? else { return Ok(false) };
        match fs::remove_dir_all(self.root().join("checkpoints").join(key.to_string())) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(true),
        }
    }

    /// Records of checkpoints that nobody uses now, each with what is wrong with it.
    pub(super) fn verify_checkpoints(&self) -> Result<Vec<(PathBuf, Option<String>)>> {
        let mut checked = Vec::new();
        for dir in self.files("checkpoints")? {
            let Some(key) = name_of(&dir) else {
                checked.push((dir, Some("it is not named by a key".to_owned())));
                continue;
            };
            let _lock = match self.is_read_only() {
                true => None,
                false => match self.checkpoint_lock(&key)? {
                    Some(lock) => Some(lock),
                    None => continue,
                },
            };
            for file in self.files(&format!("checkpoints/{key}"))? {
                if file.extension().is_some_and(|it| it == "json") {
                    let problem = match record::read::<Checkpoint>(&file) {
                        Ok(Some(it)) => problem(&dir, &file, &it),
                        Ok(None) => continue,
                        Err(err) => Some(err.to_string()),
                    };
                    checked.push((file, problem));
                }
            }
        }
        Ok(checked)
    }

    fn checkpoint_lock(&self, key: &Key) -> Result<Option<KeyLock>> {
        let file = self.root().join("locks").join(format!("checkpoints-{key}"));
        KeyLock::take(&file, FlockOperation::NonBlockingLockExclusive)
    }
}

impl Checkpoints {
    /// Where they are; a sandbox writes `KEY.manifest` and `KEY.pack` there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that keeps the log of the steps up to a checkpoint.
    pub fn log_file(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.log"))
    }

    /// All that are whole.
    pub fn whole(&self) -> Result<BTreeMap<Key, Checkpoint>> {
        let mut whole = intact(&self.dir)?;
        whole.retain(|key, it| problem(&self.dir, &self.file(key), it).is_none());
        Ok(whole)
    }

    /// Size of a pack that was written.
    pub fn pack_size(&self, key: &Key) -> Result<u64> {
        Ok(fs::metadata(self.dir.join(format!("{key}.pack")))?.len())
    }

    /// Hash of a manifest that was written.
    pub fn manifest_hash(&self, key: &Key) -> Result<String> {
        Ok(blake3::hash(&fs::read(self.dir.join(format!("{key}.manifest")))?).to_string())
    }

    /// Writes a record: from now on the checkpoint counts.
    pub fn publish(&self, key: &Key, it: &Checkpoint) -> Result<()> {
        record::write_unsynced(self.store.root(), &self.file(key), it)
    }

    /// Removes everything that is not named by one of these.
    pub fn retain(&self, keep: &BTreeSet<Key>) -> Result<()> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !name_of(&path).is_some_and(|key| keep.contains(&key)) {
                others.push(path);
            }
        }
        // Records first: what has one must be whole.
        others.sort_by_key(|path| path.extension().is_none_or(|it| it != "json"));
        for path in others {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }
}

/// Records that were not damaged.
fn intact(dir: &Path) -> Result<BTreeMap<Key, Checkpoint>> {
    let mut records = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else { return Ok(records) };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "json")
            && let (Some(key), Some(it)) = (name_of(&path), record::read_intact(&path)?)
        {
            records.insert(key, it);
        }
    }
    Ok(records)
}

/// Why a checkpoint is not whole.
fn problem(dir: &Path, file: &Path, it: &Checkpoint) -> Option<String> {
    match std::fs::read(file.with_extension("manifest")) {
        Ok(text) if blake3::hash(&text).to_string() == it.manifest => {}
        Ok(_) => return Some("its manifest is damaged".to_owned()),
        Err(err) => return Some(format!("its manifest: {err}")),
    }
    it.packs.iter().find_map(|(key, size)| match std::fs::metadata(dir.join(format!("{key}.pack"))) {
        Ok(stat) if stat.len() == *size => None,
        Ok(_) => Some(format!("the pack {key} has another size")),
        Err(err) => Some(format!("the pack {key}: {err}")),
    })
}

/// What a directory of files takes on disk.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        // It may go away meanwhile.
        bytes += entry?.metadata().map_or(0, |it| it.blocks() * 512);
    }
    Ok(bytes)
}

/// The time stamp of the directory is the time of the last use.
fn touch(dir: &Path) {
    // Not knowing exactly when it was used is no reason not to use it.
    let _ = std::fs::File::open(dir).and_then(|it| it.set_modified(SystemTime::now()));
}
