//! What the evaluation of one module finds: collected by itself, since modules are evaluated on several threads.

use std::collections::BTreeMap;

use raptor_lang::diag::Diagnostic;
use raptor_lang::manifest::Distribution;

use super::{Failed, Place, Project, Provenance, SourceFile, Unpinned};
use crate::derivation::{Derivation, DrvId, Source};
use crate::lock::Lock;
use crate::tree::TreeInfo;

/// Findings, and what they are made from.
pub(super) struct Findings<'e> {
    pub(super) project: &'e dyn Project,
    pub(super) lock: &'e Lock,
    pub(super) debian: &'e BTreeMap<String, Distribution>,
    pub(super) found: Found,
}

/// Findings alone.
#[derive(Default)]
pub(super) struct Found {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) unpinned: BTreeMap<Unpinned, Place>,
    pub(super) derivations: Vec<(DrvId, Derivation, Provenance)>,
}

impl Found {
    /// Adds what was found later.
    pub(super) fn append(&mut self, later: Found) {
        self.diagnostics.extend(later.diagnostics);
        self.derivations.extend(later.derivations);
        for (wanted, place) in later.unpinned {
            self.unpinned.entry(wanted).or_insert(place);
        }
    }
}

impl<'e> Findings<'e> {
    /// None so far.
    pub(super) fn new(
        project: &'e dyn Project,
        lock: &'e Lock,
        debian: &'e BTreeMap<String, Distribution>,
    ) -> Findings<'e> {
        Findings { project, lock, debian, found: Found::default() }
    }

    pub(super) fn add(&mut self, derivation: Derivation, provenance: Provenance) -> DrvId {
        let id = derivation.id();
        self.found.derivations.push((id, derivation, provenance));
        id
    }

    pub(super) fn error(&mut self, problem: Diagnostic) -> Failed {
        self.found.diagnostics.push(problem);
        Failed
    }

    pub(super) fn unpinned(&mut self, wanted: Unpinned, place: Place) -> Failed {
        self.found.unpinned.entry(wanted).or_insert(place);
        Failed
    }

    /// The derivation of a project file or directory, with its file name and size.
    pub(super) fn project_source(&mut self, file: &SourceFile) -> Result<(String, DrvId, TreeInfo), String> {
        let info = self.project.imported(file)?;
        let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy().into_owned();
        let source = Derivation::Source(Source { name: name.clone(), tree: info.hash });
        let provenance = Provenance { source: Some(file.clone()), ..Provenance::default() };
        Ok((name, self.add(source, provenance), info))
    }
}
