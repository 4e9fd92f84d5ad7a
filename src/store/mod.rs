//! The store: realized trees by hash, plain files, many processes, no daemon. Specified in `spec/store.md`.
//!
//! A tree counts only once its record in `info/` exists; that record is written, atomically, after the tree
//! is on disk. Whatever a kill leaves behind is therefore garbage and never a wrong result.

mod layout;
mod open;
mod place;
mod record;
mod times;
mod uses;
mod work;

mod archive;
mod checkpoints;
mod failed;
mod gc;
mod optimise;
mod roots;
mod verify;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::tree::{self, Owner, TreeError, TreeHash, TreeInfo};

pub use archive::{ArchiveError, Contents, Imported, Known};
pub use checkpoints::{Checkpoint, CheckpointUsage, Checkpoints};
pub use failed::Failed;
pub use gc::{Collected, GcMode, Removed, Rules};
pub use layout::{Key, default_root};
pub use optimise::{Optimised, Usage};
pub use place::Placed;
pub use record::Realized;
pub use roots::{Root, RootResult, now};
pub use times::Times;
pub use verify::{Bad, BadFile, Verified};
pub use work::{AtWork, KeyLock, WorkDir, set_mtime};

/// Version of the layout; stores of a newer one are refused.
const VERSION: u32 = 1;

/// How exactly the last use of a tree is known: noting it more often would only wear the disk.
const USE_STEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Nothing is registered with less of it free.
const LEAST_BYTES: u64 = 256 << 10;
/// The same for inodes.
const LEAST_INODES: u64 = 16;

/// How often a lock that somebody else has is looked at.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// A store on disk; clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    read_only: bool,
    /// Stores that are only read, looked into in this order after this one.
    lower: Vec<Store>,
    uses: uses::Uses,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Hashing failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Made by a newer raptor.
    #[error("the store {path} has format {found}; this raptor knows formats up to {VERSION}")]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Not a store.
    #[error("{0} is neither empty nor a raptor store")]
    NotAStore(PathBuf),
    /// A record does not parse.
    #[error("the store record {path} is damaged: {reason}")]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to somebody else.
    #[error("the store {path} belongs to user {owner}; choose another with --store or RAPTOR_STORE")]
    Foreign {
        /// The store.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A lower store is not there.
    #[error("there is no store {0} to read from")]
    NoLower(PathBuf),
    /// Too little space to trust what was written.
    #[error("the disk of the store {0} is full: No space left on device")]
    Full(PathBuf),
    /// It can only be read.
    #[error("the store {0} can only be read; build into another one above it: --store DIR --store-lower {0}")]
    ReadOnly(PathBuf),
}

type Result<T> = std::result::Result<T, Error>;

impl Store {
    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Whether nothing can be written to it.
    pub fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    /// The directories of all trees; an entry's name is its hash. The first that has a tree is where to take it from.
    pub fn trees(&self) -> Vec<PathBuf> {
        let lower = self.0.lower.iter().flat_map(Store::trees);
        std::iter::once(self.root().join("trees")).chain(lower).collect()
    }

    /// Store path of a tree, registered or not.
    pub fn path(&self, hash: &TreeHash) -> PathBuf {
        let has = |store: &&Store| store.info_file(hash).exists();
        let lower = self.0.lower.iter().find(has).filter(|_| !has(&self));
        lower.unwrap_or(self).own_path(hash)
    }

    /// Size of a registered tree; `None` if the store does not have it. From now on it stays until this process ends.
    pub fn info(&self, hash: &TreeHash) -> Result<Option<TreeInfo>> {
        if !self.is_read_only() {
            self.0.uses.note(self.root(), hash)?;
        }
        let info = self.registered(hash)?;
        if info.is_some() {
            self.note_use(hash);
        }
        Ok(info)
    }

    /// The same for those who only look.
    pub fn registered(&self, hash: &TreeHash) -> Result<Option<TreeInfo>> {
        self.first(|store| store.own_info(hash))
    }

    /// All registered trees of this store itself, with the time of their last use, sorted by hash.
    pub fn list(&self) -> Result<Vec<(TreeInfo, SystemTime)>> {
        let mut trees = Vec::new();
        for file in self.files("info")? {
            let Ok(stat) = std::fs::metadata(&file) else { continue };
            if let Some(info) = name_of(&file).and_then(|hash| self.own_info(&hash).transpose()) {
                trees.push((info?, stat.modified()?));
            }
        }
        trees.sort_by_key(|(info, _)| info.hash);
        Ok(trees)
    }

    /// A private directory on the same file system, removed when dropped.
    pub fn work_dir(&self) -> Result<WorkDir> {
        self.writable()?;
        WorkDir::new(&self.root().join("tmp"))
    }

    /// The file of this name in the work directory of a process that runs now.
    pub fn at_work(&self, name: &str) -> Result<Option<AtWork>> {
        work::at_work(&self.root().join("tmp"), name)
    }

