//! Beginning a layer in the middle: which checkpoint is the last that is still true, and which to take.
//!
//! Specified in `spec/sandbox.md`. Nothing of this reaches a derivation or its key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Context;
use super::log::Log;
use crate::derivation::{Derivation, Layer, Outputs, Step};
use crate::fetch::proxy::Outcome;
use crate::lock::NetworkEntry;
use crate::sandbox;
use crate::store::{self, Checkpoint, Checkpoints, Key};

/// Raised when checkpoints of older versions cannot be used any more.
const DOMAIN: &[u8] = b"raptor-checkpoint-1";

/// The checkpoints of one build of a layer.
pub struct Plan {
    kept: Checkpoints,
    layer: String,
    /// Of the checkpoint after a step, by index of the step.
    keys: BTreeMap<usize, Key>,
    /// What the build begins with.
    begin: Option<Begin>,
    /// Packs that the next checkpoint needs, with their sizes.
    packs: Vec<(Key, u64)>,
    /// Checkpoints of this build, those that it begins with included.
    chain: BTreeMap<Key, Checkpoint>,
}

struct Begin {
    idx: usize,
    key: Key,
    network: Vec<NetworkEntry>,
}

/// Where a build begins.
pub struct Resume {
    /// The last step that is not done again, counted from 1.
    pub step: usize,
    /// What the steps so far had written.
    pub log: PathBuf,
}

impl Plan {
    /// Looks for what an earlier build has left. `None` if there is nothing to keep, or no way to.
    pub fn new(
        ctx: &Context<'_>,
        it: &Layer<Outputs>,
        run_files: &BTreeMap<String, String>,
        mirror: Option<&str>,
    ) -> Option<Plan> {
        let keys = keys(it, run_files, mirror);
        if keys.is_empty() {
            return None;
        }
        // Not being able to look is no reason not to build.
        let kept = ctx.store.checkpoints(&place(it)).ok()??;
        let (packs, chain) = Default::default();
        let mut plan = Plan { kept, layer: it.name.clone(), keys, begin: None, packs, chain };
        plan.look(ctx, it).ok()?;
        Some(plan)
    }

    /// Finds the checkpoint to begin with, and removes what no build can use any more.
    fn look(&mut self, ctx: &Context<'_>, it: &Layer<Outputs>) -> Result<(), store::Error> {
        let whole = self.kept.whole()?;
        let found = self.keys.iter().rev().find_map(|(idx, key)| {
            let checkpoint = whole.get(key)?;
            let network: Vec<NetworkEntry> = serde_json::from_value(checkpoint.memo.clone()).ok()?;
            let valid = is_valid(&network, checkpoint.finished, &it.network, ctx.options.record);
            valid.then_some(Begin { idx: *idx, key: *key, network })
        });
        if let Some(begin) = &found {
            self.packs = whole.get(&begin.key).map(|it| it.packs.clone()).unwrap_or_default();
            let before = self.keys.range(..=begin.idx).filter_map(|(_, key)| whole.get_key_value(key));
            self.chain = before.map(|(key, it)| (*key, it.clone())).collect();
            // The lock will name them, so they must stay, whether a later step asks for them again or not.
            for entry in begin.network.iter().filter(|it| it.size > 0) {
                ctx.store.fetched(&entry.sha256, entry.size)?;
            }
        }
        self.begin = found;
        // Others of the last finished build may still come to use, when the file is changed back. Those that this build
        // takes anew may not, nor may what is made of them.
        let anew: BTreeSet<Key> =
            self.keys.values().filter(|key| !self.chain.contains_key(key)).copied().collect();
        let others = whole
            .into_iter()
            .filter(|(key, it)| it.finished && !anew.contains(key) && !uses_any(it, &anew))
            .collect::<BTreeMap<_, _>>();
        self.kept.retain(&names(self.chain.iter().chain(&others)))
    }

    /// What the sandbox is to do.
    pub fn request(&self) -> sandbox::Checkpoints {
        sandbox::Checkpoints {
            dir: self.kept.dir().to_path_buf(),
            names: self.keys.iter().map(|(idx, key)| (*idx, key.to_string())).collect(),
            resume: self.begin.as_ref().map(|it| it.idx),
        }
    }

    /// Where the build begins, if not at its first step.
    pub fn resume(&self) -> Option<Resume> {
        let begin = self.begin.as_ref()?;
        Some(Resume { step: begin.idx + 1, log: self.kept.log_file(&begin.key) })
    }

    /// What the steps that are not done again saw of the network.
    pub fn answered(&self) -> Vec<NetworkEntry> {
        self.begin.as_ref().map(|it| it.network.clone()).unwrap_or_default()
    }

