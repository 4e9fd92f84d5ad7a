//! Where things are: directories of a store, keys, the default place.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::tree::hash_id;

/// Directories of a store, in the order of spec/store.md. `partial` holds downloads that may be resumed.
pub const DIRS: &[&str] = &[
    "trees",
    "info",
    "realized",
    "drv",
    "log",
    "checkpoints",
    "failed",
    "locks",
    "uses",
    "roots",
    "bad",
    "state",
    "partial",
    "tmp",
];

hash_id! {
    /// A cache key: the resolved id of a derivation, or the digest of a fetched body.
    Key, "a key"
}

impl Key {
    /// Key of a body that is pinned by sha256 (hex) and size: where it comes from does not matter.
    pub fn fetched(sha256: &str, size: u64) -> Key {
        Key::new(*blake3::hash(format!("raptor-fetched-1\0{sha256}\0{size}").as_bytes()).as_bytes())
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
