//! Unpacking Debian packages over the root, as dpkg does before any of its own programs can run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::sync_channel;

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
use tar::EntryType;

use super::error::{Context, Trouble};
use super::files::{self, Ownership};
use super::ground;

/// Most packages that are decompressed ahead of the one being unpacked.
const MAX_AHEAD: usize = 4;

/// Unpacks packages in order. Directories of a package that are mount points (`made`) go into `wanted`.
pub(super) fn unpack(
    stores: &[PathBuf],
    debs: &[String],
    made: &BTreeSet<PathBuf>,
    wanted: &mut BTreeMap<PathBuf, Ownership>,
) -> Result<(), Trouble> {
    let files = debs.iter().map(|deb| ground::tree_path(stores, deb)).collect::<Result<Vec<_>, _>>()?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_AHEAD));
    std::thread::scope(|scope| {
        // Thread N decompresses packages N, N + threads, …; taking them in turn keeps the order.
        let mut queues = Vec::new();
        for first in 0..threads {
            let (sender, receiver) = sync_channel(1);
            queues.push(receiver);
            let files = &files;
            scope.spawn(move || {
                for file in files.iter().skip(first).step_by(threads) {
                    // The receiver is gone after a failure.
                    if sender.send(data_member(file)).is_err() {
                        return;
                    }
                }
            });
        }
        for (deb, queue) in debs.iter().zip(queues.iter().cycle()) {
            let data = queue.recv().context(|| "decompression ended early").and_then(|data| data);
            data.and_then(|data| unpack_one(&data, made, wanted))
                .map_err(|Trouble(why)| Trouble(format!("package {deb}: {why}")))?;
        }
        drop(queues);
        Ok(())
    })
}

/// The decompressed data member of a package file.
fn data_member(path: &Path) -> Result<Vec<u8>, Trouble> {
    let mut archive = ar::Archive::new(std::io::BufReader::new(fs::File::open(path)?));
    while let Some(entry) = archive.next_entry() {
        let entry = entry.context(|| "not a Debian package")?;
        let name = String::from_utf8_lossy(entry.header().identifier()).trim_end_matches('/').to_string();
        let Some(compression) = name.strip_prefix("data.tar") else { continue };
        let mut data = Vec::new();
        let read = match compression {
            "" => read(entry, &mut data),
            ".xz" => read(liblzma::read::XzDecoder::new_multi_decoder(entry), &mut data),
            ".gz" => read(flate2::read::MultiGzDecoder::new(entry), &mut data),
            ".zst" => zstd::stream::read::Decoder::new(entry).and_then(|decoder| read(decoder, &mut data)),
            _ => return Err(Trouble(format!("{name}: unknown compression"))),
        };
        read.context(|| name)?;
        return Ok(data);
    }
    Err(Trouble("not a Debian package: it has no data.tar".into()))
}

fn read(mut from: impl Read, to: &mut Vec<u8>) -> std::io::Result<()> {
    from.read_to_end(to).map(drop)
}

fn unpack_one(
    data: &[u8],
    made: &BTreeSet<PathBuf>,
    wanted: &mut BTreeMap<PathBuf, Ownership>,
) -> Result<(), Trouble> {
    let mut archive = tar::Archive::new(Cursor::new(data));
    let mut dirs = Vec::new();
    for entry in archive.entries().context(|| "data.tar")? {
        let mut entry = entry.context(|| "data.tar")?;
        let path = in_root(&entry.path_bytes())?;
        let header = entry.header();
        let number = |n: std::io::Result<u64>| {
            u32::try_from(n.context(|| path.display())?).context(|| format!("owner of {}", path.display()))
        };
        let (user, group) = (number(header.uid())?, number(header.gid())?);
        let mode = header.mode().context(|| path.display())? & 0o7777;
        let mtime = header.mtime().context(|| path.display())? as i64;
        let kind = header.entry_type();
        if kind == EntryType::Directory {
            if make_dir(&path, (mode, user, group), made, wanted)? {
                dirs.push((path, mtime));
            }
            continue;
        }
        if !make_way(&path, kind)? {
            continue;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = fs::File::create_new(&path)?;
                std::io::copy(&mut entry, &mut file)
                    .context(|| format!("cannot write {}", path.display()))?;
                files::give(&path, (mode, user, group))?;
            }
            EntryType::Link => {
                let target = in_root(&link_name(&entry, &path)?)?;
                fs::hard_link(target, &path)?;
                continue;
            }
            EntryType::Symlink => {
                let target = link_name(&entry, &path)?;
                symlink(std::ffi::OsStr::from_bytes(&target), &path)
                    .context(|| format!("cannot make the link {}", path.display()))?;
                files::own(&path, user, group)?;
            }
            EntryType::Fifo => {
                files::make_fifo(&path)?;
                files::give(&path, (mode, user, group))?;
            }
            EntryType::Char | EntryType::Block => {
                return Err(Trouble(format!("{} is a device; devices are not unpacked", path.display())));
            }
            other => return Err(Trouble(format!("{}: unknown kind of entry {other:?}", path.display()))),
        }
        set_mtime(&path, mtime)?;
    }
    for (path, mtime) in dirs.iter().rev() {
        set_mtime(path, *mtime)?;
    }
    Ok(())
}

/// Makes a directory unless one is there, perhaps behind a link: that one keeps mode and owner, as with dpkg.
fn make_dir(
    path: &Path,
    owner: Ownership,
    made: &BTreeSet<PathBuf>,
    wanted: &mut BTreeMap<PathBuf, Ownership>,
) -> Result<bool, Trouble> {
    if path.is_dir() {
        let real = fs::canonicalize(path)?;
        if made.contains(&real) {
            wanted.entry(real).or_insert(owner);
        }
        return Ok(false);
    }
    make_parent(path)?;
    fs::create_dir(path)?;
    files::give(path, owner)?;
    Ok(true)
}

/// Removes what stands where an entry goes. False: a directory stays where the package has a link to one.
fn make_way(path: &Path, kind: EntryType) -> Result<bool, Trouble> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() && kind == EntryType::Symlink => return Ok(false),
        Ok(meta) if meta.is_dir() => {
            return Err(Trouble(format!("cannot replace the directory {} by a file", path.display())));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => make_parent(path)?,
    }
    Ok(true)
}

fn make_parent(path: &Path) -> Result<(), Trouble> {
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        fs::create_dir_all(parent)?;
    }
    files::need_parent(path)
}

/// What an entry that is a link says.
pub(super) fn link_name(entry: &tar::Entry<'_, impl Read>, path: &Path) -> Result<Vec<u8>, Trouble> {
    match entry.link_name_bytes() {
        Some(name) => Ok(name.into_owned()),
        None => Err(Trouble(format!("{} is a link to nothing", path.display()))),
    }
}

/// Absolute path of an entry, which must not have `..` in it.
pub(super) fn in_root(name: &[u8]) -> Result<PathBuf, Trouble> {
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let mut path = PathBuf::from("/");
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(Trouble(format!("bad path {}", name.display()))),
        }
    }
    Ok(path)
}

/// Sets the time stamp of `path` itself.
pub(super) fn set_mtime(path: &Path, mtime: i64) -> Result<(), Trouble> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("cannot set the time of {}", path.display()))
}
