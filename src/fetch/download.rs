//! Downloads of pinned files: resumable, checked while they stream, shared between processes.
//!
//! An unfinished download is `partial/SHA256` in the store. Whoever holds `partial/SHA256.lock` may write to it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderValue, header};

use super::http::{Call, Client, Error, Refused, request_error};
use crate::store::{Key, Store};

/// Downloads at the same time.
const THREADS: usize = 8;
/// So many bytes more are worth going on for.
const LEAST_PROGRESS: u64 = 64 * 1024;

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
        let mut progress = Progress { told: 0, on_bytes };
        if let Some(path) = store.fetched(sha256, *size)? {
            progress.at(*size);
            return Ok(path);
        }
        let mut partial = Partial::open(store, sha256, cancel)?;
        // Another process may have finished it while we waited for its lock.
        if let Some(path) = store.fetched(sha256, *size)? {
            partial.remove()?;
            progress.at(*size);
            return Ok(path);
        }
        let mut failures = Vec::new();
        let key = Key::fetched(sha256, *size);
        // The order is that in which bytes should be there; caches are asked only when all else fails.
        for place in urls.iter().cloned().map(Ok).chain(self.in_caches(&key)) {
            let filled = place.and_then(|url| self.fill(&mut partial, &url, wanted, &mut progress, cancel));
            match filled {
                Ok(()) => return Ok(store.add_fetched(&partial.path, sha256, *size)?),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failures.push(error),
            }
        }
        // What came from one place may be resumed from another, but a lie must not be.
        if failures.iter().any(|it| matches!(it, Error::Digest { .. })) || partial.len == 0 {
            partial.remove()?;
        }
        match failures.pop() {
            None => Err(nonsense("there is no URL to fetch it from".into())),
            Some(only) if failures.is_empty() => Err(only),
            Some(last) => {
                failures.push(last);
                Err(Error::Everywhere { name: name.clone(), failures })
            }
        }
    }

    /// Completes the file from one URL, with patience.
    fn fill(
        &self,
        partial: &mut Partial,
        url: &str,
        wanted: &Wanted,
        progress: &mut Progress,
        cancel: &AtomicBool,
    ) -> Result<(), Error> {
        let mut patience = self.patience();
        loop {
            let before = partial.len;
            let refused = match self.fill_once(partial, url, wanted, progress, cancel) {
                Ok(()) => match partial.check(url, wanted) {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        partial.restart()?;
                        // The beginning may have come from another place and time: once more from the start.
                        if before > 0 {
                            continue;
                        }
                        return Err(error);
                    }
                },
                Err(refused) => refused,
            };
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            if !refused.failure.is_transient() {
                return Err(refused.failure);
            }
            // A connection that is cut but moves on is worth patience. One byte more is no progress.
            if partial.len >= before + LEAST_PROGRESS {
                patience = self.patience();
            }
            if !patience.again(refused.retry_after, cancel) {
                let cancelled = cancel.load(Ordering::Relaxed);
                return Err(if cancelled { Error::Cancelled } else { refused.failure });
            }
        }
    }

    fn fill_once(
        &self,
        partial: &mut Partial,
        url: &str,
        wanted: &Wanted,
        progress: &mut Progress,
        cancel: &AtomicBool,
    ) -> Result<(), Refused> {
        if partial.len > wanted.size {
            partial.restart()?;
        }
        progress.at(partial.len);
        if partial.len == wanted.size && partial.len > 0 || wanted.size == 0 {
            return Ok(());
        }
        let mut call = Call::get(url);
        if partial.len > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", partial.len));
            call.headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let response = self.ask(&call)?;
        Refused::unless_content(url, &response)?;
        let content_range = response.headers().get(header::CONTENT_RANGE).and_then(|it| it.to_str().ok());
        let goes_on = content_range.is_some_and(|it| it.starts_with(&format!("bytes {}-", partial.len)));
        match response.status().as_u16() {
            206 if goes_on => {}
            200 => {
                let found = response.body().content_length().unwrap_or(wanted.size);
                if found != wanted.size {
                    return Err(Error::Size { url: url.to_owned(), expected: wanted.size, found }.into());
                }
                partial.restart()?;
            }
            // The server has something else, or no idea of ranges: the next try asks for everything.
            status => {
                if partial.len == 0 {
                    return Err(Error::Status { url: url.to_owned(), status }.into());
                }
                partial.restart()?;
                return self.fill_once(partial, url, wanted, progress, cancel);
            }
        }
        let mut body = self.reader(response);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled.into());
            }
            let n_read = body.read(&mut buffer).map_err(|err| request_error(url, err.into()))?;
            if n_read == 0 {
                break;
            }
            partial.push(buffer.get(..n_read).unwrap_or_default())?;
            progress.at(partial.len);
            if partial.len > wanted.size {
                let found = partial.len;
                partial.restart()?;
                return Err(Error::Size { url: url.to_owned(), expected: wanted.size, found }.into());
            }
        }
        match partial.len {
            found if found == wanted.size => Ok(()),
            // Without Content-Length a cut looks like an end.
            _ => {
                let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection was cut");
                Err(request_error(url, cut.into()).into())
            }
        }
    }
}

/// Tells how far a download is, never backwards.
struct Progress<'a> {
    told: u64,
    on_bytes: &'a (dyn Fn(u64) + Sync),
}

impl Progress<'_> {
    fn at(&mut self, position: u64) {
        if position > self.told {
            (self.on_bytes)(position - self.told);
            self.told = position;
        }
    }
}

/// An unfinished file that is ours alone.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    _lock: Lock,
}

impl Partial {
    /// Opens the partial file of a digest, once it is ours.
    fn open(store: &Store, sha256: &str, cancel: &AtomicBool) -> Result<Partial, Error> {
        let path = store.root().join("partial").join(sha256);
        let lock = Lock::wait(path.with_extension("lock"), cancel)?;
        let named = |source| Error::File { path: path.clone(), source };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(named)?;
        let mut partial = Partial { path: path.clone(), file, hasher: Sha256::new(), len: 0, _lock: lock };
        partial.read_what_is_there().map_err(named)?;
        Ok(partial)
    }

    fn read_what_is_there(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n_read = self.file.read(&mut buffer)?;
            if n_read == 0 {
                return Ok(());
            }
            self.hasher.update(buffer.get(..n_read).unwrap_or_default());
            self.len += n_read as u64;
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything.
    fn restart(&mut self) -> Result<(), Error> {
        let empty = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    fn check(&self, url: &str, wanted: &Wanted) -> Result<(), Error> {
        let found = format!("{:x}", self.hasher.clone().finalize());
        if found == wanted.sha256 {
            return Ok(());
        }
        Err(Error::Digest { url: url.to_owned(), kind: "sha256", expected: wanted.sha256.clone(), found })
    }

    fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { path: self.path.clone(), source: err })
            }
            _ => Ok(()),
        }
    }
}

/// The right to write a partial file, among all processes. Its file vanishes with it.
struct Lock {
    path: PathBuf,
    _held: File,
}

impl Lock {
    fn wait(path: PathBuf, cancel: &AtomicBool) -> Result<Lock, Error> {
        let named = |source| Error::File { path: path.clone(), source };
        loop {
            let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(named)?;
            while let Err(err) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if !matches!(err, rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) {
                    return Err(named(err.into()));
                }
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            // Its last holder may have removed it; then it keeps nobody else out.
            let ours = file.metadata().map_err(named)?;
            if std::fs::metadata(&path).is_ok_and(|it| it.dev() == ours.dev() && it.ino() == ours.ino()) {
                return Ok(Lock { path, _held: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
