//! From an upper dir as the kernel left it to a layer that says only what differs from its parents.
//!
//! Overlay marks are history: they are stripped, and what they mean is said by plain whiteouts. What equals the
//! parents is dropped, what `normalise` calls noise too, and time stamps are clamped last.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use raptor_lang::noise::Rule;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};

use super::error::{Context, Trouble};
use super::normalise::{Rules, clamp, is_volatile};
use crate::tree;

/// Makes the directory `upper` canonical over the merged view `lower` of its parents, if it has any.
pub(super) fn layer(upper: &Path, lower: Option<&Path>, rules: Rules, epoch: i64) -> Result<(), Trouble> {
    let mut walk = Walk { rules, epoch, at: PathBuf::new() };
    let meta = fs::symlink_metadata(upper)?;
    walk.dir(upper, &meta, lower, false)
}

/// Clamps the time stamps of an output, and drops sockets.
pub(super) fn output(path: &Path, epoch: i64) -> Result<(), Trouble> {
    let meta = fs::symlink_metadata(path)?;
    if meta.file_type().is_socket() {
        return Ok(fs::remove_file(path)?);
    }
    if meta.is_dir() {
        for name in names(path)? {
            output(&path.join(name), epoch)?;
        }
    }
    set_mtime(path, &meta, epoch)
}

struct Walk {
    rules: Rules,
    epoch: i64,
    /// Path of the current entry below the root.
    at: PathBuf,
}

impl Walk {
    /// Canonicalises the content of a directory, then its own attributes. `lower` is the parents' directory of
    /// the same path; `hidden` says that the upper one does not show it.
    fn dir(
        &mut self,
        upper: &Path,
        meta: &Metadata,
        lower: Option<&Path>,
        hidden: bool,
    ) -> Result<(), Trouble> {
        let hidden = hidden || is_opaque(upper)?;
        let below_dropped = is_volatile(&self.at);
        for name in names(upper)? {
            let path = upper.join(&name);
            if below_dropped {
                remove(&path)?;
                continue;
            }
            self.at.push(&name);
            let below = lower.map(|lower| lower.join(&name));
            self.entry(&path, below.as_deref(), hidden)?;
            self.at.pop();
        }
        if let (true, false, Some(lower)) = (hidden, below_dropped, lower) {
            for name in names(lower)? {
                let path = upper.join(&name);
                if present(&lower.join(&name))?.is_some() && fs::symlink_metadata(&path).is_err() {
                    whiteout(&path)?;
                }
            }
        }
        strip(upper)?;
        set_mtime(upper, meta, self.epoch)
    }

    /// Canonicalises one entry, which may vanish. `hidden` as in [`Walk::dir`].
    fn entry(&mut self, upper: &Path, lower: Option<&Path>, hidden: bool) -> Result<(), Trouble> {
        let meta = fs::symlink_metadata(upper)?;
        let below = match lower {
            Some(lower) => present(lower)?.map(|meta| (lower, meta)),
            None => None,
        };
        if is_whiteout(&meta) {
            return if below.is_none() { remove(upper) } else { Ok(()) };
        }
        let noise = match self.rules.of(&self.at) {
            Rule::Delete => true,
            Rule::DeleteFile => meta.is_file(),
            Rule::Empty => {
                if meta.is_file() && meta.len() > 0 {
                    std::fs::OpenOptions::new()
                        .write(true)
                        .truncate(true)
                        .open(upper)
                        .context(|| upper.display())?;
                }
                false
            }
            Rule::Keep => false,
        };
        if noise || meta.file_type().is_socket() {
            remove(upper)?;
            // Without this the parents' file would come back.
            return if below.is_some() { whiteout(upper) } else { Ok(()) };
        }
        if meta.is_dir() {
            let lower_dir = below.as_ref().filter(|(_, lower)| lower.is_dir()).map(|(path, _)| *path);
            self.dir(upper, &meta, lower_dir, hidden)?;
            if let Some((path, lower)) = below.filter(|(_, lower)| lower.is_dir())
                && names(upper)?.is_empty()
                && same_attributes(upper, &meta, path, &lower)?
            {
                fs::remove_dir(upper)?;
            }
            return Ok(());
        }
        if meta.is_file() {
            strip(upper)?;
        }
        if let Some((path, lower)) = below {
            // One name of several must not go: the others are still one file with it.
            if meta.nlink() == 1 && same(upper, path, &lower)? {
                return remove(upper);
            }
        }
        set_mtime(upper, &meta, self.epoch)
    }
}

/// What the parents show at a path.
fn present(path: &Path) -> Result<Option<Metadata>, Trouble> {
    match fs::symlink_metadata(path) {
        Ok(meta) if is_whiteout(&meta) => Ok(None),
        Ok(meta) => Ok(Some(meta)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(dir: &Path) -> Result<bool, Trouble> {
    let marks = tree::xattrs(dir, |name| name == b"user.overlay.opaque")?;
    Ok(marks.iter().any(|(_, value)| value == b"y"))
}

/// Removes all marks of overlays.
fn strip(path: &Path) -> Result<(), Trouble> {
    let mark = |name: &[u8]| name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.");
    for (name, _) in tree::xattrs(path, mark)? {
        rustix::fs::lremovexattr(path, &name)
            .context(|| format!("cannot remove {} of {}", name.display(), path.display()))?;
    }
    Ok(())
}

/// Whether two entries that are no directories are the same but for their times.
fn same(upper: &Path, lower: &Path, lower_meta: &Metadata) -> Result<bool, Trouble> {
    // Read again: the entry may just have been emptied.
    let meta = fs::symlink_metadata(upper)?;
    if meta.file_type() != lower_meta.file_type() || !same_attributes(upper, &meta, lower, lower_meta)? {
        return Ok(false);
    }
    if meta.is_symlink() {
        return Ok(fs::read_link(upper)? == fs::read_link(lower)?);
    }
    if meta.is_file() {
        return Ok(meta.len() == lower_meta.len() && same_content(upper, lower)?);
    }
    Ok(meta.rdev() == lower_meta.rdev())
}

fn same_attributes(
    upper: &Path,
    upper_meta: &Metadata,
    lower: &Path,
    lower_meta: &Metadata,
) -> Result<bool, Trouble> {
    let attributes = |meta: &Metadata| (meta.mode(), meta.uid(), meta.gid());
    Ok(attributes(upper_meta) == attributes(lower_meta)
        && tree::xattrs(upper, tree::xattr_counts)? == tree::xattrs(lower, tree::xattr_counts)?)
}

fn same_content(a: &Path, b: &Path) -> Result<bool, Trouble> {
    const BLOCK: u64 = 1 << 16;
    let (mut a, mut b) = (fs::File::open(a)?, fs::File::open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut a).take(BLOCK).read_to_end(&mut left)?;
        (&mut b).take(BLOCK).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

fn whiteout(path: &Path) -> Result<(), Trouble> {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)
        .context(|| format!("cannot make a whiteout at {}", path.display()))
}

fn remove(path: &Path) -> Result<(), Trouble> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(fs::remove_dir_all(path)?),
        false => Ok(fs::remove_file(path)?),
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>, Trouble> {
    Ok(fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?)
}

/// Sets the time stamp that follows from `meta`, which was read before we changed anything.
fn set_mtime(path: &Path, meta: &Metadata, epoch: i64) -> Result<(), Trouble> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: clamp(meta.mtime(), epoch), tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("cannot set the time of {}", path.display()))
}
