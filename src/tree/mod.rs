//! Trees: a file or directory with all that counts of it, and its hash. Specified in `spec/store.md`.

mod hash;
mod id;

pub(crate) use id::hash_id;

pub use hash::{
    Owner, TreeError, TreeHash, TreeInfo, hash_imported, hash_tree, imported_mode, xattr_counts, xattrs,
};
