//! Unfinished downloads: files that grow, with the digests of what is there, each one process's at a time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raptor_lang::stmt::Digest;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};
use ureq::http::HeaderValue;

use super::http::Error;
use crate::store::Store;

/// An unfinished file that is ours alone.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    /// How many bytes are there.
    pub(super) len: u64,
    /// What the server called the version that they are of, if it did.
    pub(super) version: Option<HeaderValue>,
    file: File,
    sha256: Sha256,
    blake3: blake3::Hasher,
    _lock: Option<Lock>,
}

impl Partial {
    /// The one of a digest, once it is ours; what an earlier process left is taken up.
    pub(super) fn open(store: &Store, digest: &Digest, cancel: &AtomicBool) -> Result<Partial, Error> {
        let name = match digest {
            Digest::Sha256(hex) => hex.clone(),
            Digest::Blake3(hex) => format!("blake3-{hex}"),
        };
        let path = store.root().join("partial").join(name);
        let lock = Lock::wait(path.with_extension("lock"), cancel)?;
        Partial::at(path, Some(lock))
    }

    /// One in a directory of ours.
    pub(super) fn private(path: &Path) -> Result<Partial, Error> {
        Partial::at(path.to_path_buf(), None)
    }

    fn at(path: PathBuf, lock: Option<Lock>) -> Result<Partial, Error> {
        let named = |source| Error::File { path: path.clone(), source };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(named)?;
        let (sha256, blake3) = (Sha256::new(), blake3::Hasher::new());
        let mut partial =
            Partial { path: path.clone(), len: 0, version: None, file, sha256, blake3, _lock: lock };
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
            self.note(buffer.get(..n_read).unwrap_or_default());
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.note(bytes);
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let empty = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.sha256 = Sha256::new();
        self.blake3 = blake3::Hasher::new();
        self.version = None;
        self.len = 0;
        Ok(())
    }

    /// sha256 of what is there.
    pub(super) fn sha256(&self) -> String {
        format!("{:x}", self.sha256.clone().finalize())
    }

    /// Whether all that came from `url` is what it should be.
    pub(super) fn check(&self, url: &str, digest: &Digest) -> Result<(), Error> {
        let (kind, expected, found) = match digest {
            Digest::Sha256(hex) => ("sha256", hex, self.sha256()),
            Digest::Blake3(hex) => ("blake3", hex, self.blake3.finalize().to_hex().to_string()),
        };
        match found == *expected {
            true => Ok(()),
            false => Err(Error::Digest { url: url.to_owned(), kind, expected: expected.clone(), found }),
        }
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
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
