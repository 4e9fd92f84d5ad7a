//! Taking a checkpoint, between two steps: no program runs.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::super::error::{Context, Trouble};
use super::super::init::Notes;
use super::super::mounts;
use super::image::{Image, Kind, Node, Xattrs, files};
use super::pack::Writer;
use super::{Known, KnownFile, MEMORY, MIN_FREE, Stamp, TIME_STEP, kept};
use crate::tree;

/// Writes manifest and pack; gives what is known now.
pub(super) fn take(
    known: &Known,
    passing: &[(PathBuf, &str)],
    dir: &Path,
    name: &str,
    upper: &Path,
    notes: Notes,
) -> Result<Known, Trouble> {
    let free = rustix::fs::statvfs(dir).context(|| "free space")?;
    if free.f_bavail.saturating_mul(free.f_frsize) < MIN_FREE {
        return Err(Trouble("there is little space left".into()));
    }
    no_ipc()?;
    let [manifest, pack] = files(dir, name);
    let mut packs = known.packs.clone();
    let pack = Writer::create(&pack, packs.len())?;
    packs.push(name.to_owned());
    let passing = passing_files(passing)?;
    let mut walk = Walk { known, passing, files: HashMap::new(), pack };
    let upper = walk.node(upper.join("."), OsString::new(), 0)?;
    let mut memory = Vec::new();
    for path in MEMORY {
        // Without what is mounted on it.
        let mount = mounts::copy_one(Path::new(path)).context(|| path)?;
        let root = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
        memory.push(walk.node(root, OsString::new(), 0)?);
    }
    let Walk { files, pack, .. } = walk;
    pack.finish()?;
    let image = Image { packs, notes, upper, memory };
    image.write(&manifest)?;
    Ok(Known { packs: image.packs, files, looked: Some(SystemTime::now()) })
}

/// Device and inode of the files that are another text in each build, as far as steps have left them.
fn passing_files(files: &[(PathBuf, &str)]) -> Result<HashSet<(u64, u64)>, Trouble> {
    let mut found = HashSet::new();
    for (path, text) in files {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => {}
            Ok(_) if fs::read(path)? != text.as_bytes() => {
                return Err(Trouble(format!("a step has changed {}", path.display())));
            }
            Ok(meta) => drop(found.insert((meta.dev(), meta.ino()))),
            // Then it is not there later either.
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Fails if there are objects of System V or POSIX IPC, which no program needs to be alive for, and which nobody can
/// copy.
fn no_ipc() -> Result<(), Trouble> {
    for kind in ["shm", "sem", "msg"] {
        match std::fs::read_to_string(format!("/proc/sysvipc/{kind}")) {
            Ok(text) if text.lines().count() <= 1 => {}
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            Ok(_) => return Err(Trouble(format!("a step left System V IPC ({kind}) behind"))),
            Err(err) => return Err(Trouble(format!("/proc/sysvipc/{kind}: {err}"))),
        }
    }
    let queues = match mounts::new("mqueue", &[], MountAttrFlags::empty()) {
        // The kernel has none.
        Err(Errno::NODEV) => return Ok(()),
        other => other.context(|| "message queues")?,
    };
    match fs::read_dir(format!("/proc/self/fd/{}/.", queues.as_raw_fd()))?.next() {
        Some(_) => Err(Trouble("a step left message queues behind".into())),
        None => Ok(()),
    }
}

struct Walk<'a> {
    known: &'a Known,
    /// Files that are kept empty, so that they have their places, by device and inode.
    passing: HashSet<(u64, u64)>,
    files: HashMap<(u64, u64), KnownFile>,
    pack: Writer,
}

impl Walk<'_> {
    fn node(&mut self, path: PathBuf, name: OsString, depth: usize) -> Result<Node, Trouble> {
        if depth > tree::MAX_DEPTH {
            return Err(Trouble(format!("{} is too deep", path.display())));
        }
        let meta = fs::symlink_metadata(&path)?;
        let file_type = meta.file_type();
        let is_whiteout = file_type.is_char_device() && meta.rdev() == 0;
        // Whiteouts are links of each other, and have nothing of their own.
        let link = (meta.nlink() > 1 && !meta.is_dir() && !is_whiteout).then_some(meta.ino());
        let mut xattrs = Vec::new();
        let kind = match () {
            () if is_whiteout => Kind::Whiteout,
            () if meta.is_file() => {
                let file = self.file(&path, &meta)?;
                xattrs = file.xattrs;
                let content =
                    file.content.ok_or_else(|| Trouble(format!("{} is no file", path.display())))?;
                Kind::File(content)
            }
            () if meta.is_dir() => {
                xattrs = self.attributes(&path, &meta)?;
                Kind::Dir(self.children(&path, depth)?)
            }
            () if meta.is_symlink() => Kind::Symlink(fs::read_link(&path)?),
            () if file_type.is_fifo() => {
                xattrs = kept(&path)?;
                Kind::Fifo
            }
            () if file_type.is_socket() => {
                xattrs = kept(&path)?;
                Kind::Socket
            }
            () => return Err(Trouble(format!("{} is a device", path.display()))),
        };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let (mode, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
        Ok(Node { name, mode, uid, gid, mtime, xattrs, link, kind })
    }

    fn children(&mut self, dir: &Path, depth: usize) -> Result<Vec<Node>, Trouble> {
        let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
        let names: Vec<OsString> = names.collect::<Result<_, _>>()?;
        names.into_iter().map(|name| self.node(dir.join(&name), name, depth + 1)).collect()
    }

    /// A regular file, whose content goes into the pack if it is new.
    fn file(&mut self, path: &Path, meta: &std::fs::Metadata) -> Result<KnownFile, Trouble> {
        let (id, stamp) = ((meta.dev(), meta.ino()), Stamp::of(meta));
        if let Some(file) = self.files.get(&id) {
            return Ok(file.clone());
        }
        let old = self.known.files.get(&id);
        let file = match old.filter(|it| self.is_unchanged(it, &stamp)) {
            Some(old) => old.clone(),
            None if self.passing.contains(&id) => {
                let content = self.pack.add(Path::new("/dev/null"), 0, None)?;
                KnownFile { stamp, xattrs: kept(path)?, content: Some(content) }
            }
            None => {
                let content = self.pack.add(path, meta.len(), old.and_then(|it| it.content))?;
                KnownFile { stamp, xattrs: kept(path)?, content: Some(content) }
            }
        };
        self.files.insert(id, file.clone());
        Ok(file)
    }

    /// Extended attributes of a directory.
    fn attributes(&mut self, path: &Path, meta: &std::fs::Metadata) -> Result<Xattrs, Trouble> {
        let (id, stamp) = ((meta.dev(), meta.ino()), Stamp::of(meta));
        let old = self.known.files.get(&id).filter(|it| self.is_unchanged(it, &stamp));
        let xattrs = match old {
            Some(old) => old.xattrs.clone(),
            None => kept(path)?,
        };
        self.files.insert(id, KnownFile { stamp, xattrs: xattrs.clone(), content: None });
        Ok(xattrs)
    }

    /// Whether a file is what it was at the last look. One that had just changed may have changed again within the
    /// same step of the clock.
    fn is_unchanged(&self, old: &KnownFile, stamp: &Stamp) -> bool {
        let Some(looked) = self.known.looked else { return false };
        let looked = looked.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(stamp.ctime.0), u32::try_from(stamp.ctime.1)) else {
            return false;
        };
        old.stamp == *stamp && std::time::Duration::new(seconds, nanos) + TIME_STEP < looked
    }
}
