//! Roots: which trees the results of projects need, so that `gc` keeps them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Key, Result, Store, record};
use crate::tree::TreeHash;

/// Results of one target that are remembered, however many `gc` is told to keep.
const MAX_RESULTS: usize = 32;

/// What a project needs for one of its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Directory of the project; when it is gone, so is the root.
    pub project: PathBuf,
    /// What was built there.
    pub target: String,
    /// Where the result was put outside the store, if anywhere; when that is gone, so is the root.
    pub placed: Option<PathBuf>,
    /// Results, the newest last; never empty.
    pub results: Vec<RootResult>,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootResult {
    /// When it was first built, in seconds since 1970.
    pub made: u64,
    /// Id of the derivation.
    pub derivation: String,
    /// The result itself.
    pub output: TreeHash,
    /// Everything that is needed to find nothing to do when it is built again.
    pub trees: Vec<TreeHash>,
    /// Fetched bodies that building it again would ask for.
    pub bodies: Vec<Key>,
}

impl Root {
    /// Whether what the root is for is still there. What cannot be looked at counts as there.
    pub fn is_alive(&self) -> bool {
        let gone = |path: &Path| {
            std::fs::symlink_metadata(path).is_err_and(|err| {
                matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
            })
        };
        !gone(&self.project) && !self.placed.as_deref().is_some_and(gone)
    }
}

impl Store {
    /// Remembers a result, so that `gc` keeps what it needs.
    pub fn add_root(
        &self,
        project: &Path,
        target: &str,
        placed: Option<&Path>,
        mut result: RootResult,
    ) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let file = self.root_file(project, target);
        let old: Option<Root> = record::read_intact(&file)?;
        let mut results = old.as_ref().map(|it| it.results.clone()).unwrap_or_default();
        result.trees.sort();
        result.trees.dedup();
        result.bodies.sort();
        if let Some(last) = results.pop_if(|it| it.output == result.output) {
            result.made = last.made;
            // The process that fetched a body is the only one that knows of it until the lock is read again.
            if last.derivation == result.derivation {
                result.bodies.extend(last.bodies);
                result.bodies.sort();
            }
        }
        result.bodies.dedup();
        results.push(result);
        results.drain(..results.len().saturating_sub(MAX_RESULTS));
        let root = Root {
            project: project.to_path_buf(),
            target: target.to_owned(),
            placed: placed.map(Path::to_path_buf),
            results,
        };
        match old.is_some_and(|old| old == root) {
            true => Ok(()),
            false => {
                fs::create_dir_all(self.root().join("roots"))?;
                record::write(self.root(), &file, &root)
            }
        }
    }

    /// All roots with their records, in no order that means anything. A damaged one is an error: what it keeps is
    /// not known.
    pub fn roots(&self) -> Result<Vec<(PathBuf, Root)>> {
        let mut roots = Vec::new();
        for file in self.files("roots")? {
            if let Some(root) = record::read(&file)? {
                roots.push((file, root));
            }
        }
        Ok(roots)
    }

    fn root_file(&self, project: &Path, target: &str) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(project.as_os_str().as_encoded_bytes()).update(b"\0").update(target.as_bytes());
        self.root().join("roots").join(format!("{}.json", hasher.finalize()))
    }
}

/// Seconds since 1970. Only bookkeeping may know.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}
