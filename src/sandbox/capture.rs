//! Taking the result of a sandbox in which nobody lives any more.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use memchr::memmem::Finder;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::error::{Context, Fault, Trouble};
use super::ground::{self, Ground};
use super::init::Notes;
use super::normalise::Rules;
use super::request::{Capture, MountSource, Report, Request};
use super::{canonical, mounts};
use crate::tree::{self, Owner, TreeInfo};

/// Makes the layer and the outputs canonical and hashes them.
pub(super) fn take(request: &Request, ground: &Ground, notes: OwnedFd) -> Result<Report, Fault> {
    ground::clear_scratch()?;
    let notes = Notes::read(notes)?;
    let outputs = outputs(request)?;
    let upper = Path::new("w/upper");
    let layer = match request.capture {
        Capture::Discard => {
            fs::remove_dir_all(upper).map_err(Trouble::from)?;
            None
        }
        Capture::Keep => {
            unmake_mount_points(&notes)?;
            None
        }
        Capture::Layer => {
            unmake_mount_points(&notes)?;
            let lower = merged_view(ground)?;
            let rules = Rules::except(&request.keep);
            canonical::layer(upper, lower.as_deref(), rules, request.epoch)?;
            Some(hash_layer(upper, &request.forbidden)?)
        }
    };
    if layer.is_some() || !outputs.is_empty() {
        // The overlay was mounted `volatile`, so this is the first time that its files must reach the disk.
        let work = fs::File::open("w").map_err(Trouble::from)?;
        rustix::fs::syncfs(&work).context(|| "cannot write the result to disk")?;
    }
    Ok(Report { layer, outputs, status: notes.status })
}

/// Hashes a layer, and looks on the way for what may not be in it.
fn hash_layer(upper: &Path, forbidden: &[Vec<u8>]) -> Result<TreeInfo, Fault> {
    let finders: Vec<Finder<'_>> = forbidden.iter().map(Finder::new).collect();
    let found = Mutex::new(BTreeSet::new());
    let look = |path: &Path, content: &[u8]| {
        if finders.iter().any(|it| it.find(content).is_some()) {
            let path = Path::new("/").join(path);
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(path.display().to_string());
        }
    };
    let info = tree::hash_tree_seen(upper, Owner::AsSeen, &look).map_err(Trouble::from)?;
    // The first of them, so that it is the same one each time.
    match found.into_inner().unwrap_or_else(PoisonError::into_inner).pop_first() {
        Some(path) => Err(Fault::Forbidden(path)),
        None => Ok(info),
    }
}

fn outputs(request: &Request) -> Result<BTreeMap<String, TreeInfo>, Fault> {
    let mut outputs = BTreeMap::new();
    for mount in &request.mounts {
        let MountSource::Output { name, file } = &mount.source else { continue };
        let path = PathBuf::from(ground::output_path(name)?);
        let meta = fs::symlink_metadata(&path).map_err(Trouble::from)?;
        if *file && meta.len() == 0 {
            return Err(Fault::EmptyOutput(name.clone()));
        }
        canonical::output(&path, request.epoch)?;
        outputs.insert(name.clone(), tree::hash_tree(&path, Owner::AsSeen).map_err(Trouble::from)?);
    }
    Ok(outputs)
}

/// Where the parents of the layer can be read as one tree.
fn merged_view(ground: &Ground) -> Result<Option<PathBuf>, Trouble> {
    match ground.lower.as_slice() {
        [] => Ok(None),
        // Through the link, without the absolute path: its directories may be closed to us.
        [only] => Ok(Some(Path::new(only).join("."))),
        several => {
            // The root that init had is not visible here, so its place is free.
            mounts::overlay(several, None, "r").context(|| "cannot mount the parent layers")?;
            Ok(Some(PathBuf::from("r")))
        }
    }
}

/// Removes from the upper dir what was made only to be mounted on.
fn unmake_mount_points(notes: &Notes) -> Result<(), Trouble> {
    for path in notes.made.iter().rev() {
        let Some((dir, name)) = open_parent(path)? else { continue };
        let named = || format!("cannot unmake the mount point {}", path.display());
        let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other.context(named)?,
        };
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if let (Some((mode, user, group)), true) = (notes.wanted.get(path), kind.is_dir()) {
            let owner = (Some(Uid::from_raw(*user)), Some(Gid::from_raw(*group)));
            rustix::fs::chownat(&dir, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                .and_then(|()| rustix::fs::chmodat(&dir, &name, Mode::from_raw_mode(*mode), AtFlags::empty()))
                .context(|| format!("cannot change {}", path.display()))?;
            continue;
        }
        // One that got content stays: removing a directory that is not empty fails.
        let unmade = match kind.is_dir() {
            true => rustix::fs::unlinkat(&dir, &name, AtFlags::REMOVEDIR),
            false if kind.is_file() && stat.st_size == 0 => {
                rustix::fs::unlinkat(&dir, &name, AtFlags::empty())
            }
            false => Ok(()),
        };
        match unmade {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => other.context(named)?,
        }
    }
    Ok(())
}

/// The directory of a path in the upper dir, without following links that programs may have put there.
fn open_parent(path: &Path) -> Result<Option<(OwnedFd, PathBuf)>, Trouble> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let parent = Path::new("w/upper").join(parent.strip_prefix("/").unwrap_or(parent));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match rustix::fs::openat2(rustix::fs::CWD, &parent, flags, Mode::empty(), resolve) {
        Ok(dir) => Ok(Some((dir, PathBuf::from(name)))),
        // Gone, replaced, or made below another mount.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(err) => Err(err).context(|| format!("cannot open {}", parent.display())),
    }
}
