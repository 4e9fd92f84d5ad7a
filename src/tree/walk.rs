//! Looking at trees: their nodes one by one, in the order of the hash, and what two trees differ in.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::hash::{MAX_DEPTH, TreeError, xattr_counts, xattrs};

/// A node of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Below the root of the tree; empty for the root itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes that count, sorted.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of this many bytes.
    File(u64),
    /// A further hard link to a file seen before.
    HardLink(PathBuf),
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink(PathBuf),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// What hides a file of a lower layer.
    Whiteout,
}

/// How a path differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with these differences in words.
    Changed(Vec<String>),
}

/// All nodes of a tree, depth first in order of names.
pub fn entries(root: &Path) -> Result<Vec<Entry>, TreeError> {
    let mut walk = Walk { root, links: HashMap::new(), entries: Vec::new() };
    walk.visit(PathBuf::new(), 0)?;
    Ok(walk.entries)
}

/// What differs between two trees, sorted by path.
pub fn diff(a: &Path, b: &Path) -> Result<Vec<(PathBuf, Change)>, TreeError> {
    // The order of a walk is that of paths, component by component.
    let (old, new) = (entries(a)?, entries(b)?);
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(changes),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => x.path.cmp(&y.path),
        };
        match order {
            std::cmp::Ordering::Less => {
                changes.extend(old.next().map(|it| (it.path.clone(), Change::Removed)))
            }
            std::cmp::Ordering::Greater => {
                changes.extend(new.next().map(|it| (it.path.clone(), Change::Added)))
            }
            std::cmp::Ordering::Equal => {
                if let (Some(x), Some(y)) = (old.next(), new.next()) {
                    let what = differences(x, y, a, b)?;
                    if !what.is_empty() {
                        changes.push((x.path.clone(), Change::Changed(what)));
                    }
                }
            }
        }
    }
}

struct Walk<'a> {
    root: &'a Path,
    links: HashMap<(u64, u64), PathBuf>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn visit(&mut self, at: PathBuf, depth: usize) -> Result<(), TreeError> {
        let path = below(self.root, &at);
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep(path));
        }
        let stat = fs::symlink_metadata(&path)?;
        let kind = self.kind(&path, &at, &stat)?;
        let xattrs = match kind {
            Kind::Whiteout | Kind::HardLink(_) => Vec::new(),
            _ => xattrs(&path, xattr_counts)?,
        };
        let is_dir = kind == Kind::Dir;
        self.entries.push(Entry {
            path: at.clone(),
            kind,
            mode: stat.mode() & 0o7777,
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: stat.mtime(),
            xattrs,
        });
        if is_dir {
            let names = fs::read_dir(&path)?.map(|it| it.map(|it| it.file_name()));
            let mut names = names.collect::<Result<Vec<_>, _>>()?;
            names.sort();
            for name in names {
                self.visit(at.join(name), depth + 1)?;
            }
        }
        Ok(())
    }

    fn kind(&mut self, path: &Path, at: &Path, stat: &std::fs::Metadata) -> Result<Kind, TreeError> {
        let kind = stat.file_type();
        let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        if kind.is_file() && stat.nlink() > 1 {
            if let Some(first) = self.links.get(&(stat.dev(), stat.ino())) {
                return Ok(Kind::HardLink(first.clone()));
            }
            self.links.insert((stat.dev(), stat.ino()), at.to_path_buf());
        }
        Ok(match () {
            () if kind.is_dir() => Kind::Dir,
            () if kind.is_file() => Kind::File(stat.size()),
            () if kind.is_symlink() => Kind::Symlink(fs::read_link(path)?),
            () if kind.is_char_device() && stat.rdev() == 0 => Kind::Whiteout,
            () if kind.is_char_device() => Kind::Char(major, minor),
            () if kind.is_block_device() => Kind::Block(major, minor),
            () if kind.is_fifo() => Kind::Fifo,
            () => return Err(TreeError::Socket(path.to_path_buf())),
        })
    }
}

/// `at` below `root`, without a slash at the end when it is the root itself, which may be a file.
pub fn below(root: &Path, at: &Path) -> PathBuf {
    match at.as_os_str().is_empty() {
        true => root.to_path_buf(),
        false => root.join(at),
    }
}

fn differences(x: &Entry, y: &Entry, a: &Path, b: &Path) -> Result<Vec<String>, TreeError> {
    let mut what = Vec::new();
    match (&x.kind, &y.kind) {
        (Kind::File(old), Kind::File(new)) if old != new => what.push(format!("size {old} -> {new}")),
        (Kind::File(_), Kind::File(_)) if same_content(&below(a, &x.path), &below(b, &y.path))? => {}
        (Kind::File(_), Kind::File(_)) => what.push("content".to_owned()),
        (old, new) if old != new => what.push(format!("{} -> {}", describe(old), describe(new))),
        _ => {}
    }
    // Whiteouts and further links have no attributes of their own.
    if [x, y].iter().any(|it| matches!(it.kind, Kind::Whiteout | Kind::HardLink(_))) {
        return Ok(what);
    }
    if x.mode != y.mode {
        what.push(format!("mode {:04o} -> {:04o}", x.mode, y.mode));
    }
    if (x.uid, x.gid) != (y.uid, y.gid) {
        what.push(format!("owner {}:{} -> {}:{}", x.uid, x.gid, y.uid, y.gid));
    }
    if x.mtime != y.mtime {
        what.push(format!("mtime {} -> {}", x.mtime, y.mtime));
    }
    let names = x.xattrs.iter().chain(&y.xattrs).map(|(name, _)| name);
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let value = |it: &Entry| it.xattrs.iter().find(|(other, _)| other == name).cloned();
        if value(x) != value(y) {
            what.push(format!("xattr {}", name.to_string_lossy()));
        }
    }
    Ok(what)
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::File(_) => "file".to_owned(),
        Kind::HardLink(first) => format!("hard link to {}", first.display()),
        Kind::Dir => "directory".to_owned(),
        Kind::Symlink(target) => format!("link to {}", target.display()),
        Kind::Char(major, minor) => format!("character device {major}:{minor}"),
        Kind::Block(major, minor) => format!("block device {major}:{minor}"),
        Kind::Fifo => "pipe".to_owned(),
        Kind::Whiteout => "whiteout".to_owned(),
    }
}

fn same_content(a: &Path, b: &Path) -> Result<bool, TreeError> {
    let hash = |path: &Path| -> Result<blake3::Hash, TreeError> {
        Ok(blake3::Hasher::new().update_reader(fs::File::open(path)?)?.finalize())
    };
    Ok(hash(a)? == hash(b)?)
}
