//! Derivations: complete, immutable descriptions of one build each. Specified in `spec/derivation.md`.
//!
//! A derivation is generic over how it names its inputs: [`DrvId`] as evaluated, [`Outputs`] once these are
//! realized. The id is the hash of the first form, the cache key the hash of the second.

mod bootstrap;
mod canonical;
mod id;
mod inputs;

use std::collections::BTreeMap;

use raptor_lang::stmt::Digest;
use serde::{Deserialize, Serialize};

use crate::lock::NetworkEntry;
use crate::tree::TreeHash;

pub use bootstrap::{Bootstrap, KeyFile, Repository};
pub use canonical::canonical_json;
pub use id::DrvId;
pub use inputs::{Outputs, Part, closure};

/// Version of what a sandbox does to a build; raised when the same derivation would give other bytes.
pub const SANDBOX: u32 = 4;

/// The only system built so far.
pub const SYSTEM: &str = "x86_64-linux";

/// One build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Derivation<R = DrvId> {
    /// Project files, by content.
    Source(Source),
    /// A file of the network.
    Fetch(Fetch),
    /// A Debian root.
    Bootstrap(Bootstrap<R>),
    /// A layer of an image on its parents.
    Image(Image<R>),
    /// A parent stack and steps.
    Layer(Layer<R>),
    /// A container, mounts and a command.
    Run(Run<R>),
}

/// A file or directory of the project, as it is after import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// File name, for people.
    pub name: String,
    /// Its tree hash.
    pub tree: TreeHash,
}

/// A file of the network, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// File name, for people.
    pub name: String,
    /// Places to get it from, tried in order.
    pub urls: Vec<String>,
    /// What it is.
    pub digest: Digest,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
}

/// One layer of an image that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image<R> {
    /// For people.
    pub name: String,
    /// `x86_64-linux`
    pub system: String,
    /// [`SANDBOX`]
    pub sandbox: u32,
    /// The layers below it.
    pub parent: Option<R>,
    /// The file that is the layer, or the archive that has it.
    pub source: R,
    /// Its name in the archive.
    pub member: Option<String>,
    /// sha256 (hex) of the layer as it is stored, if the image names it.
    pub sha256: Option<String>,
    /// sha256 (hex) of the tar file that it is when decompressed.
    pub diff_id: String,
    /// Latest time stamp, in seconds since 1970.
    pub epoch: i64,
}

/// One layer: what one `.rapt` file adds to its base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer<R> {
    /// For people, logs and the lock.
    pub name: String,
    /// `x86_64-linux`
    pub system: String,
    /// [`SANDBOX`]
    pub sandbox: u32,
    /// What it builds on; nothing for `FROM` nothing.
    pub parent: Option<R>,
    /// What happens, in order.
    pub steps: Vec<Step<R>>,
    /// What the RUN steps may see of the network.
    pub network: Vec<NetworkEntry>,
    /// Absolute paths that stay as the steps left them, with what is below them; sorted. Left out when empty, as in
    /// the time before there was such a thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Latest time stamp, in seconds since 1970.
    pub epoch: i64,
}

/// One step of a layer. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step<R> {
    /// Run a program.
    Run {
        /// At least one word.
        argv: Vec<String>,
        /// ENV so far.
        env: BTreeMap<String, String>,
        /// WORKDIR so far.
        cwd: String,
    },
    /// Check that a WORKDIR is there.
    Workdir {
        /// The directory.
        path: String,
    },
    /// Write a text.
    Write {
        /// Content.
        text: String,
        /// Where.
        path: String,
        /// Mode and owner.
        attrs: Attrs,
    },
    /// Make a directory.
    Mkdir {
        /// Where.
        path: String,
        /// Parents too.
        parents: bool,
        /// Mode and owner.
        attrs: Attrs,
    },
    /// Copy sources.
    Copy {
        /// What.
        sources: Vec<CopySource<R>>,
        /// Where.
        dest: String,
        /// Mode and owner.
        attrs: Attrs,
    },
}

/// One source of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySource<R> {
    /// File name inside a destination directory.
    pub name: String,
    /// A [`Source`] or [`Fetch`].
    pub source: R,
}

/// Mode and owner of a new file; what is absent has the default of the operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attrs {
    /// Permission bits as four octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// User name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A command in a container, with its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run<R> {
    /// For people and logs.
    pub name: String,
    /// `x86_64-linux`
    pub system: String,
    /// [`SANDBOX`]
    pub sandbox: u32,
    /// The layer whose stack is the root.
    pub container: R,
    /// Entrypoint and arguments.
    pub argv: Vec<String>,
    /// Environment of the job.
    pub env: BTreeMap<String, String>,
    /// What is mounted, in order; exactly one is the output.
    pub mounts: Vec<RunMount<R>>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: i64,
}

/// One mount of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunMount<R> {
    /// Layers of targets, one entry each, and `raptor.json`.
    Layers {
        /// Where.
        dest: String,
        /// The targets in the order given.
        targets: Vec<LayersTarget<R>>,
    },
    /// Whole stacks, merged.
    Overlay {
        /// Where.
        dest: String,
        /// The layer on top.
        stack: R,
    },
    /// One tree: a file or directory.
    Tree {
        /// Where.
        dest: String,
        /// A source, a layer's own tree, or the output of another run.
        tree: R,
    },
    /// An empty directory that is thrown away.
    Scratch {
        /// Where.
        dest: String,
    },
    /// The output.
    Output {
        /// Where the command writes it.
        dest: String,
        /// A file, else a directory.
        file: bool,
    },
}

/// One target of a `layers` mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayersTarget<R> {
    /// Name as given by the user.
    pub name: String,
    /// Its layers, bottom first.
    pub layers: Vec<LayerEntry<R>>,
}

/// One entry of a `layers` mount; it appears as `NAME-HHHHHHHHHHHHHHHH`, with digits of the hash of `layer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerEntry<R> {
    /// Name of the layer.
    pub name: String,
    /// The layer.
    pub layer: R,
    /// What is shown: the layer itself, or the run of the `--each` builder on it.
    pub shown: R,
}

impl<R> Derivation<R> {
    /// What kind it is, as in its JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Derivation::Source(_) => "source",
            Derivation::Fetch(_) => "fetch",
            Derivation::Bootstrap(_) => "bootstrap",
            Derivation::Image(_) => "image",
            Derivation::Layer(_) => "layer",
            Derivation::Run(_) => "run",
        }
    }

    /// Whether programs or steps run for it, whose output is kept.
    pub fn has_log(&self) -> bool {
        match self {
            Derivation::Source(_) | Derivation::Fetch(_) => false,
            Derivation::Bootstrap(_) | Derivation::Image(_) | Derivation::Layer(_) | Derivation::Run(_) => {
                true
            }
        }
    }
}

impl Derivation<DrvId> {
    /// The id: blake3 of the canonical JSON.
    pub fn id(&self) -> DrvId {
        DrvId::of(self)
    }

    /// The first layer's name or whatever people call it.
    pub fn name(&self) -> &str {
        match self {
            Derivation::Source(it) => &it.name,
            Derivation::Fetch(it) => &it.name,
            Derivation::Bootstrap(it) => &it.name,
            Derivation::Image(it) => &it.name,
            Derivation::Layer(it) => &it.name,
            Derivation::Run(it) => &it.name,
        }
    }
}
