//! Evaluation: modules and jobs to derivations. Pure: it reads files through [`Project`], pins from the lock,
//! and nothing else; it never builds.

mod job;
mod layer;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::program::{self, LogMessage, ModuleId, Program};
use raptor_lang::source::{FileId, Sources, Span};
use raptor_lang::world::World;

use crate::derivation::{self, Derivation, DrvId};
use crate::lock::Lock;
use crate::tree::TreeInfo;

pub use job::{Job, JobInput, JobMount, Planned, command};
pub use layer::layer_name;

/// Files of a project: texts for the language, hashes for COPY.
pub trait Project: World {
    /// What the store will hold when this file or directory is imported; the error is for people.
    fn imported(&self, path: &Path) -> Result<TreeInfo, String>;
}

/// `SOURCE_DATE_EPOCH` of what is built on nothing: 1980-01-01, the first day that every format can name.
pub const DEFAULT_EPOCH: i64 = 315_532_800;

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
    /// Project path of a source.
    pub source: Option<PathBuf>,
}

/// A statement, with the INCLUDEs that led to it, outermost first.
pub type Place = (Span, Vec<Span>);

/// One evaluation; results are shared between all targets asked of it.
pub struct Evaluator<'a> {
    project: &'a dyn Project,
    lock: Lock,
    /// Every file that was read.
    pub sources: Sources,
    /// Problems found so far, warnings included.
    pub diagnostics: Vec<Diagnostic>,
    /// What templates logged.
    pub log: Vec<LogMessage>,
    /// Debian bases that the lock does not pin yet.
    pub unpinned: BTreeSet<String>,
    /// Every derivation so far, with all its inputs.
    pub derivations: BTreeMap<DrvId, Derivation>,
    /// Words for them.
    pub provenance: BTreeMap<DrvId, Provenance>,
    programs: BTreeMap<ModuleId, Result<Arc<Program>, Failed>>,
    layers: BTreeMap<ModuleId, Result<Stack, Failed>>,
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
            sources: Sources::default(),
            diagnostics: Vec::new(),
            log: Vec::new(),
            unpinned: BTreeSet::new(),
            derivations: BTreeMap::new(),
            provenance: BTreeMap::new(),
            programs: BTreeMap::new(),
            layers: BTreeMap::new(),
        }
    }

    /// The program of a module, loaded once.
    pub fn program(&mut self, module: &ModuleId) -> Result<Arc<Program>, Failed> {
        if let Some(known) = self.programs.get(module) {
            return known.clone();
        }
        let loaded = match program::load(self.project, module, &mut self.sources) {
            Ok(loaded) => {
                self.diagnostics.extend(loaded.warnings);
                self.log.extend(loaded.log);
                Ok(Arc::new(loaded.program))
            }
            Err(problems) => {
                self.diagnostics.extend(problems);
                Err(Failed)
            }
        };
        self.programs.insert(module.clone(), loaded.clone());
        loaded
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

    /// The place for problems of a file that no statement stands for.
    fn whole_file(&self, path: &Path) -> Span {
        Span::new(self.sources.find(path).unwrap_or(FileId(0)), 0, 0)
    }

    fn error(&mut self, problem: Diagnostic) -> Failed {
        self.diagnostics.push(problem);
        Failed
    }
}
