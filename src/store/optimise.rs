//! Sharing of equal files between trees, and what trees take on disk.
//!
//! Blocks are shared where the file system can; else files whose metadata agree become hard links. Trees never
//! change for that: one with other links is made beside it, hashed, and put in its place in one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, RenameFlags, XattrFlags};
use serde::Serialize;

use super::{KeyLock, Result, Store, record, set_mtime, uses};
use crate::tree::{self, Entry, Kind, Owner, TreeHash, TreeInfo};

/// Smaller files are not worth the work: the directory entry costs as much.
const SMALLEST: u64 = 1;
/// Most bytes that one call shares; Btrfs takes no more.
const CHUNK: u64 = 16 << 20;

/// What sharing brought.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Optimised {
    /// Files that share their blocks with another now.
    pub reflinked: u64,
    /// Files that are links to another now.
    pub linked: u64,
    /// Bytes that are not stored twice any more.
    pub saved: u64,
    /// Trees that were left as they are because somebody uses them.
    pub busy: u64,
}

/// What a tree takes on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Which.
    pub hash: TreeHash,
    /// Bytes of blocks that it alone has.
    pub own: u64,
    /// Bytes of blocks of files that other trees have, too.
    pub shared: u64,
}

/// What must agree before two files of the same content can be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    attributes: (u32, u32, u32, i64),
    xattrs: Vec<(std::ffi::OsString, Vec<u8>)>,
}

/// A file that may be shared.
#[derive(Clone, Debug)]
struct Candidate {
    tree: TreeHash,
    path: PathBuf,
    inode: u64,
    alike: Alike,
}

impl Store {
    /// Shares equal files between the store's trees.
    pub fn optimise(&self) -> Result<Optimised> {
        self.writable()?;
        let mut done = Optimised::default();
        let mut wanted: BTreeMap<TreeHash, BTreeMap<PathBuf, PathBuf>> = BTreeMap::new();
        for ((_, size), files) in self.candidates()? {
            let inodes: BTreeSet<u64> = files.iter().map(|it| it.inode).collect();
            if inodes.len() < 2 {
                continue;
            }
            // Links of one file are read once.
            let mut read: HashMap<u64, [u8; 32]> = HashMap::new();
            // The first file of each content, and of each content with the same attributes.
            let mut first: HashMap<[u8; 32], &Candidate> = HashMap::new();
            let mut twins: HashMap<([u8; 32], &Alike), &Candidate> = HashMap::new();
            for file in &files {
                let path = self.file_of(file);
                let content = match read.get(&file.inode) {
                    Some(content) => *content,
                    None => {
                        let Ok(content) = fs::File::open(&path) else { continue };
                        *blake3::Hasher::new().update_reader(content)?.finalize().as_bytes()
                    }
                };
                read.insert(file.inode, content);
                let other = *first.entry(content).or_insert(file);
                let twin = *twins.entry((content, &file.alike)).or_insert(file);
                if other.inode != file.inode && share_blocks(&self.file_of(other), &path, size) {
                    done.reflinked += 1;
                    done.saved += size;
                } else if twin.inode != file.inode && twin.tree != file.tree {
                    wanted.entry(file.tree).or_default().insert(file.path.clone(), self.file_of(twin));
                }
            }
        }
        for (hash, links) in wanted {
            if !self.relink(&hash, &links, &mut done)? {
                done.busy += 1;
            }
        }
        Ok(done)
    }

