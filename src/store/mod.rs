//! The store: realized trees by hash, plain files, many processes, no daemon. Specified in `spec/store.md`.
//!
//! A tree counts only once its record in `info/` exists; that record is written, atomically, after the tree
//! is on disk. Whatever a kill leaves behind is therefore garbage and never a wrong result.

mod layout;
mod place;
mod record;
mod work;

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::tree::{self, Owner, TreeError, TreeHash, TreeInfo};

pub use layout::{Key, default_root};
pub use place::Placed;
pub use record::Realized;
pub use work::{KeyLock, WorkDir, set_mtime};

/// Version of the layout; stores of a newer one are refused.
const VERSION: u32 = 1;

/// A store on disk; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<Path>,
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
}

type Result<T> = std::result::Result<T, Error>;

impl Store {
    /// Opens a store, making it if the directory is missing or empty.
    pub fn open(root: &Path) -> Result<Store> {
        if !root.exists() {
            // Trees may hold set-uid programs: nobody but the owner enters.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|err| {
                std::io::Error::new(err.kind(), format!("cannot create the store {}: {err}", root.display()))
            })?;
        }
        let root = fs::canonicalize(root)?;
        let owner = fs::metadata(&root)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Error::Foreign { path: root, owner });
        }
        let version_file = root.join("version");
        match fs::read_to_string(&version_file) {
            Ok(text) => {
                let found = text.trim().parse().map_err(|_| Error::Damaged {
                    path: version_file.clone(),
                    reason: "the version is not a number".into(),
                })?;
                if found > VERSION {
                    return Err(Error::Newer { path: root, found });
                }
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                let known =
                    |name: &std::ffi::OsStr| name == "tmp" || layout::DIRS.iter().any(|dir| name == *dir);
                if fs::read_dir(&root)?.any(|entry| entry.is_ok_and(|e| !known(&e.file_name()))) {
                    return Err(Error::NotAStore(root));
                }
                for dir in layout::DIRS {
                    fs::create_dir_all(root.join(dir))?;
                }
                record::write_atomic(&root, &version_file, format!("{VERSION}\n").as_bytes())?;
            }
            Err(err) => return Err(err.into()),
        }
        Ok(Store { root: root.into() })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of all trees; an entry's name is its hash.
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// Store path of a tree, registered or not.
    pub fn path(&self, hash: &TreeHash) -> PathBuf {
        self.root.join("trees").join(hash.to_string())
    }

    /// Size of a registered tree; `None` if the store does not have it.
    pub fn info(&self, hash: &TreeHash) -> Result<Option<TreeInfo>> {
        record::read(&self.info_file(hash))
    }

    /// A private directory on the same file system, removed when dropped.
    pub fn work_dir(&self) -> Result<WorkDir> {
        WorkDir::new(&self.root.join("tmp"))
    }

    /// Work directories that killed processes left behind, locked by us now; removing them is up to the caller,
    /// because their files may belong to other ids.
    pub fn abandoned(&self) -> Result<Vec<WorkDir>> {
        work::abandoned(&self.root.join("tmp"))
    }

    /// Moves a finished tree into the store and registers it. `from` must be on the store's file system.
    pub fn register(&self, from: &Path, info: &TreeInfo) -> Result<()> {
        let lock = self.root.join("locks").join(format!("tree-{}", info.hash));
        let _lock = KeyLock::take(&lock, FlockOperation::LockExclusive)?;
        if self.info(&info.hash)?.is_some() {
            return Ok(());
        }
        let dest = self.path(&info.hash);
        let rename = |flags| rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, &dest, flags);
        match rename(rustix::fs::RenameFlags::NOREPLACE) {
            // Whoever put it there died before registering it, so a power cut may have torn it: ours replaces it.
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
        record::write(&self.root, &self.info_file(&info.hash), info)
    }

    /// Moves a plain file into the store as a tree of its own: mode 0644 (0755 if executable), root:root,
    /// time stamp 0. `file` must be on the store's file system.
    pub fn add_file(&self, file: &Path) -> Result<TreeInfo> {
        let executable = fs::metadata(file)?.mode() & 0o111 != 0;
        fs::set_permissions(file, std::fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        set_mtime(file, 0)?;
        let info = tree::hash_tree(file, Owner::Imported)?;
        self.register(file, &info)?;
        Ok(info)
    }

    /// What a key was realized to, if its output is still registered.
    pub fn realized(&self, key: &Key) -> Result<Option<Realized>> {
        let Some(realized) = record::read::<Realized>(&self.realized_file(key))? else { return Ok(None) };
        Ok(self.info(&realized.output)?.map(|_| realized))
    }

    /// Remembers what a key was realized to. The output must be registered.
    pub fn set_realized(&self, key: &Key, realized: &Realized) -> Result<()> {
        record::write(&self.root, &self.realized_file(key), realized)
    }

    /// Path of a fetched body, if it is here.
    pub fn fetched(&self, sha256: &str, size: u64) -> Result<Option<PathBuf>> {
        Ok(self.realized(&Key::fetched(sha256, size))?.map(|realized| self.path(&realized.output)))
    }

    /// Moves a fetched body, whose digest the caller has checked, into the store.
    pub fn add_fetched(&self, file: &Path, sha256: &str, size: u64) -> Result<PathBuf> {
        fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))?;
        let info = self.add_file(file)?;
        self.set_realized(&Key::fetched(sha256, size), &Realized::new(info.hash))?;
        Ok(self.path(&info.hash))
    }

    /// The exclusive right to realize `key`; nothing while another process or thread has it.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>> {
        KeyLock::take(
            &self.root.join("locks").join(key.to_string()),
            FlockOperation::NonBlockingLockExclusive,
        )
    }

    /// Where the derivation with this id is kept.
    pub fn drv_file(&self, id: &str) -> PathBuf {
        self.root.join("drv").join(format!("{id}.json"))
    }

    /// Keeps the text of a derivation.
    pub fn write_drv(&self, id: &str, text: &[u8]) -> Result<()> {
        record::write_atomic(&self.root, &self.drv_file(id), text)
    }

    /// Where the log with this name is kept.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.zst"))
    }

    /// A file of the store's own bookkeeping, below `state/`: rebuilt or done without when missing.
    pub fn state_file(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join("state").join(kind).join(name)
    }

    /// Writes a bookkeeping file in one step.
    pub fn write_state(&self, kind: &str, name: &str, content: &[u8]) -> Result<()> {
        let file = self.state_file(kind, name);
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        record::write_atomic(&self.root, &file, content)
    }

    /// Waits until everything written to the store's file system so far is on disk.
    pub fn sync(&self) -> Result<()> {
        let dir = fs::File::open(&*self.root)?;
        rustix::fs::syncfs(&dir).map_err(std::io::Error::from)?;
        Ok(())
    }

    fn info_file(&self, hash: &TreeHash) -> PathBuf {
        self.root.join("info").join(format!("{hash}.json"))
    }

    fn realized_file(&self, key: &Key) -> PathBuf {
        self.root.join("realized").join(format!("{key}.json"))
    }
}
