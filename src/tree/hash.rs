//! The tree hash: a blake3 Merkle hash over everything of a tree that a build can see.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::id::hash_id;

/// Written before every node, so that a change of the encoding changes every hash.
const DOMAIN: &[u8] = b"raptor-tree-1\0";
/// Above this many bytes a file is read through a map and hashed by several threads.
const LARGE: u64 = 1 << 20;
/// Deepest nesting of directories.
pub const MAX_DEPTH: usize = 512;

hash_id! {
    /// Hash of a tree.
    TreeHash, "the hash of a tree"
}

/// A hash with the size of what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeInfo {
    /// The hash.
    pub hash: TreeHash,
    /// Number of nodes, the root included.
    pub entries: u64,
    /// Sum of the sizes of regular files, in bytes; a hard-linked file counts once.
    pub bytes: u64,
}

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner that the calling process sees.
    AsSeen,
    /// As the store imports project files, whatever is on disk: root:root, time stamp 0, mode 0755 for directories
    /// and executable files, else 0644, no extended attributes, no hard links.
    Imported,
}

/// Why a tree has no hash.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Reading failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Reading extended attributes failed.
    #[error("cannot read the extended attributes of {path}: {source}")]
    Xattr {
        /// Where.
        path: PathBuf,
        /// Why.
        source: rustix::io::Errno,
    },
    /// Directories nested beyond any use, which would exhaust the stack of whoever walks them.
    #[error("{0} is more than {MAX_DEPTH} directories deep")]
    TooDeep(PathBuf),
    /// Sockets cannot be stored.
    #[error("{0} is a socket; sockets cannot be stored")]
    Socket(PathBuf),
}

/// Whether an entry is left out of a tree: its path below the root, and whether it is a directory.
pub type LeftOut<'a> = dyn Fn(&Path, bool) -> bool + Sync + 'a;

/// Sees the content of a regular file that is smaller than a mebibyte, and its path below the root.
pub type Seen<'a> = dyn Fn(&Path, &[u8]) + Sync + 'a;

/// Hashes a file or directory, contents in parallel.
pub fn hash_tree(path: &Path, owner: Owner) -> Result<TreeInfo, TreeError> {
    hash_tree_without(path, owner, &|_, _| false)
}

/// Hashes a file or directory, and shows small files to somebody who would read them again otherwise.
pub fn hash_tree_seen(path: &Path, owner: Owner, seen: &Seen<'_>) -> Result<TreeInfo, TreeError> {
    hash_tree_of(&Walk { root: path, owner, left_out: &|_, _| false, seen: Some(seen) })
}

/// Hashes what is left of a file or directory when some entries are left out.
pub fn hash_tree_without(path: &Path, owner: Owner, left_out: &LeftOut<'_>) -> Result<TreeInfo, TreeError> {
    hash_tree_of(&Walk { root: path, owner, left_out, seen: None })
}

fn hash_tree_of(walk: &Walk<'_>) -> Result<TreeInfo, TreeError> {
    let stat = fs::symlink_metadata(walk.root)?;
    let root = Node::of(walk.root.to_path_buf(), stat, walk, 0)?;
    let mut info = Summary::default();
    let mut links = HashMap::new();
    let hash = info.digest(&root, Path::new(""), &mut links);
    Ok(TreeInfo { hash: TreeHash::new(hash), entries: info.entries, bytes: info.bytes })
}

/// The hash that an imported file with this content has.
pub fn hash_imported(content: &[u8], executable: bool) -> TreeInfo {
    let meta = Meta {
        mode: if executable { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 0,
        size: content.len() as u64,
        rdev: 0,
        link: None,
        kind: b'f',
    };
    let node = Node { meta, xattrs: Vec::new(), content: Content::File(*blake3::hash(content).as_bytes()) };
    let mut info = Summary::default();
    let hash = info.digest(&node, Path::new(""), &mut HashMap::new());
    TreeInfo { hash: TreeHash::new(hash), entries: info.entries, bytes: info.bytes }
}

/// Mode that an imported file or directory gets.
pub fn imported_mode(stat: &std::fs::Metadata) -> u32 {
    match stat.file_type().is_symlink() {
        true => 0o777,
        false if stat.is_dir() || stat.mode() & 0o111 != 0 => 0o755,
        false => 0o644,
    }
}

/// Extended attributes that are part of a tree (spec/store.md): all others are history or host policy.
pub fn xattr_counts(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Names and values of the extended attributes of `path` itself that pass `keep`, sorted.
pub fn xattrs(path: &Path, keep: fn(&[u8]) -> bool) -> Result<Vec<(OsString, Vec<u8>)>, TreeError> {
    let fail = |source| TreeError::Xattr { path: path.to_path_buf(), source };
    let mut names = Vec::with_capacity(256);
    loop {
        match rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(rustix::io::Errno::RANGE) => names.reserve(65536),
            Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
            Err(err) => return Err(fail(err)),
        }
    }
    let mut found = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty() && keep(n)) {
        let name = OsStr::from_bytes(name);
        let mut value = Vec::with_capacity(1024);
        loop {
            match rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)) {
                Ok(_) => break,
                Err(rustix::io::Errno::RANGE) => value.reserve(65536),
                Err(err) => return Err(fail(err)),
            }
        }
        found.push((name.to_os_string(), value));
    }
    found.sort();
    Ok(found)
}

/// A node of the tree as read, before hard-link groups are known.
struct Node {
    meta: Meta,
    xattrs: Vec<(OsString, Vec<u8>)>,
    content: Content,
}

enum Content {
    File([u8; 32]),
    Dir(Vec<(OsString, Node)>),
    Symlink(PathBuf),
    Device,
    Fifo,
    Whiteout,
}

