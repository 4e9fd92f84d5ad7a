//! Unpacking one layer of an image over the root, as the image specification has it.
//!
//! The root is entered without the mounts that programs see, so that what lies below them is the image's own, and
//! no path and no link leads anywhere else.

mod ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::XattrFlags;
use rustix::mount::UnmountFlags;
use rustix::thread::UnshareFlags;
use tar::EntryType;

use super::debs::{in_root, link_name, set_mtime};
use super::error::{Context, Trouble};
use super::files::{self, Ownership};
use super::request::LayerBlob;
use super::{ground, mounts, process};
use crate::archive::{self, Bounded, Limit};
use crate::tree;

/// Where the bare root is mounted meanwhile.
const BARE: &str = "/run/raptor/bare";
/// Most entries of a layer.
const MAX_ENTRIES: usize = 2_000_000;
/// Most bytes of all files of a layer.
const MAX_BYTES: u64 = 64 << 30;
/// Most bytes after the last entry.
const MAX_PADDING: u64 = 64 << 20;
/// Bytes that are written at a time.
const BUFFER: usize = 256 << 10;
/// Begins the name of what hides the parents' entry of the rest of the name.
const WHITEOUT: &[u8] = b".wh.";
/// Hides all entries of the parents in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins names that only some storage drivers know.
const PRIVATE: &[u8] = b".wh..wh.";
/// Extended attributes in a tar header.
const XATTR: &str = "SCHILY.xattr.";

/// Unpacks a layer. Directories of it that are mount points (`made`) go into `wanted`; directories that it has no
/// entry for get the time `epoch`.
pub(super) fn unpack(
    stores: &[PathBuf],
    blob: &LayerBlob,
    epoch: i64,
    made: &BTreeSet<PathBuf>,
    wanted: &mut BTreeMap<PathBuf, Ownership>,
) -> Result<(), Trouble> {
    let path = ground::tree_path(stores, &blob.tree)?;
    let mut file = std::fs::File::open(path).context(|| format!("tree {}", blob.tree))?;
    let size = match &blob.member {
        None => file.metadata().context(|| "layer")?.len(),
        Some(name) => match archive::member(&file, name).context(|| "image archive")? {
            Some(member) => {
                file.seek(SeekFrom::Start(member.start)).context(|| "image archive")?;
                member.size
            }
            None => return Err(Trouble(format!("the image archive has no member {name}"))),
        },
    };
    let bare = mounts::copy_one(Path::new("/")).context(|| "cannot open the root")?;
    fs::create_dir_all(BARE)?;
    mounts::attach(bare.as_fd(), Path::new(BARE)).context(|| "cannot mount the root")?;
    let unpacked = std::thread::scope(|scope| {
        let unpack = || {
            // Root and working directory of this thread alone.
            process::unshare(UnshareFlags::FS).context(|| "unshare")?;
            rustix::process::chroot(BARE).context(|| "cannot enter the root")?;
            rustix::process::chdir("/").context(|| "cannot enter the root")?;
            read_layer(file.take(size), blob, Layer::new(epoch, made, wanted))
        };
        scope.spawn(unpack).join().unwrap_or_else(|_| Err(Trouble("unpacking panicked".into())))
    });
    rustix::mount::unmount(BARE, UnmountFlags::DETACH).context(|| "cannot unmount the root")?;
    unpacked.map_err(|Trouble(why)| Trouble(format!("layer sha256:{}: {why}", blob.diff_id)))
}

/// Reads a blob to its end and checks that it is what it should be; until then nothing of it counts. Another thread
/// decompresses and hashes while this one writes.
fn read_layer(blob: impl Read + Send, expected: &LayerBlob, mut layer: Layer<'_>) -> Result<(), Trouble> {
    let digests = std::thread::scope(|scope| {
        let (chunks, received) = ahead::channel();
        let decompressing = scope.spawn(move || ahead::decompress(blob, chunks));
        let (tar, limit) = Bounded::new(received);
        let mut archive = tar::Archive::new(tar);
        layer.apply(&mut archive, &limit)?;
        limit.content(MAX_PADDING);
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).context(|| "cannot read")?;
        layer.set_times()?;
        decompressing.join().unwrap_or_else(|_| Err(Trouble("decompressing panicked".into())))
    })?;
    check("content", &expected.diff_id, &digests.tar)?;
    match &expected.sha256 {
        Some(sha256) => check("compressed content", sha256, &digests.stored),
        None => Ok(()),
    }
}

fn check(what: &str, expected: &str, found: &str) -> Result<(), Trouble> {
    match found == expected {
        true => Ok(()),
        false => Err(Trouble(format!("wrong {what}: expected sha256 {expected}, found {found}"))),
    }
}