    /// The sandbox has written the checkpoint after a step. It counts if all requests so far have answers; later ones
    /// are made of it in any case. The error says why it does not count.
    pub fn taken(&mut self, idx: usize, asked: Option<Outcome>, log: &mut Log) -> Result<(), String> {
        let Some(key) = self.keys.get(&idx).copied() else { return Ok(()) };
        let checkpoint = self.checkpoint(idx, key).map_err(|err| err.to_string())?;
        let asked = asked.ok_or("a request of a step that is over goes on")?;
        if let Some(refused) = asked.refused.first() {
            return Err(format!("{} {} has no answer", refused.method, refused.url));
        }
        let keep = || -> Result<Checkpoint, store::Error> {
            log.keep(&self.kept.log_file(&key))?;
            let memo = serde_json::to_value(&asked.used).map_err(std::io::Error::from)?;
            let checkpoint = Checkpoint { memo, ..checkpoint };
            self.kept.publish(&key, &checkpoint)?;
            Ok(checkpoint)
        };
        let checkpoint = keep().map_err(|err| err.to_string())?;
        self.chain.insert(key, checkpoint);
        Ok(())
    }

    /// The record of a checkpoint that was just written, but for the network.
    fn checkpoint(&mut self, idx: usize, key: Key) -> Result<Checkpoint, store::Error> {
        self.packs.push((key, self.kept.pack_size(&key)?));
        Ok(Checkpoint {
            layer: self.layer.clone(),
            step: idx + 1,
            packs: self.packs.clone(),
            manifest: self.kept.manifest_hash(&key)?,
            finished: false,
            memo: serde_json::Value::Null,
        })
    }

    /// What the build began with is damaged: nothing counts any more.
    pub fn forget(&mut self) {
        (self.begin, self.packs, self.chain) = Default::default();
        // What cannot be removed is made anew, or does not match when it is looked for.
        let _ = self.kept.retain(&BTreeSet::new());
    }

    /// The layer is finished: its checkpoints take the place of all others.
    pub fn finish(mut self) {
        // Those that stay behind go when the next build begins.
        let _ = self.mark_finished();
    }

    fn mark_finished(&mut self) -> Result<(), store::Error> {
        for (key, checkpoint) in &mut self.chain {
            if !checkpoint.finished {
                checkpoint.finished = true;
                self.kept.publish(key, checkpoint)?;
            }
        }
        self.kept.retain(&names(&self.chain))
    }
}

/// Where checkpoints of a layer are: builds of a layer of the same name on the same parents share them.
fn place(it: &Layer<Outputs>) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN).update(b"\0").update(it.name.as_bytes()).update(b"\0");
    for parent in it.parent.iter().flat_map(|parent| &parent.0) {
        hasher.update(parent.to_string().as_bytes());
    }
    Key::new(*hasher.finalize().as_bytes())
}

/// Keys of the checkpoints that a layer can have: after each RUN with a step behind it. Everything that the steps so
/// far see is in them, but for the network.
fn keys(
    it: &Layer<Outputs>,
    run_files: &BTreeMap<String, String>,
    mirror: Option<&str>,
) -> BTreeMap<usize, Key> {
    let runs = it.steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Run { .. }));
    let runs = runs.map(|(idx, _)| idx).filter(|idx| idx + 1 < it.steps.len());
    runs.map(|idx| {
        let steps = it.steps.iter().take(idx + 1).cloned().collect();
        let so_far = Derivation::Layer(Layer { steps, network: Vec::new(), ..it.clone() });
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN).update(b"\0").update(&so_far.key());
        let words = run_files.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]);
        for word in words.chain(mirror) {
            hasher.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
        }
        (idx, Key::new(*hasher.finalize().as_bytes()))
    })
    .collect()
}

/// Whether steps that saw this of the network would see the same now.
///
/// What the lock says counts. What it does not say may be asked again if it can be recorded, and then it may have been
/// asked by a build that failed later; but when the build was finished, the lock did say it, and somebody has taken it
/// out in order to have it anew.
fn is_valid(seen: &[NetworkEntry], finished: bool, locked: &[NetworkEntry], record: bool) -> bool {
    seen.iter().all(|entry| match locked.iter().find(|it| it.is_same_request(entry)) {
        Some(locked) => locked == entry,
        None => record && !finished,
    })
}

fn uses_any(it: &Checkpoint, keys: &BTreeSet<Key>) -> bool {
    it.packs.iter().any(|(key, _)| keys.contains(key))
}

/// Names of all files that checkpoints are made of.
fn names<'a>(checkpoints: impl IntoIterator<Item = (&'a Key, &'a Checkpoint)>) -> BTreeSet<Key> {
    let names = |(key, it): (&'a Key, &'a Checkpoint)| {
        it.packs.iter().map(|(key, _)| *key).chain([*key]).collect::<Vec<_>>()
    };
    checkpoints.into_iter().flat_map(names).collect()
}
