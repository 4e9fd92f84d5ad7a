//! Archives: trees as one stream, to bring them to another store. Specified in `spec/store.md`.
//!
//! The same trees give the same bytes. Nothing of an archive is registered before its last byte has been checked.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, XattrFlags};

use super::{Error, Key, Realized, Store, set_mtime};
use crate::tree::{self, Entry, Kind, MAX_DEPTH, Owner, TreeHash, TreeInfo};

/// First bytes, with the version of the format.
const MAGIC: &[u8; 16] = b"raptor-archive-1";
/// Longest name, link target or name of an attribute, in bytes.
const MAX_NAME: u64 = 4096;
/// Longest value of an attribute, in bytes.
const MAX_XATTR: u64 = 64 * 1024;
/// Most attributes of one node.
const MAX_XATTRS: u32 = 256;
/// Longest text of a derivation, in bytes.
const MAX_DRV: u64 = 256 << 20;

/// What to put into an archive.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Trees; all must be registered.
    pub trees: BTreeSet<TreeHash>,
    /// Ids of derivations, whose texts come along.
    pub derivations: BTreeSet<String>,
    /// Keys, with what they were realized to.
    pub realized: BTreeSet<(Key, TreeHash)>,
}

/// Whether an archive is believed when it says what derivations were realized to. Its trees are checked anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Only trees and derivations are taken: their names are their hashes.
    Checked,
    /// What was realized to what is taken, too.
    Trusted,
}

/// What came out of an archive.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// All trees of the archive.
    pub trees: Vec<TreeInfo>,
    /// How many of them the store did not have.
    pub new: usize,
    /// Number of derivations.
    pub derivations: usize,
    /// Number of results that were taken, or left because nobody vouches for them.
    pub realized: usize,
}

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tree to export is not here.
    #[error("the store has no tree {0}")]
    Missing(TreeHash),
    /// A tree is not what its hash says.
    #[error("the tree {0} is damaged; see: raptor store verify")]
    Damaged(TreeHash),
    /// Not an archive, or a newer one.
    #[error("this is no archive of raptor, or one of a newer raptor")]
    Magic,
    /// It ends too early.
    #[error("the archive is cut off")]
    Cut,
    /// It is damaged, or made to do harm.
    #[error("the archive is damaged: {0}")]
    Bad(String),
}

type Result<T> = std::result::Result<T, ArchiveError>;

impl From<tree::TreeError> for ArchiveError {
    fn from(err: tree::TreeError) -> ArchiveError {
        ArchiveError::Store(err.into())
    }
}

impl Store {
    /// Writes an archive.
    pub fn export(&self, contents: &Contents, out: &mut dyn Write) -> Result<()> {
        let mut writer = Writer { out, hasher: blake3::Hasher::new() };
        writer.raw(MAGIC)?;
        for id in &contents.derivations {
            let text = fs::read(self.drv_file(id))?;
            writer.raw(b"D")?;
            writer.bytes(&text)?;
        }
        for hash in &contents.trees {
            let info = self.info(hash)?.ok_or(ArchiveError::Missing(*hash))?;
            let root = self.path(hash);
            // What is bad here must not be spread.
            if tree::hash_tree(&root, Owner::AsSeen)? != info {
                return Err(ArchiveError::Damaged(*hash));
            }
            writer.raw(b"T")?;
            writer.raw(hash.as_bytes())?;
            let entries = tree::entries(&root)?;
            writer.raw(&(entries.len() as u64).to_le_bytes())?;
            for entry in &entries {
                writer.entry(&root, entry)?;
            }
        }
        for (key, output) in &contents.realized {
            writer.raw(b"R")?;
            writer.raw(key.as_bytes())?;
            writer.raw(output.as_bytes())?;
        }
        writer.raw(b"E")?;
        let check = writer.hasher.finalize();
        writer.raw(check.as_bytes())?;
        Ok(writer.out.flush()?)
    }

