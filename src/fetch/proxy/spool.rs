//! Bodies on their way into the store, over more than one try if need be.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::fetch::http::Error;

/// A body on its way into the store.
pub struct Spool {
    pub path: PathBuf,
    pub length: u64,
    file: File,
    hasher: Sha256,
}

impl Spool {
    /// A new file.
    pub fn new(path: PathBuf) -> Result<Spool, Error> {
        let file = File::create_new(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Spool { path, file, hasher: Sha256::new(), length: 0 })
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| self.error(source))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything.
    pub fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            self.file = File::create(&self.path).map_err(|source| self.error(source))?;
            self.hasher = Sha256::new();
            self.length = 0;
        }
        Ok(())
    }

    /// sha256 (hex) so far.
    pub fn digest(&self) -> String {
        format!("{:x}", self.hasher.clone().finalize())
    }

    fn error(&self, source: std::io::Error) -> Error {
        Error::File { path: self.path.clone(), source }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The store has it, or nobody needs it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The beginning of a second try, which must be what the first one already gave to the client.
pub struct Skip {
    /// Bytes that still have to come again.
    pub left: u64,
    hasher: Sha256,
}

impl Skip {
    pub fn new(spool: &Spool) -> Skip {
        Skip { left: spool.length, hasher: Sha256::new() }
    }

    /// What of `bytes` is new.
    pub fn feed<'a>(&mut self, bytes: &'a [u8], spool: &Spool) -> Result<&'a [u8], Changed> {
        if self.left == 0 {
            return Ok(bytes);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (old, new) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        self.hasher.update(old);
        self.left -= old.len() as u64;
        if self.left == 0 && self.hasher.clone().finalize() != spool.hasher.clone().finalize() {
            return Err(Changed);
        }
        Ok(new)
    }
}

/// A second try gave other bytes than the first.
pub struct Changed;
