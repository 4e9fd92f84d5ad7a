//! Downloads of pinned files: resumable, checked while they stream, shared between processes.
//!
//! An unfinished download is `partial/SHA256` in the store. Whoever holds `partial/SHA256.lock` may write to it.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use raptor_lang::stmt::Digest;

use super::fill::{Expected, Filling};
use super::http::{Client, Error};
use super::partial::Partial;
use crate::store::{Key, Store};

/// Downloads at the same time.
const THREADS: usize = 8;

/// A file that is pinned by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What to call it in messages.
    pub name: String,
    /// Places to get it from, tried in order.
    pub urls: Vec<String>,
    /// sha256 (hex).
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// What a failure does to the other files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failing {
    /// They are left.
    Ends,
    /// They are fetched first.
    Waits,
}

impl Client {
    /// Fetches a file into the store, unless it is there, and gives its path. `on_bytes` hears how many more
    /// bytes are here; in the end the sum is the size.
    pub fn download(
        &self,
        wanted: &Wanted,
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, Error> {
        self.download_until(wanted, store, on_bytes, &AtomicBool::new(false))
    }

    /// Fetches files, several at a time, and gives their paths in the same order. The first failure ends it, and
    /// so does `stop`.
    pub fn download_all(
        &self,
        wanted: &[Wanted],
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
        stop: &AtomicBool,
    ) -> Result<Vec<PathBuf>, Error> {
        self.download_many(wanted, store, on_bytes, stop, Failing::Ends)
    }

    /// The same, but all that can be had is fetched, whatever fails.
    pub fn download_most(
        &self,
        wanted: &[Wanted],
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
        stop: &AtomicBool,
    ) -> Result<Vec<PathBuf>, Error> {
        self.download_many(wanted, store, on_bytes, stop, Failing::Waits)
    }

    fn download_many(
        &self,
        wanted: &[Wanted],
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
        stop: &AtomicBool,
        failing: Failing,
    ) -> Result<Vec<PathBuf>, Error> {
        let next = AtomicUsize::new(0);
        // Set by the first failure too, which must not look like a stop to the caller.
        let cancel = AtomicBool::new(false);
        let on_bytes = |more| {
            if stop.load(Ordering::Relaxed) {
                cancel.store(true, Ordering::Relaxed);
            }
            on_bytes(more);
        };
        let failure = Mutex::new(None);
        let work = || {
            let mut done = Vec::new();
            loop {
                let idx = next.fetch_add(1, Ordering::Relaxed);
                let Some(wanted) = wanted.get(idx).filter(|_| !cancel.load(Ordering::Relaxed)) else {
                    return done;
                };
                match self.download_until(wanted, store, &on_bytes, &cancel) {
                    Ok(path) => done.push((idx, path)),
                    Err(error) => {
                        let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        // Once cancelled, the others only fail because of that.
                        let earlier = cancel.fetch_or(failing == Failing::Ends, Ordering::Relaxed);
                        if !earlier && failure.is_none() {
                            *failure = Some(error);
                        }
                    }
                }
            }
        };
        let mut done: Vec<(usize, PathBuf)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS.min(wanted.len())).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(error) => Err(error),
            None if done.len() < wanted.len() => Err(Error::Cancelled),
            None => {
                done.sort();
                Ok(done.into_iter().map(|(_, path)| path).collect())
            }
        }
    }

    pub(super) fn download_until(
        &self,
        wanted: &Wanted,
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
        cancel: &AtomicBool,
    ) -> Result<PathBuf, Error> {
        let Wanted { name, urls, sha256, size } = wanted;
        let nonsense = |reason: String| Error::Wanted { name: name.clone(), reason };
        // The digest becomes a file name.
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(nonsense(format!("`{sha256}` is not a sha256")));
        }
        let progress = Progress { told: Cell::new(0), on_bytes };
        if let Some(path) = store.fetched(sha256, *size)? {
            progress.at(*size);
            return Ok(path);
        }
        let mut partial = Partial::open(store, &Digest::Sha256(sha256.clone()), cancel)?;
        // Another process may have finished it while we waited for its lock.
        if let Some(path) = store.fetched(sha256, *size)? {
            partial.remove()?;
            progress.at(*size);
            return Ok(path);
        }
        let digest = Digest::Sha256(sha256.clone());
        let filling = Filling {
            client: self,
            name,
            expected: Expected { digest: Some(&digest), size: Some(*size) },
            on_position: &|position| progress.at(position),
            cancel,
        };
        filling.complete(&mut partial, urls, self.in_caches(&Key::fetched(sha256, *size)))?;
        Ok(store.add_fetched(&partial.path, sha256, *size)?)
    }
}

/// Tells how far a download is, never backwards.
struct Progress<'a> {
    told: Cell<u64>,
    on_bytes: &'a (dyn Fn(u64) + Sync),
}

impl Progress<'_> {
    fn at(&self, position: u64) {
        let told = self.told.replace(position.max(self.told.get()));
        if position > told {
            (self.on_bytes)(position - told);
        }
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
