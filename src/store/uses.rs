//! What running processes need: each keeps a locked file with the trees it relies on, which `gc` leaves alone.
//!
//! Whoever wants a tree first writes it here and then looks whether it is registered; `gc` first takes the
//! registration away and then looks here. So one of the two always sees the other.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use rustix::fs::FlockOperation;

use super::{Key, Result};
use crate::tree::TreeHash;

/// What this process relies on; forgotten when dropped.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Made when the first tree is noted.
    file: Option<(std::fs::File, PathBuf)>,
    trees: BTreeSet<TreeHash>,
    bodies: BTreeSet<Key>,
}

impl Uses {
    /// Notes that a tree must stay.
    pub fn note(&self, store: &Path, tree: &TreeHash) -> Result<()> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.trees.contains(tree) {
            return Ok(());
        }
        let (mut file, path) = match noted.file.take() {
            Some(file) => file,
            None => create(&store.join("uses"))?,
        };
        // One write for each line, so that nobody reads half a line whose writer relies on it.
        let written = file.write_all(format!("{tree}\n").as_bytes());
        noted.file = Some((file, path));
        written?;
        noted.trees.insert(*tree);
        Ok(())
    }

    /// Notes that a fetched body was used.
    pub fn note_body(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bodies.insert(*key);
    }

    /// The fetched bodies used so far.
    pub fn bodies(&self) -> BTreeSet<Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bodies.clone()
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        let noted = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, path)) = &noted.file {
            // If it stays it is unlocked, and the next `gc` removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn create(dir: &Path) -> Result<(std::fs::File, PathBuf)> {
    fs::create_dir_all(dir)?;
    loop {
        let (file, path) =
            tempfile::Builder::new().prefix("process-").tempfile_in(dir)?.keep().map_err(|err| err.error)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        // A cleaner may have taken the file between its creation and our lock.
        if path.exists() {
            return Ok((file, path));
        }
    }
}

/// Everything that some running process relies on, this one included. Files of processes that are gone are
/// removed.
pub(super) fn all(store: &Path) -> Result<BTreeSet<TreeHash>> {
    let mut trees = BTreeSet::new();
    let entries = match fs::read_dir(store.join("uses")) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(trees),
        Err(err) => return Err(err.into()),
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(file) = std::fs::File::open(&path) else { continue };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => match fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
                _ => continue,
            },
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(err) => return Err(std::io::Error::from(err).into()),
        }
        let text = match fs::read_to_string(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        trees.extend(text.lines().filter_map(|line| line.parse::<TreeHash>().ok()));
    }
    Ok(trees)
}
