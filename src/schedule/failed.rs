//! The state in which a step failed: what is kept of it, and the sandbox in which people look at it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Kept, RealizeError};
use crate::derivation::DrvId;
use crate::sandbox::{self, Capture, InteractRequest, Launcher, Limits, MountSource, Network, Request, Step};
use crate::store::{self, Store};

/// Everything that is needed to see a failed step's files as it saw them, beside the files and the trees below.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedState {
    /// What people call the derivation.
    pub name: String,
    /// The step, counted from 1.
    pub number: usize,
    /// The step in words.
    pub text: String,
    /// The sandbox that it failed in.
    request: Request,
}

/// Keeps what a failed sandbox has left in its work dir.
pub(super) fn keep(store: &Store, launcher: &Launcher, id: &DrvId, state: &FailedState) -> Kept {
    let work = &state.request.work;
    // The overlay's own part of it is of no use to anybody, and not of the user's ids.
    let removed = sandbox::remove(launcher, &work.join("work")).map_err(RealizeError::from);
    match removed.and_then(|()| Ok(store.keep_failed(&id.to_string(), work, state)?)) {
        Ok(true) => Kept::Yes,
        Ok(false) => Kept::Busy,
        Err(problem) => Kept::Problem(Box::new(problem)),
    }
}

impl FailedState {
    /// Of a sandbox that failed in this step.
    pub(super) fn new(name: &str, number: usize, text: &str, request: &Request) -> FailedState {
        // Its files are as the step left them, not as a checkpoint has them.
        // What is of one build alone goes with it.
        let request = Request { checkpoints: None, passing_files: Default::default(), ..request.clone() };
        FailedState { name: name.to_owned(), number, text: text.to_owned(), request }
    }

    /// Names of the trees below the state.
    pub fn trees(&self) -> Vec<String> {
        let mut trees = self.request.lower.clone();
        for mount in &self.request.mounts {
            match &mount.source {
                MountSource::Tree(tree) => trees.push(tree.clone()),
                MountSource::Overlay(overlaid) => trees.extend_from_slice(overlaid),
                _ => {}
            }
        }
        trees
    }

    /// A program in the state kept in `dir`, with environment and directory of the step that failed. There is no
    /// network, and what changes is thrown away.
    pub fn interaction(&self, store: &Store, dir: &Path, argv: &[String], limits: Limits) -> InteractRequest {
        // Names that are no hashes cannot be those of other trees.
        let own = ["", "out", "scratch"].map(|it| dir.join(it));
        let mut request = Request {
            trees: own.into_iter().filter(|it| it.is_dir()).chain(store.trees()).collect(),
            capture: Capture::Discard,
            network: Network::None,
            steps: Vec::new(),
            limits,
            ..self.request.clone()
        };
        request.lower.push("upper".to_owned());
        for (idx, mount) in request.mounts.iter_mut().enumerate() {
            match &mount.source {
                MountSource::Scratch => mount.source = MountSource::Draft(idx.to_string()),
                MountSource::Output { name, .. } => mount.source = MountSource::Draft(name.clone()),
                _ => {}
            }
        }
        let (env, cwd) = self.surroundings();
        let shell = || env.get("SHELL").cloned().unwrap_or_else(|| "/bin/sh".to_owned());
        let argv = if argv.is_empty() { vec![shell()] } else { argv.to_vec() };
        InteractRequest { request, argv, env, cwd }
    }

    /// Environment and directory of the failed step, or of the last program before it.
    fn surroundings(&self) -> (BTreeMap<String, String>, String) {
        let runs = self.request.steps.iter().take(self.number).rev().find_map(|step| match step {
            Step::Run { env, cwd, .. } => Some((env.clone(), cwd.clone())),
            _ => None,
        });
        runs.unwrap_or_else(|| (BTreeMap::new(), "/".to_owned()))
    }
}

/// The state of a derivation that is kept, if this version understands it.
pub fn failed_state(store: &Store, id: &DrvId) -> Result<Option<store::Failed<FailedState>>, store::Error> {
    store.failed(&id.to_string())
}
