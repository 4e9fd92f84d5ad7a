//! What can go wrong with a sandbox, in words for the user.
//!
//! Inside the sandbox a failure is a [`Trouble`] (one sentence); it crosses to the engine as a [`Fault`].

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::limits::Limit;

/// Why a sandbox gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed; what the program said went through [`super::Event::Output`].
    #[error("step {} failed: {failure}", .idx + 1)]
    StepFailed {
        /// Index into [`super::Request::steps`].
        idx: usize,
        /// How.
        failure: StepFailure,
    },
    /// The program of an interactive sandbox does not run: one sentence that names it.
    #[error("{0}")]
    NotStarted(String),
    /// An output file is still empty after all steps.
    #[error("the output `{0}` was not written")]
    EmptyOutput(String),
    /// A file of the layer has what is forbidden; its path inside.
    #[error("{0} has something of this one build in it")]
    Forbidden(String),
    /// The checkpoint to begin with is damaged.
    #[error("the checkpoint is damaged: {0}")]
    Checkpoint(String),
    /// The sandbox could not be made, or its result not be taken.
    #[error("sandbox: {0}")]
    Setup(String),
    /// Cancelled by the caller.
    #[error("cancelled")]
    Cancelled,
    /// This program could not be started a second time.
    #[error("cannot start {exe} for the sandbox: {source}")]
    Launch {
        /// The program.
        exe: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The user has no range of subordinate ids.
    #[error("user {user} has no range of ids in {file}; run as root: {fix}")]
    NoSubIds {
        /// Name or number of the user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// Command that adds a range.
        fix: String,
    },
    /// The range of subordinate ids is too small for the users and groups of an image.
    #[error("user {user} has only {count} ids in {file}, and {least} are needed; run as root: {fix}")]
    FewSubIds {
        /// Name or number of the user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// Size of the largest range.
        count: u32,
        /// Size that is needed.
        least: u32,
        /// Command that adds a range.
        fix: String,
    },
    /// The setuid helpers are missing.
    #[error("the program {0} is missing; run as root: apt-get install uidmap")]
    NoUidmap(&'static str),
    /// The system forbids user namespaces.
    #[error("this system forbids user namespaces to you ({setting}); run as root: {fix}")]
    NoUserNamespaces {
        /// The setting that forbids them.
        setting: &'static str,
        /// Command that allows them.
        fix: &'static str,
    },
}

/// How a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepFailure {
    /// The program ended with this status.
    Exit(i32),
    /// The program was ended by this signal.
    Signal(i32),
    /// It took more of the host than it may.
    Limit(Limit),
    /// The program could not be started, or a file step failed: one sentence that names the path.
    Message(String),
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepFailure::Exit(status) => write!(f, "exit status {status}"),
            StepFailure::Signal(signal) => write!(f, "killed by signal {signal}"),
            StepFailure::Limit(limit) => write!(f, "{limit}"),
            StepFailure::Message(message) => f.write_str(message),
        }
    }
}

/// A failure on its way to the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    Setup(String),
    Step {
        idx: usize,
        failure: StepFailure,
    },
    EmptyOutput(String),
    Forbidden(String),
    /// During whatever step was running.
    Limit(Limit),
    Checkpoint(String),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Fault {
        Fault::Setup(trouble.0)
    }
}

impl Fault {
    /// The error for a sandbox that was in this step.
    pub fn into_error(self, step: Option<usize>) -> Error {
        match (self, step) {
            (Fault::Setup(message), _) => Error::Setup(message),
            (Fault::Step { idx, failure }, _) => Error::StepFailed { idx, failure },
            (Fault::EmptyOutput(name), _) => Error::EmptyOutput(name),
            (Fault::Forbidden(path), _) => Error::Forbidden(path),
            (Fault::Limit(limit), Some(idx)) => Error::StepFailed { idx, failure: StepFailure::Limit(limit) },
            (Fault::Limit(limit), None) => Error::Setup(limit.to_string()),
            (Fault::Checkpoint(why), _) => Error::Checkpoint(why),
        }
    }
}

/// One sentence that says what failed, on which path, and why.
#[derive(Debug)]
pub(super) struct Trouble(pub String);

/// Adds to an error what was being done.
pub(super) trait Context<T> {
    /// Prefixes the error with `what`.
    fn context<W: fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T, Trouble>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context<W: fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T, Trouble> {
        self.map_err(|err| Trouble(format!("{}: {err}", what())))
    }
}

impl From<std::io::Error> for Trouble {
    /// For errors of `fs_err`, which name their path already.
    fn from(err: std::io::Error) -> Trouble {
        Trouble(err.to_string())
    }
}

impl From<crate::tree::TreeError> for Trouble {
    fn from(err: crate::tree::TreeError) -> Trouble {
        Trouble(err.to_string())
    }
}