/// A layer being unpacked. All paths are real ones: no link in them but perhaps the last name.
struct Layer<'a> {
    epoch: i64,
    made: &'a BTreeSet<PathBuf>,
    wanted: &'a mut BTreeMap<PathBuf, Ownership>,
    /// What the layer has; a whiteout hides only what its parents have.
    ours: BTreeSet<PathBuf>,
    /// Times of directories, to be set when nothing changes in them any more.
    times: BTreeMap<PathBuf, i64>,
    n_bytes: u64,
    buffer: Vec<u8>,
}

/// What an entry says of whatever it makes.
struct Attributes {
    owner: Ownership,
    mtime: i64,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl<'a> Layer<'a> {
    fn new(
        epoch: i64,
        made: &'a BTreeSet<PathBuf>,
        wanted: &'a mut BTreeMap<PathBuf, Ownership>,
    ) -> Layer<'a> {
        let buffer = vec![0; BUFFER];
        Layer { epoch, made, wanted, ours: BTreeSet::new(), times: BTreeMap::new(), n_bytes: 0, buffer }
    }

    fn apply<R: Read>(&mut self, archive: &mut tar::Archive<R>, limit: &Limit) -> Result<(), Trouble> {
        for (n, entry) in archive.entries().context(|| "not a tar file")?.enumerate() {
            let mut entry = entry.context(|| "not a tar file")?;
            if n >= MAX_ENTRIES {
                return Err(Trouble(format!("more than {MAX_ENTRIES} entries")));
            }
            limit.content(MAX_BYTES);
            self.entry(&mut entry)?;
            // Whatever was not read belongs to the content, too.
            std::io::copy(&mut entry, &mut std::io::sink()).context(|| "cannot read")?;
            limit.headers();
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), Trouble> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = in_layer(&entry.path_bytes())?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return match kind {
                EntryType::Directory => self.dir(Path::new("/"), &attributes(entry, &path)?),
                _ => Err(Trouble("the root is no directory".into())),
            };
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(parent, name.as_bytes(), hidden);
        }
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        if is_device && path.starts_with("/dev") {
            // Containers get their devices from whoever runs them.
            return Ok(());
        }
        let attributes = attributes(entry, &path)?;
        let parent = self.parent(parent)?;
        self.keep_time(&parent)?;
        let path = parent.join(name);
        self.ours.insert(path.clone());
        if kind == EntryType::Directory {
            return self.dir(&path, &attributes);
        }
        if let Ok(old) = fs::symlink_metadata(&path) {
            self.times.remove(&path);
            remove(&path, &old)?;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = fs::File::create_new(&path)?;
                self.content(entry, &mut file).context(|| format!("cannot write {}", path.display()))?;
                if self.n_bytes > MAX_BYTES {
                    return Err(Trouble(format!("its files are larger than {MAX_BYTES} bytes")));
                }
                give(&path, &attributes)?;
            }
            EntryType::Link => {
                let target = in_layer(&link_name(entry, &path)?)?;
                let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
                    return Err(Trouble(format!("{} is a link to a directory", path.display())));
                };
                return Ok(fs::hard_link(fs::canonicalize(dir)?.join(name), &path)?);
            }
            EntryType::Symlink => {
                let target = link_name(entry, &path)?;
                symlink(OsStr::from_bytes(&target), &path)
                    .context(|| format!("cannot make the link {}", path.display()))?;
                files::own(&path, attributes.owner.1, attributes.owner.2)?;
            }
            EntryType::Fifo => {
                files::make_fifo(&path)?;
                files::give(&path, attributes.owner)?;
            }
            EntryType::Char | EntryType::Block => {
                let path = path.display();
                return Err(Trouble(format!(
                    "{path} is a device; devices are made in /dev only, by the host"
                )));
            }
            other => return Err(Trouble(format!("{}: unknown kind of entry {other:?}", path.display()))),
        }
        set_mtime(&path, attributes.mtime.min(self.epoch))
    }

    /// Writes the content of a file, as far as all files may have any.
    fn content(&mut self, entry: &mut impl Read, file: &mut impl Write) -> std::io::Result<()> {
        while self.n_bytes <= MAX_BYTES {
            let n_read = entry.read(&mut self.buffer)?;
            if n_read == 0 {
                break;
            }
            file.write_all(self.buffer.get(..n_read).unwrap_or_default())?;
            self.n_bytes += n_read as u64;
        }
        Ok(())
    }

    /// Makes a directory, or gives new attributes to one that is there.
    fn dir(&mut self, path: &Path, attributes: &Attributes) -> Result<(), Trouble> {
        match fs::symlink_metadata(path) {
            Ok(old) if old.is_dir() => {
                for (name, _) in tree::xattrs(path, tree::xattr_counts)? {
                    rustix::fs::lremovexattr(path, &name).context(|| path.display())?;
                }
            }
            Ok(_) => {
                fs::remove_file(path)?;
                fs::create_dir(path)?;
            }
            Err(_) => fs::create_dir(path)?,
        }
        give(path, attributes)?;
        if self.made.contains(path) {
            self.wanted.insert(path.to_path_buf(), attributes.owner);
        }
        self.times.insert(path.to_path_buf(), attributes.mtime.min(self.epoch));
        Ok(())
    }

    fn whiteout(&mut self, parent: &Path, name: &[u8], hidden: &[u8]) -> Result<(), Trouble> {
        // Where there is no directory, there is nothing to hide.
        let Ok(parent) = fs::canonicalize(parent) else { return Ok(()) };
        if name == OPAQUE {
            self.keep_time(&parent)?;
            return self.hide_content(&parent);
        }
        if name.starts_with(PRIVATE) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            let name = OsStr::from_bytes(name);
            return Err(Trouble(format!("bad whiteout {}", parent.join(name).display())));
        }
        self.keep_time(&parent)?;
        self.hide(&parent.join(OsStr::from_bytes(hidden)))
    }

    /// Removes what the parents have at a path.
    fn hide(&self, path: &Path) -> Result<(), Trouble> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        let mut below = self.ours.range(path.to_path_buf()..);
        match below.next().is_some_and(|it| it.starts_with(path)) {
            true if meta.is_dir() => self.hide_content(path),
            true => Ok(()),
            false => remove(path, &meta),
        }
    }

    fn hide_content(&self, dir: &Path) -> Result<(), Trouble> {
        let names = fs::read_dir(dir)?.map(|it| it.map(|it| it.path())).collect::<Result<Vec<_>, _>>()?;
        names.iter().try_for_each(|path| self.hide(path))
    }

    /// The real path of a directory that something is made in; it is made itself if it is missing.
    fn parent(&mut self, path: &Path) -> Result<PathBuf, Trouble> {
        match fs::canonicalize(path) {
            Ok(real) if real.is_dir() => Ok(real),
            Ok(real) => Err(Trouble(format!("{} is no directory", real.display()))),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(err.into());
                };
                let above = self.parent(above)?;
                self.keep_time(&above)?;
                let real = above.join(name);
                fs::create_dir(&real)?;
                self.ours.insert(real.clone());
                self.times.insert(real.clone(), self.epoch);
                Ok(real)
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Remembers the time of a directory that is about to change.
    fn keep_time(&mut self, dir: &Path) -> Result<(), Trouble> {
        if !self.times.contains_key(dir) {
            let mtime = fs::symlink_metadata(dir)?.mtime();
            self.times.insert(dir.to_path_buf(), mtime.min(self.epoch));
        }
        Ok(())
    }

    fn set_times(&self) -> Result<(), Trouble> {
        let there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
        let mut times = self.times.iter().filter(|(path, _)| there(path));
        times.try_for_each(|(path, mtime)| set_mtime(path, *mtime))
    }
}

