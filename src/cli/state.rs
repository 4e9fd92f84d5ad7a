//! State directories: what `raptor run -s` keeps of a root from run to run. `spec/cli.md` has the rules.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, XattrFlags};
use serde::{Deserialize, Serialize};

use super::args::Stale;
use super::errors::CliError;
use crate::sandbox::{self, Launcher};

const RECORD: &str = "state.json";
/// The record while it is written.
const NEW_RECORD: &str = "state.json.new";
const VERSION: u32 = 1;
/// `f_type` of statfs(2) for an overlay.
const OVERLAY: i64 = 0x794c_7630;

/// What the changes were made to, and with which ids.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    target: String,
    layers: Vec<String>,
    ids: String,
}

/// A state directory that nobody else uses as long as this lives.
pub struct StateDir {
    path: PathBuf,
    lock: std::fs::File,
    record: Option<Record>,
}

impl StateDir {
    /// Opens a state directory, and makes it if there is none.
    pub fn open(path: &Path) -> Result<StateDir, CliError> {
        fs::create_dir_all(path)?;
        let path = fs::canonicalize(path)?;
        let shown = path.display();
        let owner = fs::metadata(&path)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            let message = format!("the state directory {shown} belongs to user {owner}");
            return Err(named(message, "run as that user, or choose another directory"));
        }
        let lock = fs::File::open(&path)?.into_parts().0;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("the state directory {shown} is in use by another raptor");
                return Err(named(message, "wait for its end, or choose another directory"));
            }
            Err(err) => return Err(unfit(&path, &format!("it cannot be locked: {err}"))),
        }
        let record = read(&path)?;
        if record.is_none() {
            check_empty(&path)?;
            check_file_system(&path, &lock)?;
            // It may come to hold set-uid programs: nobody but the owner enters.
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700))?;
        }
        let ids = sandbox::ids_on_disk()?;
        if let Some(record) = record.as_ref().filter(|it| it.ids != ids) {
            let message = format!("the state directory {shown} has files of other ids: {}", record.ids);
            return Err(named(message, &format!("yours are now: {ids}; choose another directory")));
        }
        Ok(StateDir { path, lock, record })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Open as long as the directory is locked.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Uses the directory for changes to these layers.
    pub fn accept(&mut self, target: &str, layers: &[String], stale: Stale) -> Result<(), CliError> {
        if let Some(record) = self.record.as_ref().filter(|it| it.layers != layers) {
            match stale {
                Stale::Fail => return Err(self.stale(target, record)),
                Stale::Keep => {}
                Stale::Drop => self.forget()?,
            }
        }
        let ids = sandbox::ids_on_disk()?;
        let record = Record { version: VERSION, target: target.to_owned(), layers: layers.to_vec(), ids };
        if self.record.as_ref() != Some(&record) {
            self.write(&record)?;
            self.record = Some(record);
        }
        Ok(())
    }

    fn stale(&self, target: &str, record: &Record) -> CliError {
        let shown = self.path.display();
        let message = match record.target == target {
            true => format!("the state in {shown} was made on `{target}` as it was before; it has changed"),
            false => format!("the state in {shown} was made on `{}`, not on `{target}`", record.target),
        };
        named(
            message,
            "raptor run --stale-state keep lays it over the layers as they are now, --stale-state drop begins anew",
        )
    }

    /// Drops all changes. They go in one move, so that there are never some of them.
    fn forget(&self) -> Result<(), CliError> {
        let (upper, scratch) = (self.path.join("upper"), self.path.join("scratch"));
        let launcher = Launcher::current();
        sandbox::remove(&launcher, &scratch)?;
        match fs::rename(&upper, &scratch) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
            _ => {}
        }
        Ok(sandbox::remove(&launcher, &scratch)?)
    }

    fn write(&self, record: &Record) -> Result<(), CliError> {
        let (new, path) = (self.path.join(NEW_RECORD), self.path.join(RECORD));
        let mut file = fs::File::create(&new)?;
        serde_json::to_writer(&mut file, record).map_err(std::io::Error::from)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(fs::rename(&new, &path)?)
    }
}

fn read(dir: &Path) -> Result<Option<Record>, CliError> {
    let path = dir.join(RECORD);
    let bytes = match fs::read(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let damaged =
        |why: String| named(format!("{} is damaged: {why}", path.display()), "choose another directory");
    let record: Record = serde_json::from_slice(&bytes).map_err(|err| damaged(err.to_string()))?;
    match record.version {
        VERSION => Ok(Some(record)),
        other => Err(damaged(format!("it has format {other}, and this raptor knows format {VERSION}"))),
    }
}

/// A directory with something else in it is somebody's, and using it would harm that.
fn check_empty(path: &Path) -> Result<(), CliError> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != NEW_RECORD {
            let message = format!("{} is neither empty nor a state directory", path.display());
            return Err(named(message, "choose another directory"));
        }
    }
    Ok(())
}

/// What an overlay needs of the file system of its upper directory.
fn check_file_system(path: &Path, dir: &std::fs::File) -> Result<(), CliError> {
    let kind = rustix::fs::fstatfs(dir).map_err(std::io::Error::from)?.f_type;
    if kind == OVERLAY {
        return Err(unfit(path, "it is on an overlay itself"));
    }
    match rustix::fs::fsetxattr(dir, "user.raptor", b"", XattrFlags::empty()) {
        Ok(()) => Ok(rustix::fs::fremovexattr(dir, "user.raptor").map_err(std::io::Error::from)?),
        Err(err) => {
            Err(unfit(path, &format!("its file system has no extended attributes for users ({err})")))
        }
    }
}

fn unfit(path: &Path, why: &str) -> CliError {
    let message = format!("{} cannot be a state directory: {why}", path.display());
    named(message, "choose a directory on ext4, xfs or btrfs")
}

fn named(message: String, hint: &str) -> CliError {
    CliError::Named { message, hint: Some(hint.to_owned()) }
}
