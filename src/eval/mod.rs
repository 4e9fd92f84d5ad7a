//! Evaluation: modules and jobs to derivations. Pure: it reads files through [`Project`], pins from the lock,
//! and nothing else; it never builds.

mod fetch;
mod findings;
mod image;
mod job;
mod layer;
mod modules;
mod reference;
mod registry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::manifest::{Distribution, Manifest};
use raptor_lang::pattern::Excludes;
use raptor_lang::program::{LogMessage, ModuleId};
use raptor_lang::source::{Sources, Span};
use raptor_lang::world::World;

use crate::derivation::{self, Derivation, DrvId, Fetch};
use crate::image::ImageSettings;
use crate::lock::Lock;
use crate::tree::TreeInfo;
use findings::{Findings, Found};
use modules::Modules;

pub use job::{Job, JobInput, JobMount, Planned, command, impure_reason};
pub use layer::layer_name;
pub use reference::Base;

/// Files of a project: texts for the language, hashes for COPY.
pub trait Project: World {
    /// What the store will hold when this is imported; the error is for people.
    fn imported(&self, source: &SourceFile) -> Result<TreeInfo, String>;

    /// All of a file, if it is not larger than keys are.
    fn key_file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// A small file of an image, which is a directory or a tar file; `None` if it has none of that name.
    fn image_part(&self, image: &Path, name: &str) -> Result<Option<Vec<u8>>, String>;
}

/// A file or directory of the project that is imported into the store.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFile {
    /// Path as the world knows it.
    pub path: PathBuf,
    /// What of a directory stays behind.
    pub exclude: Excludes,
}

impl SourceFile {
    /// All of a file or directory.
    pub fn whole(path: &Path) -> SourceFile {
        SourceFile { path: path.to_path_buf(), exclude: Excludes::default() }
    }
}

/// `SOURCE_DATE_EPOCH` of what is built on nothing: 1980-01-01, the first day that every format can name.
pub const DEFAULT_EPOCH: i64 = crate::image::FIRST_DAY;

/// The evaluation could not be finished; the reasons are in the evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Where the people's words for a derivation are: for messages only, never part of a result.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Module of a layer.
    pub module: Option<ModuleId>,
    /// Statement of each step.
    pub steps: Vec<Place>,
    /// Statement that names a base or a file of the network.
    pub place: Option<Place>,
    /// Where a source comes from.
    pub source: Option<SourceFile>,
    /// The image that a layer belongs to.
    pub image: Option<BaseImage>,
}

/// An image that somebody else made.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// What FROM calls it.
    pub name: String,
    /// What it runs, by its own account.
    pub command: Vec<String>,
    /// All that it says about running it.
    pub settings: SettingsAt,
}

/// Where the settings of an image are.
#[derive(Clone, Debug)]
pub enum SettingsAt {
    /// They have been read.
    Here(ImageSettings),
    /// In its configuration, which the lock pins.
    Fetched(Fetch),
}

/// A statement, with the INCLUDEs that led to it, outermost first.
pub type Place = (Span, Vec<Span>);

/// Something of the network that only the lock can pin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unpinned {
    /// A Debian base: the text after `debian://`.
    Debian(String),
    /// An image of a registry: the text after `docker://`.
    Docker(String),
    /// The file of a FETCH without digest: its URLs, the first choice first; never empty.
    File(Vec<String>),
}

impl std::fmt::Display for Unpinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unpinned::Debian(reference) => write!(f, "debian://{reference}"),
            Unpinned::Docker(reference) => write!(f, "docker://{reference}"),
            Unpinned::File(urls) => f.write_str(urls.first().map_or("", String::as_str)),
        }
    }
}

/// One evaluation; results are shared between all targets asked of it.
///
/// Modules are loaded and turned into layers on all processors. What they bring up counts once a target asks for it,
/// and then in the order of the files, so that threads never show in a result.
pub struct Evaluator<'a> {
    project: &'a dyn Project,
    lock: Lock,
    debian: BTreeMap<String, Distribution>,
    /// Every file that was read.
    pub sources: Sources,
    /// Problems found so far, warnings included.
    pub diagnostics: Vec<Diagnostic>,
    /// What templates logged.
    pub log: Vec<LogMessage>,
    /// What the lock does not pin yet, with the first statement that wants it.
    pub unpinned: BTreeMap<Unpinned, Place>,
    /// Every derivation so far, with all its inputs.
    pub derivations: BTreeMap<DrvId, Derivation>,
    /// Words for them.
    pub provenance: BTreeMap<DrvId, Provenance>,
    modules: Modules,
}

/// Layers of a target, bottom first.
pub type Stack = Vec<StackLayer>;

/// One layer of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackLayer {
    /// Name for people and mounts.
    pub name: String,
    /// Its derivation.
    pub id: DrvId,
    /// Its epoch.
    pub epoch: i64,
}

impl<'a> Evaluator<'a> {
    /// An evaluator that has seen nothing yet.
    pub fn new(project: &'a dyn Project, lock: Lock) -> Evaluator<'a> {
        Evaluator {
            project,
            lock,
            debian: BTreeMap::new(),
            sources: Sources::default(),
            diagnostics: Vec::new(),
            log: Vec::new(),
            unpinned: BTreeMap::new(),
            derivations: BTreeMap::new(),
            provenance: BTreeMap::new(),
            modules: Modules::default(),
        }
    }

    /// The same in a project with this Raptor.toml, whose text is among `sources`.
    pub fn with_manifest(mut self, manifest: &Manifest, sources: &Sources) -> Evaluator<'a> {
        self.debian.clone_from(&manifest.debian);
        self.sources.clone_from(sources);
        self
    }

    /// Whether any problem so far is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|it| it.severity() == Severity::Error)
    }

    /// `ids` with all their inputs, inputs first.
    pub fn closure(&self, ids: &[DrvId]) -> Vec<DrvId> {
        derivation::closure(&self.derivations, ids)
    }

    fn add(&mut self, derivation: Derivation, provenance: Provenance) -> DrvId {
        let id = derivation.id();
        self.derivations.insert(id, derivation);
        self.provenance.entry(id).or_insert(provenance);
        id
    }

    fn error(&mut self, problem: Diagnostic) -> Failed {
        self.diagnostics.push(problem);
        Failed
    }

    fn findings(&self) -> Findings<'_> {
        Findings::new(self.project, &self.lock, &self.debian)
    }

    fn join(&mut self, found: Found) {
        self.diagnostics.extend(found.diagnostics);
        for (wanted, place) in found.unpinned {
            self.unpinned.entry(wanted).or_insert(place);
        }
        for (id, derivation, provenance) in found.derivations {
            self.derivations.insert(id, derivation);
            self.provenance.entry(id).or_insert(provenance);
        }
    }
}