/// The path that a name in a layer means. Some tools write names as the image will have them, from the root on.
fn in_layer(name: &[u8]) -> Result<PathBuf, Trouble> {
    let below = name.iter().position(|b| *b != b'/').unwrap_or(name.len());
    in_root(name.get(below..).unwrap_or_default())
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> Result<Attributes, Trouble> {
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions().context(|| path.display())? {
        for extension in extensions {
            let extension = extension.context(|| path.display())?;
            let Some(name) = extension.key().ok().and_then(|it| it.strip_prefix(XATTR)) else { continue };
            if tree::xattr_counts(name.as_bytes()) {
                xattrs.push((OsString::from(name), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let number = |n: std::io::Result<u64>| {
        u32::try_from(n.context(|| path.display())?).context(|| format!("owner of {}", path.display()))
    };
    let (user, group) = (number(header.uid())?, number(header.gid())?);
    let mode = header.mode().context(|| path.display())? & 0o7777;
    let mtime = i64::try_from(header.mtime().context(|| path.display())?).unwrap_or(i64::MAX);
    Ok(Attributes { owner: (mode, user, group), mtime, xattrs })
}

fn remove(path: &Path, meta: &std::fs::Metadata) -> Result<(), Trouble> {
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|err| match err.kind() {
        std::io::ErrorKind::ResourceBusy => {
            Trouble(format!("{} must be a directory: sandboxes mount on it", path.display()))
        }
        _ => err.into(),
    })
}

/// Sets owner, mode and extended attributes, in this order: the first undoes some of the others.
fn give(path: &Path, attributes: &Attributes) -> Result<(), Trouble> {
    files::give(path, attributes.owner)?;
    for (name, value) in &attributes.xattrs {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
            .context(|| format!("cannot set {} of {}", name.display(), path.display()))?;
    }
    Ok(())
}
