//! Verification: hashes everything again, and takes bad trees out of use.
//!
//! A bad tree loses its registration, so to every build it is missing; `bad/HASH.json` says what it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rayon::prelude::*;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Error, Key, KeyLock, Realized, Result, Root, Store, Times, name_of, now, record};
use crate::tree::{self, Owner, TreeHash, TreeInfo};

/// A tree that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Its name.
    pub hash: TreeHash,
    /// What is wrong with it.
    pub problem: String,
    /// When that was found, in seconds since 1970.
    pub found: u64,
}

/// A record, derivation or log that is damaged.
#[derive(Clone, Debug, Serialize)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Number of trees that were hashed.
    pub trees: usize,
    /// Sum of their bytes.
    pub bytes: u64,
    /// Number of other files that were checked.
    pub files: usize,
    /// Trees that are bad, those found earlier included, sorted.
    pub bad: Vec<Bad>,
    /// Other files that are bad, sorted.
    pub bad_files: Vec<BadFile>,
}

impl Verified {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        self.bad.is_empty() && self.bad_files.is_empty()
    }
}

impl Store {
    /// Hashes every registered tree and checks every record. Bad trees are taken out of use, unless the store is
    /// read-only.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = self.verify_files()?;
        let names: Vec<(PathBuf, Option<TreeHash>)> =
            self.files("info")?.into_iter().map(|file| (file.clone(), name_of(&file))).collect();
        let found: Vec<Option<Found>> = names
            .into_par_iter()
            .map(|(file, hash)| match hash {
                Some(hash) => self.verify_tree(&file, hash),
                None => Ok(Some(Found::Stray(file))),
            })
            .collect::<Result<_>>()?;
        let mut bad: BTreeSet<TreeHash> = BTreeSet::new();
        for found in found.into_iter().flatten() {
            match found {
                Found::Good(info) => {
                    verified.trees += 1;
                    verified.bytes += info.bytes;
                }
                Found::Bad(it) => {
                    verified.trees += 1;
                    bad.insert(it.hash);
                    if !self.is_read_only() {
                        self.take_out(&it)?;
                    }
                    verified.bad.push(it);
                }
                Found::Stray(path) => {
                    verified.bad_files.push(BadFile { path, problem: "it is no registration".into() });
                }
            }
        }
        verified.bad.extend(self.bad()?.into_iter().filter(|it| !bad.contains(&it.hash)));
        verified.bad.sort_by_key(|it| it.hash);
        verified.bad_files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(verified)
    }

    /// Trees that verification took out of use and that nobody made again, sorted.
    pub fn bad(&self) -> Result<Vec<Bad>> {
        let mut bad = Vec::new();
        for file in self.files("bad")? {
            let Some(hash) = name_of(&file) else { continue };
            let known: Option<Bad> = record::read_intact(&file)?;
            bad.push(known.unwrap_or(Bad { hash, problem: "it was found to be bad".into(), found: 0 }));
        }
        Ok(bad)
    }

    /// Forgets that a tree was bad: it is good again, or known to be lost.
    pub fn forget_bad(&self, hash: &TreeHash) -> Result<()> {
        match fs::remove_file(self.bad_file(hash)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(()),
        }
    }

    /// Removes a damaged file that verification found and that can be made again or done without.
    pub fn remove_damaged(&self, file: &BadFile) -> Result<()> {
        self.writable()?;
        match fs::remove_file(&file.path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn bad_file(&self, hash: &TreeHash) -> PathBuf {
        self.root().join("bad").join(format!("{hash}.json"))
    }

    /// What is to say of a registered tree; nothing if `gc` takes it away meanwhile.
    fn verify_tree(&self, file: &Path, hash: TreeHash) -> Result<Option<Found>> {
        if !self.is_read_only() {
            self.0.uses.note(self.root(), &hash)?;
        }
        let info: TreeInfo = match record::read(file) {
            Ok(Some(info)) => info,
            Ok(None) => return Ok(None),
            Err(Error::Damaged { reason, .. }) => {
                return Ok(Some(bad(hash, format!("registration: {reason}"))));
            }
            Err(err) => return Err(err),
        };
        let problem = match tree::hash_tree(&self.own_path(&hash), Owner::AsSeen) {
            Ok(now) if now == info && info.hash == hash => return Ok(Some(Found::Good(info))),
            Ok(now) if now.hash != hash => format!("its content has the hash {}", now.hash),
            Ok(_) => "its registration says another size".to_owned(),
            // What cannot be read is not there.
            Err(err) => err.to_string(),
        };
        Ok(Some(bad(hash, problem)))
    }

    /// Unregisters a bad tree.
    fn take_out(&self, it: &Bad) -> Result<()> {
        let _lock = KeyLock::take(&self.tree_lock(&it.hash), FlockOperation::LockExclusive)?;
        fs::create_dir_all(self.root().join("bad"))?;
        // The mark first: a bad tree that nobody knows of must not look like a missing one.
        record::write(self.root(), &self.bad_file(&it.hash), it)?;
        match fs::remove_file(self.info_file(&it.hash)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => self.sync(),
        }
    }

    /// Checks every file that is not a tree or its registration.
    pub fn verify_files(&self) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut check = |path: PathBuf, problem: Option<String>| {
            verified.files += 1;
            verified.bad_files.extend(problem.map(|problem| BadFile { path, problem }));
        };
        for path in self.files("realized")? {
            let named = name_of::<Key>(&path).map(drop).ok_or_else(|| "it is not named by a key".to_owned());
            let problem = named.and_then(|()| readable::<Realized>(&path)).err();
            check(path, problem);
        }
        for path in self.files("roots")? {
            let problem = readable::<Root>(&path).err();
            check(path, problem);
        }
        for path in self.files("state/placed")? {
            let problem = readable::<serde_json::Value>(&path).err();
            check(path, problem);
        }
        if self.times_file().exists() {
            check(self.times_file(), readable::<Times>(&self.times_file()).err());
        }
        for (path, problem) in self.verify_checkpoints()? {
            check(path, problem);
        }
        for path in self.files("drv")? {
            // Its id is the hash of its text.
            let problem = match fs::read(&path) {
                Ok(text) => {
                    let id = blake3::hash(&text).to_hex();
                    let named = path.file_stem().is_some_and(|name| name == id.as_str());
                    (!named).then(|| format!("its content has the id {id}"))
                }
                Err(err) => Some(err.to_string()),
            };
            check(path, problem);
        }
        for path in self.files("log")? {
            // Frames carry a checksum.
            let copied = fs::File::open(&path)
                .and_then(zstd::Decoder::new)
                .and_then(|mut log| std::io::copy(&mut log, &mut std::io::sink()));
            check(path, copied.err().map(|err| err.to_string()));
        }
        Ok(verified)
    }
}

/// What a tree turned out to be.
enum Found {
    Good(TreeInfo),
    Bad(Bad),
    Stray(PathBuf),
}

fn bad(hash: TreeHash, problem: String) -> Found {
    Found::Bad(Bad { hash, problem, found: now() })
}

fn readable<T: serde::de::DeserializeOwned>(path: &Path) -> std::result::Result<(), String> {
    match record::read::<T>(path) {
        Err(Error::Damaged { reason, .. }) => Err(reason),
        Err(err) => Err(err.to_string()),
        Ok(_) => Ok(()),
    }
}
