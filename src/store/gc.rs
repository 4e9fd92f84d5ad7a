//! Garbage collection: removes what neither roots nor running processes need, and what killed ones left behind.
//!
//! A tree is first unregistered, then looked for once more in the processes' notes and in the roots, and only then
//! removed. A kill in between leaves garbage, never a registered tree that is not whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde::Serialize;

use super::{CheckpointUsage, KeyLock, Realized, Result, Root, Store, name_of, now, record, uses, work};
use crate::tree::{TreeHash, TreeInfo};

/// How long something without a lock of its own may be in the making.
const IN_THE_MAKING: Duration = Duration::from_secs(10 * 60);
/// How long downloads can be resumed, and how long logs and derivations without result are kept.
const REMNANT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long checkpoints are kept that no build uses.
const CHECKPOINTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What may stay although nothing needs it, and what must.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Results of each root that count, the newest first; at least one.
    pub keep_last: usize,
    /// Only what was not used for so long is removed. Of checkpoints, without this, what was not used for a week.
    pub older_than: Option<Duration>,
    /// Once trees and checkpoints have no more bytes than this, the rest stays. Checkpoints go first, then what was
    /// not used longest.
    pub max_size: Option<u64>,
    /// Ids of the derivations of live roots, with their inputs.
    pub derivations: BTreeSet<String>,
}

/// Whether to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcMode {
    /// Only say what would be done.
    DryRun,
    /// Do it.
    Remove,
}

/// A tree that was removed, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// Its hash.
    pub hash: TreeHash,
    /// Sum of the sizes of its files, in bytes.
    pub bytes: u64,
    /// When it was last used, to the day, in seconds since 1970.
    pub used: u64,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collected {
    /// Trees that nobody needs.
    pub removed: Vec<Removed>,
    /// Sum of their bytes.
    pub freed: u64,
    /// Checkpoints, all that a layer has.
    pub checkpoints: Vec<CheckpointUsage>,
    /// Number of trees that stay.
    pub kept: usize,
    /// Sum of their bytes.
    pub kept_bytes: u64,
    /// Roots whose project or result is gone, as `project: target`.
    pub dropped_roots: Vec<String>,
    /// Things that belong to nothing, as paths in the store.
    pub strays: Vec<PathBuf>,
}

impl Store {
    /// Removes garbage. Builds may run meanwhile; another collection is waited for.
    pub fn collect(&self, rules: &Rules, mode: GcMode) -> Result<Collected> {
        self.writable()?;
        let _alone = KeyLock::take(&self.root().join("locks").join("gc"), FlockOperation::LockExclusive)?;
        let mut done = Collected::default();
        // Trees before notes: a process notes a tree before it registers it. Notes before roots: it makes its root
        // before it forgets its notes.
        let trees = self.list()?;
        let mut needed = uses::all(self.root())?;
        for (file, root) in self.roots()? {
            if root.is_alive() {
                self.add_needs(&root, rules.keep_last, &mut needed)?;
                continue;
            }
            done.dropped_roots.push(format!("{}: {}", root.project.display(), root.target));
            if mode == GcMode::Remove {
                remove_file(&file)?;
            }
        }
        let victims = victims(trees, &needed, rules, &mut done);
        self.collect_checkpoints(rules, mode, &mut done)?;
        if mode == GcMode::DryRun {
            done.strays = self.stray_trees(&needed)?;
            done.strays.extend(self.old_failed(rules)?.into_iter().map(|(path, _)| path));
        } else {
            let (gone, back) = self.remove_trees(victims, rules)?;
            done.kept += back.len();
            done.kept_bytes += back.iter().map(|info| info.bytes).sum::<u64>();
            done.removed = gone;
            self.remove_remnants(rules, &mut done)?;
        }
        let checkpoints: u64 = done.checkpoints.iter().map(|it| it.bytes).sum();
        done.freed = done.removed.iter().map(|it| it.bytes).sum::<u64>() + checkpoints;
        Ok(done)
    }

