//! Records: small JSON files that are there whole or not at all, and that know when they were damaged.
//!
//! The last field of a record is `check`, a hash over its name and everything before: a flipped bit is noticed.

use std::io::Write;
use std::path::Path;

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Result, work};
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
    let damaged = |reason: String| Error::Damaged { path: file.to_path_buf(), reason };
    let text = unseal(file, &text).ok_or_else(|| damaged("its content does not match its check".into()))?;
    serde_json::from_slice(&text).map(Some).map_err(|err| damaged(err.to_string()))
}

/// Reads a record that can be made again: one that is damaged is as good as none.
pub fn read_intact<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    match read(file) {
        Err(Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// Writes a record.
pub fn write<T: Serialize>(store: &Path, file: &Path, value: &T) -> Result<()> {
    write_atomic(store, file, &sealed(file, value)?)
}

/// Writes a record that a power cut may tear: its check tells.
pub fn write_unsynced<T: Serialize>(store: &Path, file: &Path, value: &T) -> Result<()> {
    let temp = temporary(store, file, &sealed(file, value)?)?;
    temp.persist(file).map_err(|err| named(file, err.error))?;
    Ok(())
}

/// The text of a record.
pub fn sealed<T: Serialize>(file: &Path, value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    let check = check(file, &text);
    // Every record is an object with at least one field.
    text.pop();
    text.extend_from_slice(format!("{CHECK}{check}{END}").as_bytes());
    Ok(text)
}

const CHECK: &str = ",\"check\":\"";
const END: &str = "\"}\n";

/// The object below the seal, if that is intact.
fn unseal(file: &Path, text: &[u8]) -> Option<Vec<u8>> {
    let seal = CHECK.len() + blake3::OUT_LEN * 2 + END.len();
    let (object, seal) = text.split_at_checked(text.len().checked_sub(seal)?)?;
    let mut object = object.to_vec();
    object.push(b'}');
    let expected = format!("{CHECK}{}{END}", check(file, &object));
    (seal == expected.as_bytes()).then_some(object)
}

fn check(file: &Path, object: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes()).update(b"\0").update(object);
    hasher.finalize()
}

/// Writes a file by temporary file, sync and rename.
pub fn write_atomic(store: &Path, file: &Path, content: &[u8]) -> Result<()> {
    let temp = temporary(store, file, content)?;
    temp.as_file().sync_data().map_err(|err| named(file, err))?;
    temp.persist(file).map_err(|err| named(file, err.error))?;
    Ok(())
}

fn named(file: &Path, err: std::io::Error) -> std::io::Error {
    std::io::Error::new(err.kind(), format!("cannot write {}: {err}", file.display()))
}

/// A temporary file with what is to become `file`.
fn temporary(store: &Path, file: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile> {
    let tmp = store.join("tmp");
    let named = |err| named(file, err);
    let mut temp = loop {
        let temp = tempfile::Builder::new().prefix(work::RECORD).tempfile_in(&tmp).map_err(named)?;
        rustix::fs::flock(temp.as_file(), FlockOperation::LockExclusive).map_err(|err| named(err.into()))?;
        // A cleaner may have taken the file between its creation and our lock.
        if temp.path().exists() {
            break temp;
        }
    };
    temp.write_all(content).map_err(named)?;
    Ok(temp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.json");
        let value = Realized { output: TreeHash::new([7; 32]), millis: 1234 };
        let text = sealed(&file, &value).unwrap();
        fs::write(&file, &text).unwrap();
        assert_eq!(read::<Realized>(&file).unwrap(), Some(value));
        assert!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["check"].is_string());
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &flipped).unwrap();
            assert!(matches!(read::<Realized>(&file), Err(Error::Damaged { .. })), "bit {bit}");
            assert!(read_intact::<Realized>(&file).unwrap().is_none());
        }
        // A record under another name says something else.
        fs::write(dir.path().join("other.json"), &text).unwrap();
        assert!(read::<Realized>(&dir.path().join("other.json")).is_err());
    }
}
