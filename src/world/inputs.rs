//! The inputs of an evaluation as a record, and whether they are still the same. Specified in `spec/evaluation.md`.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use raptor_lang::pattern::Excludes;
use raptor_lang::world::{ReadError, World};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Files;
use super::snapshot::{Answers, Stamp, TreeAnswer};
use crate::eval::{Project, SourceFile};

/// How much older than a record a file must be for its stamp alone to be trusted, in nanoseconds. File systems
/// count time in steps of up to two seconds.
const SETTLED: i64 = 2_000_000_000;

/// Everything that an evaluation asked of the world.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inputs(Vec<Input>);

/// Whether inputs are what they were.
#[derive(Debug)]
pub enum Freshness {
    /// Another answer somewhere.
    Changed,
    /// The same stamps.
    Same,
    /// The same answers, but some had to be found anew; these are the inputs with their stamps of now.
    Touched(Inputs),
}

type Digest = [u8; 32];

/// One path.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    path: Vec<u8>,
    /// Of what the path leads to; nothing if that could not be had.
    stamp: Option<Stamp>,
    /// Whether the stamps can be trusted.
    settled: bool,
    is_symlink: Option<bool>,
    text: Option<Digest>,
    list: Option<Digest>,
    trees: Vec<TreeInput>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TreeInput {
    exclude: Vec<String>,
    entries: Vec<(Vec<u8>, Stamp)>,
    /// The tree could be hashed; what failed once may work now, whatever the stamps say.
    is_ok: bool,
    digest: Digest,
}

impl Inputs {
    /// What was asked of `files` so far.
    pub fn of(files: &Files) -> Inputs {
        let mut inputs = files.snapshot.map(|path, answers| Input::of(path, answers, files.snapshot.begun));
        inputs.sort_by(|a, b| a.path.cmp(&b.path));
        Inputs(inputs)
    }

    /// Whether `files` would answer the same.
    pub fn freshness(&self, files: &Files) -> Freshness {
        let same = |input: &Input| match input.same_stamps(files) {
            true => Some(None),
            false => input.same_answers(files).map(Some),
        };
        let checked: Option<Vec<Option<Input>>> = self.0.par_iter().with_min_len(64).map(same).collect();
        match checked {
            None => Freshness::Changed,
            Some(checked) if checked.iter().all(Option::is_none) => Freshness::Same,
            Some(checked) => {
                let inputs = checked.into_iter().zip(&self.0);
                Freshness::Touched(Inputs(
                    inputs.map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect(),
                ))
            }
        }
    }
}

impl Input {
    fn of(path: &Path, answers: &Answers, begun: i64) -> Input {
        let stamp = answers.stat.as_ref().and_then(|it| it.as_ref().ok()).copied();
        let entries = answers.trees.iter().flat_map(|it| &it.entries).map(|(_, stamp)| stamp);
        Input {
            path: path.as_os_str().as_bytes().to_vec(),
            settled: stamp.iter().chain(entries).all(|it| it.changed().saturating_add(SETTLED) < begun),
            stamp,
            is_symlink: answers.is_symlink,
            text: answers.text.as_ref().map(|it| digest_of(it.as_ref().map(|text| text.as_bytes()))),
            list: answers.list.as_ref().map(|it| {
                let names = it.as_ref().map(|names| {
                    // No name holds a zero byte.
                    names
                        .iter()
                        .flat_map(|name| name.as_bytes().iter().copied().chain([0]))
                        .collect::<Vec<u8>>()
                });
                digest_of(match &names {
                    Ok(names) => Ok(names),
                    Err(error) => Err(error),
                })
            }),
            trees: answers.trees.iter().map(TreeInput::of).collect(),
        }
    }

    /// Looks at stamps only. That they differ does not mean that answers do.
    fn same_stamps(&self, files: &Files) -> bool {
        let path = self.path();
        let Some(root) = files.on_disk(&path) else { return false };
        let now = std::fs::metadata(&root).ok().map(|stat| Stamp::of(&stat));
        let is_read = self.text.is_some() || self.list.is_some() || !self.trees.is_empty();
        let same = match (&self.stamp, &now) {
            (None, None) => !is_read,
            (Some(then), Some(now)) if is_read => self.settled && then == now,
            (Some(then), Some(now)) => then.kind() == now.kind(),
            _ => false,
        };
        let lstat = |path: &Path| std::fs::symlink_metadata(path);
        same && self.is_symlink.is_none_or(|then| files.is_symlink(&path) == then)
            && self.trees.iter().all(|tree| {
                tree.is_ok
                    && tree.entries.iter().all(|(below, then)| {
                        let path = root.join(std::ffi::OsStr::from_bytes(below));
                        lstat(&path).is_ok_and(|now| Stamp::of(&now) == *then)
                    })
            })
    }

    /// Asks again, and gives the input as it is now if the answers are the same.
    fn same_answers(&self, files: &Files) -> Option<Input> {
        let path = self.path();
        files.kind(&path);
        if self.is_symlink.is_some() {
            files.is_symlink(&path);
        }
        if self.text.is_some() {
            let _ = files.read(&path);
        }
        if self.list.is_some() {
            let _ = files.list(&path);
        }
        for tree in &self.trees {
            let mut exclude = Excludes::default();
            for pattern in &tree.exclude {
                exclude.add(pattern).ok()?;
            }
            let _ = files.imported(&SourceFile { path: path.clone(), exclude });
        }
        let now = files.snapshot.get(&path, |answers| Input::of(&path, answers, files.snapshot.begun))?;
        let kind = |it: &Input| it.stamp.map(|stamp| stamp.kind());
        let digests = |it: &Input| it.trees.iter().map(|tree| tree.digest).collect::<Vec<_>>();
        let same = kind(self) == kind(&now)
            && self.is_symlink == now.is_symlink
            && self.text == now.text
            && self.list == now.list
            && digests(self) == digests(&now);
        same.then_some(now)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.path.clone()))
    }
}

impl TreeInput {
    fn of(tree: &TreeAnswer) -> TreeInput {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let hash = tree.info.as_ref().map(|info| info.hash.to_string());
        TreeInput {
            exclude: tree.exclude.texts().map(str::to_owned).collect(),
            entries: tree.entries.iter().map(|(path, stamp)| (bytes(path), *stamp)).collect(),
            is_ok: tree.info.is_ok(),
            digest: match hash {
                Ok(hash) => digest_of(Ok(hash.as_bytes())),
                Err(error) => digest_of(Err(&ReadError::Other(error.clone()))),
            },
        }
    }
}

/// Of an answer or of the error in its place.
fn digest_of(answer: Result<&[u8], &ReadError>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    match answer {
        Ok(bytes) => hasher.update(b"=").update(bytes),
        Err(error) => hasher.update(b"!").update(format!("{error:?}").as_bytes()),
    };
    *hasher.finalize().as_bytes()
}
