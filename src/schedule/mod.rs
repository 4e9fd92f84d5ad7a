//! The scheduler: realizes a graph of derivations in parallel, each once, reusing what the store has.

pub mod apt;
pub mod bootstrap;
mod checkpoints;
mod error;
mod failed;
mod graph;
mod known;
mod log;
pub mod mirrors;
mod net;
mod once;
mod plan;
mod realize;
mod words;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use crate::derivation::{Derivation, DrvId, Outputs};
use crate::eval::Provenance;
use crate::fetch::Client;
use crate::fetch::debian::{Mirror, MirrorError, MirrorKind};
use crate::lock::{LockError, NetworkEntry};
use crate::sandbox::{Launcher, Limits};
use crate::store::{Store, Times};
use crate::world::Files;

pub use error::{Failure, Kept, RealizeError};
pub use failed::{FailedState, failed_state};
pub use graph::realize;
pub use known::{Origins, bodies, key_of, recall, remember, remember_recorded};
pub use log::{follow_log, read_log};
pub use plan::{Estimate, Plan, Status, Task, time_name};
pub use words::{LayersMount, layer_entry_name, layers_mount};

/// What realizing needs from outside.
pub struct Context<'a> {
    /// Where results go.
    pub store: Store,
    /// Starts sandboxes.
    pub launcher: Launcher,
    /// Reaches the network.
    pub client: Client,
    /// Finds the Debian mirrors to fetch from; asked only when something must be fetched.
    pub mirror: &'a (dyn Fn(MirrorKind) -> Result<Mirror, MirrorError> + Sync),
    /// How to go about it.
    pub options: Options,
    /// Set from outside to stop at once.
    pub cancel: &'a AtomicBool,
    /// How long things took before: what much work waits for is begun first.
    pub times: &'a Times,
    /// Told of everything that happens.
    pub observer: &'a dyn Observer,
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Derivations at a time, at least one.
    pub jobs: usize,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Requests of RUN steps that the lock does not have are made and recorded; else they are errors.
    pub record: bool,
    /// Nothing is fetched.
    pub offline: bool,
    /// What each sandbox may take of the host.
    pub limits: Limits,
    /// The state in which a step fails is kept in the store.
    pub keep_failed: bool,
    /// Layers begin after the last step that an earlier build has done in the same way.
    pub checkpoints: bool,
}

/// Keeps what the layer of this name saw of the network.
pub type Recorder<'a> = dyn Fn(&str, &[NetworkEntry]) -> Result<(), LockError> + Sync + 'a;

/// What is kept of the network for the layer of this name, as of now.
pub type Recorded<'a> = dyn Fn(&str) -> Result<Option<Vec<NetworkEntry>>, LockError> + Sync + 'a;

/// What to realize.
#[derive(Clone, Copy)]
pub struct Goals<'a> {
    /// At least the closure of the goals.
    pub derivations: &'a BTreeMap<DrvId, Derivation>,
    /// Words for messages, and where sources come from.
    pub provenance: &'a BTreeMap<DrvId, Provenance>,
    /// Files that sources are imported from, if they are not in the store.
    pub files: Option<&'a Files>,
    /// What is wanted.
    pub goals: &'a [DrvId],
    /// Keeps what a layer saw of the network, at once, so that a later failure does not lose it.
    pub recorder: &'a Recorder<'a>,
    /// Tells what other processes have recorded meanwhile.
    pub recorded: &'a Recorded<'a>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Realization {
    /// Outputs of every derivation that was looked at.
    pub outputs: BTreeMap<DrvId, Outputs>,
    /// How many were built.
    pub built: usize,
    /// How many the store had.
    pub reused: usize,
}

/// Watches a build. Calls come from several threads.
pub trait Observer: Sync {
    /// Something happened.
    fn event(&self, event: Progress<'_>);
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// What will be looked at.
    Planned {
        /// All of it.
        plan: &'a Plan,
        /// How many derivations are built at a time.
        jobs: usize,
    },
    /// Work on a derivation begins.
    Started {
        /// Which.
        id: DrvId,
        /// Its description.
        derivation: &'a Derivation,
        /// Which of those at a time it is, counted from 0.
        slot: usize,
    },
    /// The first steps were done before, and are not done again.
    Resumed {
        /// Of which derivation.
        id: DrvId,
        /// The step to begin with, counted from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// A step begins.
    Step {
        /// Of which derivation.
        id: DrvId,
        /// Counted from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// Its text.
        text: &'a str,
    },
    /// A step succeeded.
    StepDone {
        /// Of which derivation.
        id: DrvId,
        /// Counted from 1.
        number: usize,
    },
    /// A step printed something.
    Output {
        /// Of which derivation.
        id: DrvId,
        /// What.
        bytes: &'a [u8],
    },
    /// Bytes of its downloads have come in.
    Fetched {
        /// For which derivation.
        id: DrvId,
        /// How many now.
        bytes: u64,
        /// Of how many in all, if known.
        total: Option<u64>,
        /// How many files they belong to, those that are still coming included.
        files: usize,
    },
    /// A derivation is realized.
    Done {
        /// Which.
        id: DrvId,
        /// Its description.
        derivation: &'a Derivation,
        /// The store had it.
        reused: bool,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// It failed.
    Failed {
        /// Which.
        id: DrvId,
        /// Its description.
        derivation: &'a Derivation,
    },
}