    /// Checkpoints are quicker to make again than what they are part of, so they go before any tree; those that a
    /// build uses now stay.
    fn collect_checkpoints(&self, rules: &Rules, mode: GcMode, done: &mut Collected) -> Result<()> {
        let all = self.checkpoint_usage()?;
        let trees: u64 = self.list()?.iter().map(|(info, _)| info.bytes).sum();
        let mut size = all.iter().map(|it| it.bytes).sum::<u64>() + trees;
        let least = rules.older_than.unwrap_or(CHECKPOINTS);
        for it in all {
            let old = Duration::from_secs(now().saturating_sub(it.used)) >= least;
            let too_much = rules.max_size.is_some_and(|most| size > most);
            if (old || too_much) && (mode == GcMode::DryRun || self.remove_checkpoints(&it.key)?) {
                size = size.saturating_sub(it.bytes);
                done.checkpoints.push(it);
            }
        }
        Ok(())
    }

    fn add_needs(&self, root: &Root, keep_last: usize, needed: &mut BTreeSet<TreeHash>) -> Result<()> {
        for result in root.results.iter().rev().take(keep_last.max(1)) {
            needed.extend(&result.trees);
            for body in &result.bodies {
                needed.extend(self.own_recorded(body)?.map(|it| it.output));
            }
        }
        Ok(())
    }

    /// Removes trees; gives those that are gone, and those that somebody began to need meanwhile.
    fn remove_trees(
        &self,
        victims: Vec<(TreeInfo, SystemTime)>,
        rules: &Rules,
    ) -> Result<(Vec<Removed>, Vec<TreeInfo>)> {
        let mut doomed = Vec::new();
        let mut back = Vec::new();
        for (info, used) in victims {
            match self.try_tree_lock(&info.hash)? {
                Some(_lock) => {
                    remove_file(&self.info_file(&info.hash))?;
                    doomed.push((info, used));
                }
                // Somebody registers it just now.
                None => back.push(info),
            }
        }
        if doomed.is_empty() {
            return Ok((Vec::new(), back));
        }
        // After a power cut nothing may be registered whose files have begun to go.
        self.sync()?;
        let mut needed = uses::all(self.root())?;
        for (_, root) in self.roots()? {
            self.add_needs(&root, rules.keep_last, &mut needed)?;
        }
        let work = self.work_dir()?;
        let mut gone = Vec::new();
        for (info, used) in doomed {
            // Whoever registers it anew waits for this lock, and then finds either the tree or a free place.
            let _lock = KeyLock::take(&self.tree_lock(&info.hash), FlockOperation::LockExclusive)?;
            if self.own_info(&info.hash)?.is_some() {
                back.push(info);
            } else if needed.contains(&info.hash) {
                record::write(self.root(), &self.info_file(&info.hash), &info)?;
                back.push(info);
            } else {
                discard(&work, &self.own_path(&info.hash))?;
                gone.push(removed(&info, used));
            }
        }
        Ok((gone, back))
    }

    fn try_tree_lock(&self, hash: &TreeHash) -> Result<Option<KeyLock>> {
        KeyLock::take(&self.tree_lock(hash), FlockOperation::NonBlockingLockExclusive)
    }

    /// Trees that nobody registered, or that were found to be bad, and whatever else lies among them.
    fn stray_trees(&self, needed: &BTreeSet<TreeHash>) -> Result<Vec<PathBuf>> {
        let mut strays = Vec::new();
        for path in self.files("trees")? {
            let registered = match path.file_name().and_then(|it| it.to_str()?.parse::<TreeHash>().ok()) {
                Some(hash) => needed.contains(&hash) || self.own_info(&hash)?.is_some(),
                None => false,
            };
            if !registered {
                strays.push(path);
            }
        }
        Ok(strays)
    }

    /// Everything that is not a tree and belongs to nothing any more.
    fn remove_remnants(&self, rules: &Rules, done: &mut Collected) -> Result<()> {
        let work = self.work_dir()?;
        for path in self.stray_trees(&uses::all(self.root())?)? {
            let hash = path.file_name().and_then(|it| it.to_str()?.parse::<TreeHash>().ok());
            let lock = hash.map(|hash| self.try_tree_lock(&hash)).transpose()?;
            // Without the lock, somebody is between moving it here and registering it.
            if matches!(lock, Some(None)) || hash.is_some_and(|it| matches!(self.own_info(&it), Ok(Some(_))))
            {
                continue;
            }
            discard(&work, &path)?;
            done.strays.push(path);
        }
        self.remove_failed(rules, &work, &mut done.strays)?;
        self.remove_records(&mut done.strays)?;
        self.remove_temporary(&work, &mut done.strays)?;
        for dir in ["drv", "log"] {
            for file in self.files(dir)? {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let result = name_of(&file).filter(|key| self.realized_file(key).exists());
                if result.is_none() && !rules.derivations.contains(&name) && age(&file) > REMNANT {
                    remove_file(&file)?;
                    done.strays.push(file);
                }
            }
        }
        Ok(())
    }

