//! Trees: a file or directory with all that counts of it, and its hash. Specified in `spec/store.md`.

mod hash;
mod id;
mod walk;

pub(crate) use id::hash_id;

pub use hash::{
    LeftOut, MAX_DEPTH, Owner, Seen, TreeError, TreeHash, TreeInfo, hash_imported, hash_tree, hash_tree_seen,
    hash_tree_without, imported_mode, xattr_counts, xattrs,
};
pub use walk::{Change, Entry, Kind, below, diff, entries};
