//! What a sandbox is asked to do, and what it answers: plain data that knows nothing of derivations.
//!
//! Names of trees are entries of a directory in [`Request::trees`]; no request can name anything else there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use crate::tree::TreeInfo;

/// One sandbox, from empty upper dir to captured result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Directories that hold the trees, seen read-only. A tree is taken from the first that has it.
    pub trees: Vec<PathBuf>,
    /// Existing empty directory on a file system that can be an overlay upper; everything written lands here.
    pub work: PathBuf,
    /// Names of the trees that make up the root, bottom first; may be empty.
    pub lower: Vec<String>,
    /// What becomes of the upper dir.
    pub capture: Capture,
    /// Absolute paths that [`Capture::Layer`] neither empties nor deletes, with what is below them.
    pub keep: Vec<String>,
    /// Bytes that no file of a [`Capture::Layer`] below a mebibyte may have in it: what would not be the same in
    /// another build.
    #[serde(default)]
    pub forbidden: Vec<Vec<u8>>,
    /// Mounts over the root, in order.
    pub mounts: Vec<Mount>,
    /// Files below `/run/raptor` (relative name → text), for settings that must not stay in the layer.
    pub run_files: BTreeMap<String, String>,
    /// The same, for what is another text in each build: it is in no checkpoint, and written anew after one.
    #[serde(default)]
    pub passing_files: BTreeMap<String, String>,
    /// What to do, in order; the first failure ends it.
    pub steps: Vec<Step>,
    /// What the network is.
    pub network: Network,
    /// Latest time stamp of a captured file, in seconds since 1970; also `SOURCE_DATE_EPOCH`.
    pub epoch: i64,
    /// What it may take of the host.
    pub limits: Limits,
    /// Snapshots between steps, of a sandbox without mounts.
    pub checkpoints: Option<Checkpoints>,
}

/// Snapshots between steps: which to take, and which to begin with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoints {
    /// Existing directory, on the file system of the work dir, where they are: `NAME.manifest` and `NAME.pack`.
    pub dir: PathBuf,
    /// Name of the checkpoint after a step, by index of the step.
    pub names: BTreeMap<usize, String>,
    /// The step whose checkpoint to begin with, instead of doing it and those before it.
    pub resume: Option<usize>,
}

/// What becomes of the upper dir.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capture {
    /// Canonicalised, normalised and hashed; left in `work/upper`.
    Layer,
    /// Thrown away.
    Discard,
    /// Kept as it is in `work/upper` for the next run (`raptor run -s`).
    Keep,
}

/// A mount over the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside; made if missing.
    pub dest: String,
    /// What appears there.
    pub source: MountSource,
}

/// What a mount shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A tree, file or directory, read-only.
    Tree(String),
    /// Several trees merged, bottom first, read-only.
    Overlay(Vec<String>),
    /// A small file, read-only.
    Text(String),
    /// An empty directory in memory, to hold other mounts.
    Tmpfs,
    /// An empty directory on disk, thrown away.
    Scratch,
    /// A tree, file or directory, that can be written to; what is written is thrown away.
    Draft(String),
    /// An empty file or directory whose content is captured under this name in `work/out/NAME`.
    Output {
        /// Name in the report; one path component.
        name: String,
        /// A file, else a directory.
        file: bool,
    },
    /// A host path. Makes the run impure.
    Host {
        /// Absolute; must exist.
        path: PathBuf,
        /// Without write access.
        readonly: bool,
    },
    /// A device of the host, for root if the caller is, else for whom its mode lets. Makes the run impure.
    Device(PathBuf),
}

/// What the network is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Loopback, nobody listens.
    None,
    /// Loopback; TCP 80, TCP 443 and UDP 53 of 127.0.0.1 are handed out as [`super::Listeners`].
    Proxy,
    /// The host's. Makes the run impure.
    Host,
}

/// One action inside the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Run a program; `argv[0]` is looked up in the `PATH` of `env`.
    Run {
        /// At least one word.
        argv: Vec<String>,
        /// The whole environment, except what [`super::base_env`] adds.
        env: BTreeMap<String, String>,
        /// Absolute.
        cwd: String,
    },
    /// Fails unless `path` is a directory.
    Workdir {
        /// Absolute.
        path: String,
    },
    /// Writes a file, replacing content but not following a link out of the root.
    Write {
        /// Content.
        text: String,
        /// Absolute.
        path: String,
        /// Mode and owner.
        attrs: Attrs,
    },
    /// Makes a directory.
    Mkdir {
        /// Absolute.
        path: String,
        /// Missing parents too (0755, root), and an existing directory is fine.
        parents: bool,
        /// Mode and owner; mode default 0755.
        attrs: Attrs,
    },
    /// Makes a symbolic link where nothing is yet.
    Symlink {
        /// What the link says.
        target: String,
        /// Absolute.
        path: String,
    },
    /// Copies trees. Into `dest` when that is a directory, ends in `/`, or there are several sources; a
    /// directory source gives its *content* to `dest`.
    Copy {
        /// What to copy.
        sources: Vec<CopySource>,
        /// Absolute, perhaps with a trailing slash.
        dest: String,
        /// Mode and owner; mode default that of the source, owner default root:root.
        attrs: Attrs,
    },
    /// Unpacks the data members of Debian packages over the root, in order. Where a package has a directory and
    /// the root a symbolic link to one, the link stays and is followed (merged `/usr`).
    UnpackDebs {
        /// Names of trees that are `.deb` files.
        debs: Vec<String>,
    },
    /// Unpacks a layer of an image over the root, which is its parents': whiteouts remove what they hide.
    UnpackLayer(LayerBlob),
}

/// A layer of an image: a tar file, perhaps compressed with gzip or zstd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerBlob {
    /// Name of the tree that is the file, or an archive that has it.
    pub tree: String,
    /// Its name in the archive.
    pub member: Option<String>,
    /// sha256 (hex) of the file as it is stored, if known.
    pub sha256: Option<String>,
    /// sha256 (hex) of the tar file.
    pub diff_id: String,
}

/// One source of a copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopySource {
    /// Name of the tree.
    pub tree: String,
    /// File name to give it inside a destination directory.
    pub name: String,
}

/// Mode and owner of a new file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attrs {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User, by name of the container's `/etc/passwd` or number.
    pub user: Option<String>,
    /// Group, by name of the container's `/etc/group` or number.
    pub group: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The layer, if [`Capture::Layer`] was asked for; its content is `work/upper`.
    pub layer: Option<TreeInfo>,
    /// Outputs by name; their content is `work/out/NAME`.
    pub outputs: BTreeMap<String, TreeInfo>,
    /// Exit status of an interactive program, or 128 and the signal that ended it.
    pub status: i32,
}

/// Something that happens while the sandbox works.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Step `idx` begins.
    StepStarted {
        /// Index into [`Request::steps`].
        idx: usize,
    },
    /// Step `idx` succeeded.
    StepDone {
        /// Index into [`Request::steps`].
        idx: usize,
    },
    /// Both files of the checkpoint after step `idx` are written, or there is none for this reason. The next step
    /// waits until the event is handled.
    Checkpoint {
        /// Index into [`Request::steps`].
        idx: usize,
        /// Why there is none.
        problem: Option<String>,
    },
    /// A piece of the program's standard output or error, in order.
    Output(Vec<u8>),
}
