//! Why a derivation was not realized.

use crate::derivation::DrvId;
use crate::fetch::{self, proxy::Refusal};
use crate::lock::LockError;
use crate::tree::TreeHash;
use crate::world::ImportError;
use crate::{sandbox, store};

/// A derivation that failed.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub id: DrvId,
    /// What people call it.
    pub name: String,
    /// Why.
    pub error: RealizeError,
}

/// Why a derivation was not realized.
#[derive(Debug, thiserror::Error)]
pub enum RealizeError {
    /// A step failed.
    #[error("step {number} ({text}) failed: {failure}")]
    Step {
        /// Counted from 1; the index into the steps of the derivation is one less.
        number: usize,
        /// The step in words.
        text: String,
        /// Last lines of its output.
        tail: Vec<String>,
        /// Requests that were not answered.
        refused: Vec<Refusal>,
        /// What happened.
        failure: sandbox::StepFailure,
        /// Whether the state is kept, under the id of the derivation.
        kept: Kept,
    },
    /// All steps succeeded, but not without the network.
    #[error("{} of the network could not be answered from the lock", count(refused.len()))]
    Network {
        /// The requests.
        refused: Vec<Refusal>,
        /// The first step that made one of them, counted from 1, with its text.
        step: Option<(usize, String)>,
    },
    /// A file of the layer holds a certificate of the recording proxy.
    #[error("{0} holds the certificate of the recording proxy, which every build makes anew")]
    Certificate(String),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file of the build could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Fetching failed.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// A source could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The lock could not be written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The proxy could not start.
    #[error("cannot start the recording proxy: {0}")]
    Proxy(fetch::Error),
    /// A source is neither in the store nor known as a file.
    #[error("the source {name} ({tree}) is not in the store; evaluate the target again to import it")]
    UnknownSource {
        /// File name.
        name: String,
        /// Its hash.
        tree: TreeHash,
    },
    /// A derivation names one that is not there.
    #[error("the derivation {0} is not in the store")]
    UnknownInput(DrvId),
    /// A run did not report its output.
    #[error("the run has no output")]
    NoOutput,
    /// A bug.
    #[error("raptor panicked; this is a bug")]
    Panicked,
    /// Stopped from outside.
    #[error("interrupted")]
    Cancelled,
}

/// What became of the state in which a step failed.
#[derive(Debug)]
pub enum Kept {
    /// It is gone, as nobody wanted it.
    No,
    /// It is in the store.
    Yes,
    /// It was wanted and is gone, for somebody is looking at that of an earlier failure.
    Busy,
    /// It was wanted and is gone: why.
    Problem(Box<RealizeError>),
}

fn count(n: usize) -> String {
    match n {
        1 => "1 request".to_owned(),
        n => format!("{n} requests"),
    }
}
