//! Records: small JSON files that are there whole or not at all.

use std::io::Write;
use std::path::Path;

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::tree::TreeHash;

/// What a key was realized to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realized {
    /// Its output.
    pub output: TreeHash,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub millis: u64,
}

impl Realized {
    /// A record without a time.
    pub fn new(output: TreeHash) -> Realized {
        Realized { output, millis: 0 }
    }
}

/// Reads a record; `None` if there is none.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(err) => Err(Error::Damaged { path: file.to_path_buf(), reason: err.to_string() }),
    }
}

/// Writes a record.
pub fn write<T: Serialize>(store: &Path, file: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    write_atomic(store, file, &text)
}

/// Writes a file by temporary file, sync and rename.
pub fn write_atomic(store: &Path, file: &Path, content: &[u8]) -> Result<()> {
    let tmp = store.join("tmp");
    let named = |err: std::io::Error| {
        std::io::Error::new(err.kind(), format!("cannot write {}: {err}", file.display()))
    };
    let mut temp = tempfile::Builder::new().prefix("record-").tempfile_in(&tmp).map_err(named)?;
    temp.write_all(content).map_err(named)?;
    temp.as_file().sync_data().map_err(named)?;
    temp.persist(file).map_err(|err| named(err.error))?;
    Ok(())
}
