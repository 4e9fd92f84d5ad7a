//! Checkpoints: everything that carries state from one step to the next, kept so that a later build can begin there.
//!
//! A checkpoint is a `.manifest`, which says all of every file but its content, and a `.pack` with the contents that
//! are new since the checkpoint before it. Uppers are not stacked on each other: copying up breaks hard links and
//! refuses to rename directories, so that later steps would see another file system than in a build in one go.

mod image;
mod pack;
mod restore;
mod take;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{Mode, OFlags};

use self::image::Content;
use super::error::{Context, Fault, Trouble};
use super::init::Notes;
use super::request::{Checkpoints, Request};
use crate::tree;

pub(super) use self::restore::Resumed;

/// Directories in memory whose content later steps can see, by their field in the image.
const MEMORY: [&str; 3] = ["/dev", "/run", "/tmp"];
/// Time stamps of file systems advance in steps of up to this.
const TIME_STEP: Duration = Duration::from_millis(50);
/// A checkpoint is not worth the last space on a disk.
const MIN_FREE: u64 = 1 << 30;

/// What init needs to take checkpoints, and has learnt from earlier ones.
pub(super) struct Keeper<'a> {
    plan: &'a Checkpoints,
    /// Files whose contents are left out.
    passing: Vec<(PathBuf, &'a str)>,
    upper: OwnedFd,
    dir: OwnedFd,
    known: Known,
}

/// What is known of the files of a checkpoint.
#[derive(Default)]
struct Known {
    /// Names of the packs that hold their contents.
    packs: Vec<String>,
    /// By device and inode.
    files: HashMap<(u64, u64), KnownFile>,
    /// When the files were last looked at; no program ran between that and the first look.
    looked: Option<SystemTime>,
}

#[derive(Clone)]
struct KnownFile {
    stamp: Stamp,
    xattrs: image::Xattrs,
    /// Of a regular file.
    content: Option<Content>,
}

/// What changes when a file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Stamp {
        Stamp {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl<'a> Keeper<'a> {
    /// Opens the directories, while they have names.
    pub fn open(plan: &'a Checkpoints, request: &'a Request) -> Result<Keeper<'a>, Trouble> {
        let open = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).context(|| path.to_owned())
        };
        let place = |name: &String| Path::new("/run/raptor").join(name);
        let passing = request.passing_files.iter().map(|(name, text)| (place(name), text.as_str())).collect();
        Ok(Keeper { plan, passing, upper: open("w/upper")?, dir: open("k")?, known: Known::default() })
    }

    /// Fills the upper dir from the checkpoint to begin with, if there is one. The overlay is not mounted yet.
    pub fn resume(&mut self) -> Result<Option<Resumed>, Fault> {
        let Some(idx) = self.plan.resume else { return Ok(None) };
        let name = self.name(idx).ok_or_else(|| Trouble(format!("no checkpoint after step {}", idx + 1)))?;
        let mut resumed = Resumed::open(Path::new("k"), name)?;
        resumed.fill_upper(Path::new("w/upper"))?;
        Ok(Some(resumed))
    }

    /// Everything is as it was: what was restored need not be copied again. Gives the step to go on with.
    pub fn resumed(&mut self, resumed: Resumed) -> usize {
        self.known = resumed.into_known();
        self.plan.resume.map_or(0, |idx| idx + 1)
    }

    /// Takes the checkpoint after a step, if one is wanted. The error says why there is none.
    pub fn take(&mut self, idx: usize, notes: impl FnOnce() -> Notes) -> Option<Result<(), Trouble>> {
        let name = self.name(idx)?.to_owned();
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        let upper = PathBuf::from(format!("/proc/self/fd/{}", self.upper.as_raw_fd()));
        let taken = take::take(&self.known, &self.passing, &dir, &name, &upper, notes());
        Some(match taken {
            Ok(known) => {
                self.known = known;
                Ok(())
            }
            Err(trouble) => {
                for file in image::files(&dir, &name) {
                    let _ = fs::remove_file(file);
                }
                Err(trouble)
            }
        })
    }

    /// Name of the checkpoint after a step, after checking that it is just a name.
    fn name(&self, idx: usize) -> Option<&str> {
        let name = self.plan.names.get(&idx)?;
        (!name.contains('/') && !name.starts_with('.')).then_some(name)
    }
}

/// Whether a directory lists what was made last first, as file systems in memory do.
fn lists_newest_first(dir: &Path) -> Result<bool, Trouble> {
    let probe = dir.join(".raptor-order");
    fs::create_dir(&probe)?;
    for name in ["first", "second"] {
        fs::File::create_new(probe.join(name))?;
    }
    let listed = fs::read_dir(&probe)?.next().transpose()?.map(|it| it.file_name());
    fs::remove_dir_all(&probe)?;
    Ok(listed.is_some_and(|name| name == "second"))
}

/// Extended attributes that count, and the marks of overlays.
fn kept(path: &Path) -> Result<image::Xattrs, Trouble> {
    let wanted = |name: &[u8]| tree::xattr_counts(name) || name.starts_with(b"user.");
    Ok(tree::xattrs(path, wanted)?)
}