    /// Work directories that killed processes left behind, locked by us now; removing them is up to the caller,
    /// because their files may belong to other ids.
    pub fn abandoned(&self) -> Result<Vec<WorkDir>> {
        match self.is_read_only() {
            true => Ok(Vec::new()),
            false => work::abandoned(&self.root().join("tmp")),
        }
    }

    /// Moves a finished tree into the store and registers it. `from` must be on the store's file system.
    pub fn register(&self, from: &Path, info: &TreeInfo) -> Result<()> {
        self.writable()?;
        let _lock = KeyLock::take(&self.tree_lock(&info.hash), FlockOperation::LockExclusive)?;
        if self.info(&info.hash)?.is_some() {
            return Ok(());
        }
        self.check_room()?;
        let dest = self.own_path(&info.hash);
        let rename = |flags| rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, &dest, flags);
        match rename(rustix::fs::RenameFlags::NOREPLACE) {
            // Whoever put it there died before registering it, so a power cut may have torn it; or it was found to be
            // bad: ours replaces it.
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
                rename(rustix::fs::RenameFlags::EXCHANGE)
            }
            other => other,
        }
        .map_err(|err| {
            let kind = std::io::Error::from(err).kind();
            std::io::Error::new(kind, format!("cannot move {} to {}: {err}", from.display(), dest.display()))
        })?;
        self.sync()?;
        record::write(self.root(), &self.info_file(&info.hash), info)?;
        self.forget_bad(&info.hash)
    }

    /// Moves a plain file into the store as a tree of its own: mode 0644 (0755 if executable), root:root,
    /// time stamp 0. `file` must be on the store's file system.
    pub fn add_file(&self, file: &Path) -> Result<TreeInfo> {
        let executable = fs::metadata(file)?.mode() & 0o111 != 0;
        fs::set_permissions(file, std::fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        set_mtime(file, 0)?;
        let info = tree::hash_tree(file, Owner::Imported)?;
        self.register(file, &info)?;
        // It stays when the store has it already, and becomes what it replaced.
        match fs::remove_file(file) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
            _ => Ok(info),
        }
    }

    /// What a key was realized to, if its output is still registered.
    pub fn realized(&self, key: &Key) -> Result<Option<Realized>> {
        self.first(|store| match store.own_recorded(key)? {
            Some(realized) => Ok(store.info(&realized.output)?.map(|_| realized)),
            None => Ok(None),
        })
    }

    /// What a key was last realized to, whether its output is still registered or not.
    pub fn recorded(&self, key: &Key) -> Result<Option<Realized>> {
        self.first(|store| store.own_recorded(key))
    }

    /// Remembers what a key was realized to. The output must be registered.
    pub fn set_realized(&self, key: &Key, realized: &Realized) -> Result<()> {
        self.writable()?;
        record::write(self.root(), &self.realized_file(key), realized)
    }

    /// Path of a fetched body, if it is here.
    pub fn fetched(&self, sha256: &str, size: u64) -> Result<Option<PathBuf>> {
        let key = Key::fetched(sha256, size);
        self.0.uses.note_body(&key);
        Ok(self.realized(&key)?.map(|realized| self.path(&realized.output)))
    }

    /// Moves a fetched body, whose digest the caller has checked, into the store.
    pub fn add_fetched(&self, file: &Path, sha256: &str, size: u64) -> Result<PathBuf> {
        fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))?;
        let info = self.add_file(file)?;
        let key = Key::fetched(sha256, size);
        self.0.uses.note_body(&key);
        self.set_realized(&key, &Realized::new(info.hash))?;
        Ok(self.path(&info.hash))
    }

    /// Fetched bodies that this process has asked for.
    pub fn bodies_used(&self) -> BTreeSet<Key> {
        self.0.uses.bodies()
    }

    /// The exclusive right to realize `key`; nothing while another process or thread has it.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>> {
        self.writable()?;
        KeyLock::take(&self.key_lock(key), FlockOperation::NonBlockingLockExclusive)
    }

    /// The same, once whoever has it is done; nothing if `cancel` is set meanwhile.
    pub fn wait_lock(&self, key: &Key, cancel: &AtomicBool) -> Result<Option<KeyLock>> {
        loop {
            match self.try_lock(key)? {
                None if !cancel.load(Ordering::Relaxed) => std::thread::sleep(LOCK_POLL),
                taken => return Ok(taken),
            }
        }
    }

    /// Where the derivation with this id is kept.
    pub fn drv_file(&self, id: &str) -> PathBuf {
        let own = self.root().join("drv").join(format!("{id}.json"));
        let lower = self.0.lower.iter().map(|lower| lower.drv_file(id)).find(|it| it.exists());
        lower.filter(|_| !own.exists()).unwrap_or(own)
    }

    /// Ids of all derivations that are kept, sorted.
    pub fn drvs(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for store in std::iter::once(self).chain(&self.0.lower) {
            let files = store.files("drv")?;
            names.extend(files.iter().filter_map(|it| Some(it.file_stem()?.to_str()?.to_owned())));
        }
        Ok(names)
    }

    /// Keeps the text of a derivation.
    pub fn write_drv(&self, id: &str, text: &[u8]) -> Result<()> {
        self.writable()?;
        record::write_atomic(self.root(), &self.drv_file(id), text)
    }

    /// Where the log with this name is kept.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.root().join("log").join(format!("{name}.zst"))
    }

    /// The log with this name, of this store or one below.
    pub fn find_log(&self, name: &str) -> Option<PathBuf> {
        let own = Some(self.log_file(name)).filter(|it| it.exists());
        own.or_else(|| self.0.lower.iter().find_map(|lower| lower.find_log(name)))
    }

    /// The files of all logs, of the stores below, too; one log may have several names.
    pub fn logs(&self) -> Result<Vec<PathBuf>> {
        let mut files = self.files("log")?;
        for lower in &self.0.lower {
            files.extend(lower.logs()?);
        }
        Ok(files)
    }

    /// A file of the store's own bookkeeping, below `state/`: rebuilt or done without when missing.
    pub fn state_file(&self, kind: &str, name: &str) -> PathBuf {
        self.root().join("state").join(kind).join(name)
    }

    /// Writes a bookkeeping file in one step.
    pub fn write_state(&self, kind: &str, name: &str, content: &[u8]) -> Result<()> {
        self.writable()?;
        let file = self.state_file(kind, name);
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        record::write_atomic(self.root(), &file, content)
    }

    /// Waits until everything written to the store's file system so far is on disk.
    pub fn sync(&self) -> Result<()> {
        let dir = fs::File::open(self.root())?;
        rustix::fs::syncfs(&dir).map_err(|err| {
            let kind = std::io::Error::from(err).kind();
            let message = format!("cannot write the store {} to its disk: {err}", self.root().display());
            std::io::Error::new(kind, message)
        })?;
        Ok(())
    }

    /// The first answer of this store and those below it.
    fn first<T>(&self, find: impl Fn(&Store) -> Result<Option<T>>) -> Result<Option<T>> {
        let found = std::iter::once(self).chain(&self.0.lower).find_map(|store| find(store).transpose());
        found.transpose()
    }

    fn writable(&self) -> Result<()> {
        match self.is_read_only() {
            true => Err(Error::ReadOnly(self.root().to_path_buf())),
            false => Ok(()),
        }
    }

    /// Fails when the disk is as good as full: programs do not always notice, or tell, that what they wrote is cut
    /// short.
    fn check_room(&self) -> Result<()> {
        let stat = rustix::fs::statvfs(self.root()).map_err(std::io::Error::from)?;
        // Some file systems do not count inodes.
        let inodes = stat.f_files == 0 || stat.f_ffree >= LEAST_INODES;
        match stat.f_bavail.saturating_mul(stat.f_frsize) >= LEAST_BYTES && inodes {
            true => Ok(()),
            false => Err(Error::Full(self.root().to_path_buf())),
        }
    }

    fn own_path(&self, hash: &TreeHash) -> PathBuf {
        self.root().join("trees").join(hash.to_string())
    }

    fn own_info(&self, hash: &TreeHash) -> Result<Option<TreeInfo>> {
        let info: Option<TreeInfo> = record::read_intact(&self.info_file(hash))?;
        Ok(info.filter(|it| it.hash == *hash))
    }

    fn own_recorded(&self, key: &Key) -> Result<Option<Realized>> {
        record::read_intact(&self.realized_file(key))
    }

    /// The time stamp of the registration is the time of the last use.
    fn note_use(&self, hash: &TreeHash) {
        let file = self.info_file(hash);
        let used = std::fs::metadata(&file).and_then(|it| it.modified());
        if used.is_ok_and(|it| it.elapsed().is_ok_and(|age| age > USE_STEP)) {
            // Not knowing exactly when it was used is no reason not to use it.
            let _ = std::fs::File::open(&file).and_then(|it| it.set_modified(SystemTime::now()));
        }
    }

    /// Files of one of the store's directories, sorted by name.
    fn files(&self, dir: &str) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.root().join(dir)) {
            Ok(entries) => entries,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err.into()),
        };
        let mut files = entries.map(|it| Ok(it?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        Ok(files)
    }

    fn info_file(&self, hash: &TreeHash) -> PathBuf {
        self.root().join("info").join(format!("{hash}.json"))
    }

    fn realized_file(&self, key: &Key) -> PathBuf {
        self.root().join("realized").join(format!("{key}.json"))
    }

    fn tree_lock(&self, hash: &TreeHash) -> PathBuf {
        self.root().join("locks").join(format!("tree-{hash}"))
    }

    fn key_lock(&self, key: &Key) -> PathBuf {
        self.root().join("locks").join(key.to_string())
    }
}

/// The hash or key that a record is named by.
fn name_of<T: std::str::FromStr>(file: &Path) -> Option<T> {
    file.file_stem()?.to_str()?.parse().ok()
}
