//! Files of a project and of the standard library, for the language and the evaluator.

mod import;
mod inputs;
mod packages;
mod snapshot;
mod stdlib;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err as fs;
use raptor_lang::manifest::FetchSource;
use raptor_lang::pattern::Excludes;
use raptor_lang::world::{FileKind, ReadError, World};

use crate::archive;
use crate::eval::{Project, SourceFile};
use crate::tree::{self, Owner, TreeInfo};
use packages::Lookup;
use snapshot::{Answers, Snapshot, Stamp, TreeAnswer};

pub use import::{ImportError, import};
pub use inputs::{Freshness, Inputs};
pub use packages::{Packages, Place};

/// A project directory with its links, on this machine's disk.
///
/// A snapshot: every path is looked at once, and the answer stays the same as long as this lives. So an evaluation
/// never sees two versions of a file, and what it asked for can be written down.
#[derive(Clone, Debug)]
pub struct Files {
    base: PathBuf,
    packages: Arc<Packages>,
    snapshot: Arc<Snapshot>,
    /// Names of `[fetch]` that the project's own files used.
    fetched: Arc<Mutex<BTreeSet<String>>>,
}

impl Files {
    /// Files below `base`, and those of packages.
    pub fn new(base: PathBuf, packages: Packages) -> Files {
        Files {
            base,
            packages: Arc::new(packages),
            snapshot: Arc::new(Snapshot::new()),
            fetched: Arc::default(),
        }
    }

    /// The directory that relative paths count from.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Packages of the project.
    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// Names of `[fetch]` that the project's own files used so far.
    pub fn fetched(&self) -> BTreeSet<String> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a path of the project is on disk; nothing for files of the standard library, and for what leads out of a
    /// package in the store.
    pub fn on_disk(&self, path: &Path) -> Option<PathBuf> {
        self.find(path).ok().flatten()
    }

    /// The same; to lead out of a package in the store is an error.
    fn find(&self, path: &Path) -> Result<Option<PathBuf>, ReadError> {
        match self.packages.lookup(path) {
            Lookup::Found(file) => Ok(Some(file)),
            Lookup::Outside => Err(ReadError::Other("it leads out of its package".into())),
            Lookup::Elsewhere => Ok((!stdlib::owns(path)).then(|| self.base.join(path))),
        }
    }

    fn stat(&self, path: &Path, file: &Path) -> Result<Stamp, ReadError> {
        let find = || std::fs::metadata(file).map(|stat| Stamp::of(&stat)).map_err(read_error);
        self.snapshot.ask(path, |it| it.stat.as_ref(), find, |it, found| it.stat = Some(found))
    }
}

impl World for Files {
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError> {
        let Some(file) = self.find(path)? else {
            return text(stdlib::file(path).ok_or(ReadError::NotFound)?.to_vec());
        };
        let stat = self.stat(path, &file);
        let find = || match stat?.kind() {
            FileKind::File => text(std::fs::read(file).map_err(read_error)?),
            // A pipe or device may never end.
            FileKind::Dir | FileKind::Other => Err(ReadError::Other("not a regular file".into())),
        };
        self.snapshot.ask(path, |it| it.text.as_ref(), find, |it, found| it.text = Some(found))
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        match self.find(path).ok()? {
            None => stdlib::kind(path),
            Some(file) => self.stat(path, &file).ok().map(|it| it.kind()),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, ReadError> {
        let sorted = |mut names: Vec<OsString>| {
            names.sort();
            names
        };
        let Some(dir) = self.find(path)? else {
            return stdlib::list(path).map(sorted).ok_or(ReadError::NotFound);
        };
        let stat = self.stat(path, &dir);
        let find = || {
            stat?;
            let entries = std::fs::read_dir(dir).map_err(read_error)?;
            let names: Result<Vec<_>, _> = entries.map(|it| it.map(|it| it.file_name())).collect();
            names.map(sorted).map_err(read_error)
        };
        self.snapshot.ask(path, |it| it.list.as_ref(), find, |it, found| it.list = Some(found))
    }

    fn is_symlink(&self, path: &Path) -> bool {
        // The link itself, wherever it leads.
        let parent = path.parent().and_then(|it| self.on_disk(it));
        let Some(file) = parent.and_then(|it| Some(it.join(path.file_name()?))) else { return false };
        let find = || std::fs::symlink_metadata(file).is_ok_and(|it| it.is_symlink());
        self.snapshot.ask(path, |it| it.is_symlink.as_ref(), find, |it, found| it.is_symlink = Some(found))
    }

    fn link(&self, name: &str, from: &Path) -> Option<PathBuf> {
        let std = || (name == "std").then(|| PathBuf::from(stdlib::ROOT));
        self.packages.find(name, from).cloned().or_else(std)
    }

    fn fetch(&self, name: &str, from: &Path) -> Option<FetchSource> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.packages.file(name, from).cloned()
    }
}

/// Most bytes of a file that describes an image.
const MAX_IMAGE_PART: u64 = 4 << 20;

/// Most bytes of a file of keys; that of all of Debian has 60 kB.
const MAX_KEYS: u64 = 4 << 20;

impl Project for Files {
    fn key_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let Some(file) = self.on_disk(path) else {
            return Err("keys cannot be in the standard library".into());
        };
        // What the answer depends on.
        let _ = self.imported(&SourceFile::whole(path));
        match self.stat(path, &file).map(|it| (it.kind(), it.size())) {
            Ok((FileKind::File, size)) if size <= MAX_KEYS => {
                std::fs::read(file).map_err(|err| err.to_string())
            }
            Ok((FileKind::File, _)) => Err("it is too large".into()),
            Ok(_) => Err("not a regular file".into()),
            Err(err) => Err(err.to_string()),
        }
    }

