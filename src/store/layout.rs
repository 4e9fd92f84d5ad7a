//! Where things are: directories of a store, keys, the default place.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Directories of a store, in the order of spec/store.md. `partial` holds downloads that may be resumed.
pub const DIRS: &[&str] = &["trees", "info", "realized", "drv", "log", "locks", "state", "partial", "tmp"];

/// A cache key: the resolved id of a derivation, or the digest of a fetched body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// Key of a body that is pinned by sha256 (hex) and size: where it comes from does not matter.
    pub fn fetched(sha256: &str, size: u64) -> Key {
        Key(*blake3::hash(format!("raptor-fetched-1\0{sha256}\0{size}").as_bytes()).as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl FromStr for Key {
    type Err = blake3::HexError;

    fn from_str(s: &str) -> Result<Key, blake3::HexError> {
        Ok(Key(*blake3::Hash::from_hex(s)?.as_bytes()))
    }
}

/// The store to use when nothing else is said; `var` reads the environment.
pub fn default_root(is_root: bool, var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("RAPTOR_STORE").or_else(|| match is_root {
        true => Some(PathBuf::from("/var/lib/raptor")),
        false => set("XDG_DATA_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("raptor")),
    })
}