    /// What every tree takes on disk, sorted by hash. Blocks that reflinks share count for each.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        let mut trees = Vec::new();
        let mut owners: HashMap<(u64, u64), u32> = HashMap::new();
        for (info, _) in self.list()? {
            let mut inodes = BTreeMap::new();
            inodes_below(&self.own_path(&info.hash), &mut inodes)?;
            for inode in inodes.keys() {
                *owners.entry(*inode).or_insert(0) += 1;
            }
            trees.push((info.hash, inodes));
        }
        let usage = trees.into_iter().map(|(hash, inodes)| {
            let mut usage = Usage { hash, own: 0, shared: 0 };
            for (inode, bytes) in inodes {
                match owners.get(&inode) {
                    Some(1) | None => usage.own += bytes,
                    Some(_) => usage.shared += bytes,
                }
            }
            usage
        });
        Ok(usage.collect())
    }

    /// Regular files of all trees, by device and size; of files linked within a tree the first.
    fn candidates(&self) -> Result<BTreeMap<(u64, u64), Vec<Candidate>>> {
        let mut files: BTreeMap<(u64, u64), Vec<Candidate>> = BTreeMap::new();
        for (info, _) in self.list()? {
            let root = self.own_path(&info.hash);
            for entry in tree::entries(&root)? {
                let Kind::File(size) = entry.kind else { continue };
                if size < SMALLEST {
                    continue;
                }
                let stat = fs::symlink_metadata(tree::below(&root, &entry.path))?;
                let attributes = (entry.mode, entry.uid, entry.gid, entry.mtime);
                let alike = Alike { attributes, xattrs: entry.xattrs };
                let file = Candidate { tree: info.hash, path: entry.path, inode: stat.ino(), alike };
                files.entry((stat.dev(), size)).or_default().push(file);
            }
        }
        Ok(files)
    }

    fn file_of(&self, file: &Candidate) -> PathBuf {
        tree::below(&self.own_path(&file.tree), &file.path)
    }

    /// Puts a tree in the place of another that is the same but for the inodes of some files. False if somebody uses
    /// it.
    fn relink(
        &self,
        hash: &TreeHash,
        links: &BTreeMap<PathBuf, PathBuf>,
        done: &mut Optimised,
    ) -> Result<bool> {
        let _lock = KeyLock::take(&self.tree_lock(hash), FlockOperation::LockExclusive)?;
        let Some(info) = self.own_info(hash)? else { return Ok(true) };
        if uses::all(self.root())?.contains(hash) {
            return Ok(false);
        }
        let work = self.work_dir()?;
        let (old, new) = (self.own_path(hash), work.path().join("tree"));
        let (mut linked, mut saved) = (0, 0);
        let mut taken: BTreeMap<u64, PathBuf> = BTreeMap::new();
        let entries = tree::entries(&old)?;
        for entry in &entries {
            let (from, to) = (tree::below(&old, &entry.path), tree::below(&new, &entry.path));
            match (&entry.kind, links.get(&entry.path)) {
                (Kind::Dir, _) => fs::create_dir(&to)?,
                (Kind::HardLink(first), _) => fs::hard_link(tree::below(&new, first), &to)?,
                // Two files of one tree must not become one.
                (Kind::File(size), Some(shared))
                    if taken.insert(fs::symlink_metadata(shared)?.ino(), entry.path.clone()).is_none()
                        && fs::hard_link(shared, &to).is_ok() =>
                {
                    linked += 1;
                    saved += size;
                }
                _ => fs::hard_link(&from, &to)?,
            }
        }
        for entry in entries.iter().rev().filter(|it| it.kind == Kind::Dir) {
            copy_directory(entry, &tree::below(&new, &entry.path))?;
        }
        if linked == 0 || tree::hash_tree(&new, Owner::AsSeen)? != info {
            return Ok(true);
        }
        self.sync()?;
        let replaced = self.replace(&info, &new)?;
        if replaced {
            done.linked += linked;
            done.saved += saved;
        }
        Ok(replaced)
    }

    /// Exchanges a registered tree. While that lasts it is not registered, so that nobody begins to use what goes.
    fn replace(&self, info: &TreeInfo, new: &Path) -> Result<bool> {
        let file = self.info_file(&info.hash);
        let used = fs::metadata(&file)?.modified()?;
        fs::remove_file(&file)?;
        let free = !uses::all(self.root())?.contains(&info.hash);
        let exchanged = match free {
            true => {
                let (cwd, old) = (rustix::fs::CWD, self.own_path(&info.hash));
                rustix::fs::renameat_with(cwd, new, cwd, &old, RenameFlags::EXCHANGE)
            }
            false => Ok(()),
        };
        record::write(self.root(), &file, info)?;
        fs::File::open(&file)?.set_modified(used)?;
        exchanged.map_err(std::io::Error::from)?;
        Ok(free)
    }
}

fn copy_directory(entry: &Entry, to: &Path) -> Result<()> {
    std::os::unix::fs::chown(to, Some(entry.uid), Some(entry.gid))?;
    fs::set_permissions(to, std::fs::Permissions::from_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        rustix::fs::lsetxattr(to, name, value, XattrFlags::empty()).map_err(std::io::Error::from)?;
    }
    set_mtime(to, entry.mtime)
}

/// Bytes on disk of every inode of a tree.
fn inodes_below(path: &Path, inodes: &mut BTreeMap<(u64, u64), u64>) -> Result<()> {
    let stat = fs::symlink_metadata(path)?;
    inodes.insert((stat.dev(), stat.ino()), stat.blocks() * 512);
    if stat.is_dir() {
        for entry in fs::read_dir(path)? {
            inodes_below(&entry?.path(), inodes)?;
        }
    }
    Ok(())
}

/// Lets two equal files share their blocks; the kernel compares them itself. False if the file system cannot.
fn share_blocks(from: &Path, to: &Path, size: u64) -> bool {
    let (Ok(from), Ok(to)) = (std::fs::File::open(from), std::fs::File::open(to)) else { return false };
    let mut at = 0;
    while at < size {
        let length = CHUNK.min(size - at);
        if !share_range(&from, &to, at, length) {
            return false;
        }
        at += length;
    }
    true
}

fn share_range(from: &std::fs::File, to: &std::fs::File, offset: u64, length: u64) -> bool {
    /// `struct file_dedupe_range` of linux/fs.h with one destination.
    #[repr(C)]
    struct Range {
        src_offset: u64,
        src_length: u64,
        dest_count: u16,
        reserved1: u16,
        reserved2: u32,
        dest_fd: i64,
        dest_offset: u64,
        bytes_deduped: u64,
        status: i32,
        reserved3: u32,
    }
    // _IOWR(0x94, 54, struct file_dedupe_range), whose size is that of its fixed part.
    const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
    let mut range = Range {
        src_offset: offset,
        src_length: length,
        dest_count: 1,
        reserved1: 0,
        reserved2: 0,
        dest_fd: i64::from(to.as_raw_fd()),
        dest_offset: offset,
        bytes_deduped: 0,
        status: 0,
        reserved3: 0,
    };
    // SAFETY: both descriptors are open, and the kernel reads and writes only `range`, which has the layout it wants.
    let result = unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE, &mut range) };
    result == 0 && range.status == 0 && range.bytes_deduped == length
}