    fn image_part(&self, image: &Path, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = self.find(image).map_err(|err| err.to_string())? else {
            return Err("images cannot be in the standard library".into());
        };
        let said = |err: std::io::Error| err.to_string();
        let bounded = |size: u64| match size <= MAX_IMAGE_PART {
            true => Ok(size),
            false => Err(format!("{name} has {size} bytes; {MAX_IMAGE_PART} is the most")),
        };
        if self.kind(image) == Some(FileKind::Dir) {
            let part = image.join(name);
            let file = self.find(&part).map_err(|err| err.to_string())?.unwrap_or_else(|| path.join(name));
            if let Ok(stamp) = self.stat(&part, &file) {
                bounded(stamp.size())?;
            }
            return match self.read(&part) {
                Ok(text) => Ok(Some(text.as_bytes().to_vec())),
                Err(ReadError::NotFound) => Ok(None),
                Err(error) => Err(format!("{name}: {error}")),
            };
        }
        // The whole archive is what the answer depends on.
        let _ = self.imported(&SourceFile::whole(image));
        let mut file = std::fs::File::open(path).map_err(said)?;
        let Some(member) = archive::member(&file, name).map_err(said)? else { return Ok(None) };
        file.seek(SeekFrom::Start(member.start)).map_err(said)?;
        let mut content = Vec::new();
        file.take(bounded(member.size)?).read_to_end(&mut content).map_err(said)?;
        Ok(Some(content))
    }

    fn imported(&self, SourceFile { path, exclude }: &SourceFile) -> Result<TreeInfo, String> {
        match self.find(path).map_err(|err| err.to_string())? {
            None => match stdlib::file(path) {
                Some(content) => Ok(tree::hash_imported(content, false)),
                None => Err("only single files of the standard library can be copied".into()),
            },
            Some(file) => {
                // The stamp of the root is part of the answer.
                let _ = self.stat(path, &file);
                let find = || {
                    let mut entries = Vec::new();
                    // What cannot be listed cannot be hashed either, which is what is told then.
                    let _ = stamps(&file, Path::new(""), exclude, &mut entries);
                    TreeAnswer { exclude: exclude.clone(), entries, info: hash(&file, exclude) }
                };
                let known = |it: &Answers| it.trees.iter().position(|tree| tree.exclude == *exclude);
                self.snapshot
                    .ask(path, |it| it.trees.get(known(it)?), find, |it, found| it.trees.push(found))
                    .info
            }
        }
    }
}

fn hash(file: &Path, exclude: &Excludes) -> Result<TreeInfo, String> {
    let root = fs::canonicalize(file).map_err(|err| err.to_string())?;
    let left_out = |path: &Path, is_dir| exclude.excludes(path, is_dir);
    tree::hash_tree_without(&root, Owner::Imported, &left_out).map_err(|err| err.to_string())
}

/// Stamps of all entries below a directory; of anything else there are none.
fn stamps(
    root: &Path,
    below: &Path,
    exclude: &Excludes,
    found: &mut Vec<(PathBuf, Stamp)>,
) -> std::io::Result<()> {
    let dir = root.join(below);
    let is_dir = match below.as_os_str().is_empty() {
        true => std::fs::metadata(&dir)?.is_dir(),
        false => std::fs::symlink_metadata(&dir)?.is_dir(),
    };
    if !is_dir || below.components().count() > tree::MAX_DEPTH {
        return Ok(());
    }
    for entry in std::fs::read_dir(&dir)? {
        let below = below.join(entry?.file_name());
        let stat = std::fs::symlink_metadata(root.join(&below))?;
        if !exclude.excludes(&below, stat.is_dir()) {
            found.push((below.clone(), Stamp::of(&stat)));
            stamps(root, &below, exclude, found)?;
        }
    }
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<Arc<str>, ReadError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(err) => Err(ReadError::NotUtf8(err.utf8_error().valid_up_to())),
    }
}

fn read_error(error: std::io::Error) -> ReadError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ReadError::NotFound,
        _ => ReadError::Other(error.to_string()),
    }
}