/// What reading all nodes of a tree has in common.
struct Walk<'a> {
    root: &'a Path,
    owner: Owner,
    left_out: &'a LeftOut<'a>,
    seen: Option<&'a Seen<'a>>,
}

impl Walk<'_> {
    fn leaves_out(&self, path: &Path, stat: &std::fs::Metadata) -> bool {
        path.strip_prefix(self.root).is_ok_and(|it| (self.left_out)(it, stat.is_dir()))
    }
}

/// The parts of `stat` that the hash or the link groups need.
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    size: u64,
    rdev: u64,
    link: Option<(u64, u64)>,
    kind: u8,
}

impl Node {
    fn of(path: PathBuf, stat: std::fs::Metadata, walk: &Walk<'_>, depth: usize) -> Result<Node, TreeError> {
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep(path));
        }
        let owner = walk.owner;
        let kind = stat.file_type();
        let (uid, gid) = match owner {
            Owner::AsSeen => (stat.uid(), stat.gid()),
            Owner::Imported => (0, 0),
        };
        let (mode, mtime) = match owner {
            Owner::AsSeen => (stat.mode() & 0o7777, stat.mtime()),
            Owner::Imported => (imported_mode(&stat), 0),
        };
        let mut meta =
            Meta { mode, uid, gid, mtime, size: stat.size(), rdev: stat.rdev(), link: None, kind: b'?' };
        let content = if kind.is_dir() {
            meta.kind = b'd';
            let mut names =
                fs::read_dir(&path)?.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>()?;
            names.sort();
            let children = names
                .into_par_iter()
                .filter_map(|name| {
                    let path = path.join(&name);
                    match fs::symlink_metadata(&path) {
                        Ok(stat) if walk.leaves_out(&path, &stat) => None,
                        Ok(stat) => Some(Node::of(path, stat, walk, depth + 1).map(|node| (name, node))),
                        Err(err) => Some(Err(err.into())),
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
            Content::Dir(children)
        } else if kind.is_file() {
            meta.kind = b'f';
            meta.link = (stat.nlink() > 1 && owner == Owner::AsSeen).then_some((stat.dev(), stat.ino()));
            Content::File(hash_file(&path, stat.size(), walk)?)
        } else if kind.is_symlink() {
            meta.kind = b'l';
            Content::Symlink(fs::read_link(&path)?)
        } else if kind.is_char_device() && stat.rdev() == 0 {
            meta.kind = b'w';
            Content::Whiteout
        } else if kind.is_char_device() || kind.is_block_device() {
            meta.kind = if kind.is_char_device() { b'c' } else { b'b' };
            Content::Device
        } else if kind.is_fifo() {
            meta.kind = b'p';
            Content::Fifo
        } else {
            return Err(TreeError::Socket(path));
        };
        let xattrs = match (&content, owner) {
            (Content::Whiteout, _) | (_, Owner::Imported) => Vec::new(),
            _ => xattrs(&path, xattr_counts)?,
        };
        Ok(Node { meta, xattrs, content })
    }
}

fn hash_file(path: &Path, size: u64, walk: &Walk<'_>) -> Result<[u8; 32], TreeError> {
    let mut hasher = blake3::Hasher::new();
    if size >= LARGE {
        hasher
            .update_mmap_rayon(path)
            .map_err(|err| std::io::Error::new(err.kind(), format!("{}: {err}", path.display())))?;
    } else if let Some(seen) = walk.seen {
        let content = fs::read(path)?;
        seen(path.strip_prefix(walk.root).unwrap_or(path), &content);
        hasher.update(&content);
    } else {
        hasher.update_reader(fs::File::open(path)?)?;
    }
    Ok(*hasher.finalize().as_bytes())
}

#[derive(Default)]
struct Summary {
    entries: u64,
    bytes: u64,
}

impl Summary {
    /// Digest of a node; `at` is its path below the root, needed to name the first of several hard links.
    fn digest(&mut self, node: &Node, at: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> [u8; 32] {
        self.entries += 1;
        let mut out = Encoder(blake3::Hasher::new());
        out.0.update(DOMAIN);
        if matches!(node.content, Content::Whiteout) {
            out.0.update(b"w");
            return out.finish();
        }
        if let Some(inode) = node.meta.link {
            if let Some(first) = links.get(&inode) {
                out.0.update(b"h");
                out.bytes(first.as_os_str().as_bytes());
                return out.finish();
            }
            links.insert(inode, at.to_path_buf());
        }
        out.0.update(&[node.meta.kind]);
        out.u32(node.meta.mode);
        out.u32(node.meta.uid);
        out.u32(node.meta.gid);
        out.0.update(&node.meta.mtime.to_le_bytes());
        out.u32(node.xattrs.len() as u32);
        for (name, value) in &node.xattrs {
            out.bytes(name.as_bytes());
            out.bytes(value);
        }
        match &node.content {
            Content::File(content) => {
                self.bytes += node.meta.size;
                out.0.update(&node.meta.size.to_le_bytes());
                out.0.update(content);
            }
            Content::Dir(children) => {
                out.u32(children.len() as u32);
                for (name, child) in children {
                    out.bytes(name.as_bytes());
                    let digest = self.digest(child, &at.join(name), links);
                    out.0.update(&digest);
                }
            }
            Content::Symlink(target) => out.bytes(target.as_os_str().as_bytes()),
            Content::Device => {
                out.u32(rustix::fs::major(node.meta.rdev));
                out.u32(rustix::fs::minor(node.meta.rdev));
            }
            Content::Fifo | Content::Whiteout => {}
        }
        out.finish()
    }
}

/// Little-endian integers and length-prefixed byte strings into a hash.
struct Encoder(blake3::Hasher);

impl Encoder {
    fn u32(&mut self, value: u32) {
        self.0.update(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