    /// Records of results that are gone.
    fn remove_records(&self, strays: &mut Vec<PathBuf>) -> Result<()> {
        for file in self.files("realized")? {
            let Some(key) = name_of(&file) else {
                remove_file(&file)?;
                strays.push(file);
                continue;
            };
            // Whoever realizes the key will write a new one.
            let Some(_lock) = self.try_lock(&key)? else { continue };
            let output = record::read_intact::<Realized>(&file)?.map(|it| it.output);
            let stays = match output {
                // A bad output can be made again as long as it is known what it was.
                Some(output) => self.registered(&output)?.is_some() || self.bad_file(&output).exists(),
                None => false,
            };
            if !stays {
                remove_file(&file)?;
                strays.push(file);
            }
        }
        Ok(())
    }

    /// Locks that nobody holds, and files in the making whose maker is gone.
    fn remove_temporary(&self, work: &work::WorkDir, strays: &mut Vec<PathBuf>) -> Result<()> {
        for left in self.abandoned()? {
            strays.push(left.path().to_path_buf());
            left.clear()?;
        }
        for path in self.files("tmp")? {
            let is_lock = path.extension().is_some_and(|it| it == "lock");
            if !is_lock && !path.with_extension("lock").exists() && age(&path) > IN_THE_MAKING {
                discard(work, &path)?;
                strays.push(path);
            }
        }
        for path in self.files("locks")? {
            if path.file_name().is_some_and(|it| it == "gc") {
                continue;
            }
            if let Some(_held) = KeyLock::take(&path, FlockOperation::NonBlockingLockExclusive)? {
                remove_file(&path)?;
            }
        }
        for path in self.files("partial")? {
            if path.extension().is_none() && age(&path) > REMNANT {
                let lock = path.with_extension("lock");
                if KeyLock::take(&lock, FlockOperation::NonBlockingLockExclusive)?.is_some() {
                    remove_file(&path)?;
                    strays.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Trees to remove, the longest unused first.
fn victims(
    trees: Vec<(TreeInfo, SystemTime)>,
    needed: &BTreeSet<TreeHash>,
    rules: &Rules,
    done: &mut Collected,
) -> Vec<(TreeInfo, SystemTime)> {
    let (live, mut garbage): (Vec<_>, Vec<_>) =
        trees.into_iter().partition(|(info, _)| needed.contains(&info.hash));
    garbage.sort_by_key(|(info, used)| (*used, info.hash));
    let all = live.iter().chain(&garbage);
    let mut size: u64 = all.map(|(info, _)| info.bytes).sum();
    let now = SystemTime::now();
    let (mut victims, mut kept) = (Vec::new(), live.len());
    for (info, used) in garbage {
        let age = now.duration_since(used).unwrap_or_default();
        let young = rules.older_than.is_some_and(|least| age < least);
        if young || rules.max_size.is_some_and(|most| size <= most) {
            kept += 1;
            continue;
        }
        size = size.saturating_sub(info.bytes);
        done.removed.push(removed(&info, used));
        victims.push((info, used));
    }
    (done.kept, done.kept_bytes) = (kept, size);
    victims
}

fn removed(info: &TreeInfo, used: SystemTime) -> Removed {
    let used = used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Removed { hash: info.hash, bytes: info.bytes, used }
}

/// Takes something out of sight in one step, and removes it.
pub(super) fn discard(work: &work::WorkDir, path: &Path) -> Result<()> {
    let away = work.path().join("discarded");
    match fs::rename(path, &away) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    match fs::symlink_metadata(&away)?.is_dir() {
        true => fs::remove_dir_all(&away)?,
        false => fs::remove_file(&away)?,
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
        _ => Ok(()),
    }
}

/// How long ago it was changed; something of the future, or that is gone, is new.
pub(super) fn age(path: &Path) -> Duration {
    let changed = std::fs::symlink_metadata(path).and_then(|it| it.modified());
    changed.ok().and_then(|it| it.elapsed().ok()).unwrap_or_default()
}