    /// Reads an archive to its end, and registers what is in it if all of it is right.
    pub fn import(&self, input: &mut dyn Read, known: Known) -> Result<Imported> {
        let work = self.work_dir()?;
        let mut reader = Reader { input, hasher: blake3::Hasher::new() };
        if reader.array().map_err(|_| ArchiveError::Magic)? != *MAGIC {
            return Err(ArchiveError::Magic);
        }
        let mut trees: Vec<(PathBuf, TreeInfo)> = Vec::new();
        let mut derivations: Vec<Vec<u8>> = Vec::new();
        let mut realized: Vec<(Key, TreeHash)> = Vec::new();
        loop {
            match reader.array::<1>()? {
                [b'D'] => derivations.push(reader.bytes(MAX_DRV)?),
                [b'T'] => {
                    let hash = TreeHash::new(reader.array()?);
                    let dir = work.path().join(format!("{}", trees.len()));
                    let info = reader.tree(&dir)?;
                    if info.hash != hash {
                        return Err(ArchiveError::Bad(format!("what it calls {hash} is {}", info.hash)));
                    }
                    trees.push((dir, info));
                }
                [b'R'] => realized.push((Key::new(reader.array()?), TreeHash::new(reader.array()?))),
                [b'E'] => break,
                [other] => return Err(ArchiveError::Bad(format!("there is no part of kind {other}"))),
            }
        }
        let check = *reader.hasher.finalize().as_bytes();
        if reader.array::<32>()? != check {
            return Err(ArchiveError::Bad("its content does not match its check".into()));
        }
        if reader.input.read(&mut [0])? != 0 {
            return Err(ArchiveError::Bad("something follows its end".into()));
        }
        let mut imported = Imported { derivations: derivations.len(), ..Imported::default() };
        for (dir, info) in trees {
            if self.info(&info.hash)?.is_none() {
                self.register(&dir, &info)?;
                imported.new += 1;
            }
            imported.trees.push(info);
        }
        for text in derivations {
            self.write_drv(&blake3::hash(&text).to_hex(), &text)?;
        }
        for (key, output) in realized {
            if known == Known::Trusted && self.info(&output)?.is_some() {
                self.set_realized(&key, &Realized::new(output))?;
                imported.realized += 1;
            }
        }
        Ok(imported)
    }
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.raw(&(bytes.len() as u64).to_le_bytes())?;
        self.raw(bytes)
    }

    fn entry(&mut self, root: &Path, entry: &Entry) -> Result<()> {
        self.bytes(entry.path.as_os_str().as_bytes())?;
        let kind = match &entry.kind {
            Kind::File(_) => b'f',
            Kind::HardLink(_) => b'h',
            Kind::Dir => b'd',
            Kind::Symlink(_) => b'l',
            Kind::Char(..) => b'c',
            Kind::Block(..) => b'b',
            Kind::Fifo => b'p',
            Kind::Whiteout => b'w',
        };
        self.raw(&[kind])?;
        match &entry.kind {
            Kind::Whiteout => return Ok(()),
            Kind::HardLink(first) => return Ok(self.bytes(first.as_os_str().as_bytes())?),
            _ => {}
        }
        for number in [entry.mode, entry.uid, entry.gid] {
            self.raw(&number.to_le_bytes())?;
        }
        self.raw(&entry.mtime.to_le_bytes())?;
        self.raw(&(entry.xattrs.len() as u32).to_le_bytes())?;
        for (name, value) in &entry.xattrs {
            self.bytes(name.as_bytes())?;
            self.bytes(value)?;
        }
        match &entry.kind {
            Kind::File(size) => self.content(&tree::below(root, &entry.path), *size)?,
            Kind::Symlink(target) => self.bytes(target.as_os_str().as_bytes())?,
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                self.raw(&major.to_le_bytes())?;
                self.raw(&minor.to_le_bytes())?;
            }
            Kind::Dir | Kind::Fifo | Kind::HardLink(_) | Kind::Whiteout => {}
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, size: u64) -> std::io::Result<()> {
        self.raw(&size.to_le_bytes())?;
        let mut file = fs::File::open(path)?.take(size);
        let mut buffer = vec![0; 128 * 1024];
        let mut left = size;
        loop {
            let n = file.read(&mut buffer)?;
            self.raw(buffer.get(..n).unwrap_or_default())?;
            left -= n as u64;
            match n {
                0 if left == 0 => return Ok(()),
                0 => return Err(std::io::Error::other(format!("{} became shorter", path.display()))),
                _ => {}
            }
        }
    }
}

struct Reader<'a> {
    input: &'a mut dyn Read,
    hasher: blake3::Hasher,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.input.read_exact(buffer).map_err(|err| match err.kind() {
            std::io::ErrorKind::UnexpectedEof => ArchiveError::Cut,
            _ => err.into(),
        })?;
        self.hasher.update(buffer);
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A byte string. Memory is taken as the bytes come, whatever length is promised.
    fn bytes(&mut self, most: u64) -> Result<Vec<u8>> {
        let len = self.u64()?;
        if len > most {
            return Err(ArchiveError::Bad(format!("{len} bytes where {most} are the most")));
        }
        let mut bytes = Vec::new();
        self.copy(len, &mut bytes)?;
        Ok(bytes)
    }

    fn copy(&mut self, len: u64, to: &mut dyn Write) -> Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        let mut left = len;
        while left > 0 {
            let n = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(piece) = buffer.get_mut(..n) else { break };
            self.fill(piece)?;
            to.write_all(piece)?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Unpacks a tree to `root`, and hashes what is there then.
    fn tree(&mut self, root: &Path) -> Result<TreeInfo> {
        let mut made =
            Made { root, last: None, dirs: Vec::new(), open: BTreeSet::new(), files: BTreeSet::new() };
        for _ in 0..self.u64()? {
            self.entry(&mut made)?;
        }
        if made.last.is_none() {
            return Err(ArchiveError::Bad("a tree is empty".into()));
        }
        // Making an entry changes the time of its directory, and a closed one could not be filled.
        for (path, attributes) in made.dirs.iter().rev() {
            attributes.apply(path)?;
        }
        Ok(tree::hash_tree(root, Owner::AsSeen)?)
    }

    fn entry(&mut self, made: &mut Made<'_>) -> Result<()> {
        let at = PathBuf::from(OsString::from_vec(self.bytes(MAX_NAME)?));
        let path = made.place(&at)?;
        let [kind] = self.array::<1>()?;
        match kind {
            b'w' => {
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|err| failed("make", &path, err))?;
                return Ok(());
            }
            b'h' => {
                let first = PathBuf::from(OsString::from_vec(self.bytes(MAX_NAME)?));
                if !made.files.contains(&first) {
                    return Err(ArchiveError::Bad(format!("{} is a link to nothing", at.display())));
                }
                return Ok(fs::hard_link(tree::below(made.root, &first), &path)?);
            }
            _ => {}
        }
        let attributes = self.attributes()?;
        match kind {
            b'f' => {
                let size = self.u64()?;
                let mut options = fs::OpenOptions::new();
                let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
                self.copy(size, &mut file)?;
                made.files.insert(at);
            }
            b'd' => {
                fs::create_dir(&path)?;
                made.open.insert(at);
                made.dirs.push((path, attributes));
                return Ok(());
            }
            b'l' => {
                let target = self.bytes(MAX_NAME)?;
                symlink(OsStr::from_bytes(&target), &path).map_err(|err| named("make", &path, err))?;
            }
            b'c' | b'b' => {
                let device = rustix::fs::makedev(self.u32()?, self.u32()?);
                let kind = if kind == b'c' { FileType::CharacterDevice } else { FileType::BlockDevice };
                rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), device)
                    .map_err(|err| failed("make", &path, err))?;
            }
            b'p' => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::empty(), 0)
                .map_err(|err| failed("make", &path, err))?,
            other => return Err(ArchiveError::Bad(format!("there is no node of kind {other}"))),
        }
        attributes.apply(&path)
    }

    fn attributes(&mut self) -> Result<Attributes> {
        let (mode, uid, gid) = (self.u32()?, self.u32()?, self.u32()?);
        let mtime = i64::from_le_bytes(self.array()?);
        let count = self.u32()?;
        if count > MAX_XATTRS || mode > 0o7777 {
            return Err(ArchiveError::Bad("a node has impossible attributes".into()));
        }
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let name = self.bytes(MAX_NAME)?;
            if !tree::xattr_counts(&name) || name.contains(&0) {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(ArchiveError::Bad(format!("trees have no attribute {name}")));
            }
            xattrs.push((OsString::from_vec(name), self.bytes(MAX_XATTR)?));
        }
        Ok(Attributes { mode, uid, gid, mtime, xattrs })
    }
}

/// A tree that is being unpacked.
struct Made<'a> {
    root: &'a Path,
    /// Path of the last node: each comes after it, so that none comes twice.
    last: Option<PathBuf>,
    /// Directories with the attributes that they get in the end, parents first.
    dirs: Vec<(PathBuf, Attributes)>,
    /// Their paths in the tree.
    open: BTreeSet<PathBuf>,
    /// Files that can be linked to.
    files: BTreeSet<PathBuf>,
}

impl Made<'_> {
    /// Where a node goes, if it can be there: below a directory that was made here, after all others.
    fn place(&mut self, at: &Path) -> Result<PathBuf> {
        let bad = |why: &str| Err(ArchiveError::Bad(format!("the path `{}` {why}", at.display())));
        let parts: Vec<_> = at.as_os_str().as_bytes().split(|&b| b == b'/').collect();
        if !at.as_os_str().is_empty()
            && parts.iter().any(|it| matches!(*it, b"" | b"." | b"..") || it.contains(&0))
        {
            return bad("leads elsewhere");
        }
        if parts.len() > MAX_DEPTH {
            return bad("is too deep");
        }
        let in_order = match &self.last {
            None => at.as_os_str().is_empty(),
            Some(last) => at > last.as_path(),
        };
        if !in_order {
            return bad("is not in order");
        }
        self.last = Some(at.to_path_buf());
        let path = tree::below(self.root, at);
        if at.parent().is_some_and(|parent| !self.open.contains(parent)) {
            return bad("is not in a directory");
        }
        Ok(path)
    }
}

struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    fn apply(&self, path: &Path) -> Result<()> {
        // These two numbers mean "leave it".
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(ArchiveError::Bad("a node has an impossible owner".into()));
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|err| failed("give away", path, err))?;
        // After the owner: changing that takes set-user-ID bits and capabilities away.
        if !fs::symlink_metadata(path)?.is_symlink() {
            let mode = Mode::from_raw_mode(self.mode);
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
                .map_err(|err| failed("open", path, err))?;
        }
        for (name, value) in &self.xattrs {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
                .map_err(|err| failed("set attributes of", path, err))?;
        }
        Ok(set_mtime(path, self.mtime)?)
    }
}

fn failed(what: &str, path: &Path, err: rustix::io::Errno) -> ArchiveError {
    named(what, path, err.into())
}

fn named(what: &str, path: &Path, err: std::io::Error) -> ArchiveError {
    std::io::Error::new(err.kind(), format!("cannot {what} {}: {err}", path.display())).into()
}
