//! Packages that Raptor.toml links from the network: fetched, unpacked, and registered in the store as trees.

mod checkout;
mod git;
mod wire;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use raptor_lang::manifest::{ArchiveSource, GitRef, GitSource, LinkSource};
use raptor_lang::stmt::Digest;

use super::download::Wanted;
use super::http::{Client, Error};
use crate::archive;
use crate::lock::{LinkPin, Origin};
use crate::store::{self, Store};
use crate::tree::{self, Owner};

/// What fetching works with.
#[derive(Clone, Copy)]
pub struct LinkJob<'a> {
    /// Where the tree goes.
    pub store: &'a Store,
    /// Directory that paths of repositories count from.
    pub base: &'a Path,
    /// Ends it.
    pub cancel: &'a AtomicBool,
}

impl Client {
    /// Fetches a package into the store. What is pinned must come again, tree and all.
    pub fn link(
        &self,
        source: &LinkSource,
        pinned: Option<&LinkPin>,
        job: &LinkJob<'_>,
    ) -> Result<LinkPin, Error> {
        let work = job.store.work_dir()?;
        let fetched = match source {
            LinkSource::Git(git) => self.git(git, pinned, job, work.path()),
            LinkSource::Archive(archive) => self.archive(archive, pinned, job, work.path()),
            LinkSource::Dir(dir) => Err(wrong(dir, "a directory is not fetched")),
        };
        let fetched = match fetched {
            Err(_) if job.cancel.load(Ordering::Relaxed) => return Err(Error::Cancelled),
            other => other?,
        };
        let info = finish(&fetched.root)
            .and_then(|()| Ok(tree::hash_tree(&fetched.root, Owner::Imported)?))
            .map_err(|err: store::Error| wrong(&fetched.url, err))?;
        let pin = LinkPin { origin: fetched.origin, path: fetched.path, tree: info.hash.to_string() };
        if let Some(pinned) = pinned
            && pinned.tree != pin.tree
        {
            let reason = format!("gives the tree {}, but Raptor.lock has {}", pin.tree, pinned.tree);
            return Err(wrong(&fetched.url, reason));
        }
        job.store.register(&fetched.root, &info)?;
        Ok(pin)
    }

    fn git(
        &self,
        GitSource { url, at, path }: &GitSource,
        pinned: Option<&LinkPin>,
        job: &LinkJob<'_>,
        work: &Path,
    ) -> Result<Fetched, Error> {
        let exact = pinned.and_then(|it| match &it.origin {
            Origin::Git { rev, .. } => Some(GitRef::Rev(rev.clone())),
            Origin::Archive { .. } => None,
        });
        let wanted = exact.as_ref().unwrap_or(at);
        let repository = match local(url, job.base) {
            Some(dir) => git::open(url, &dir, wanted)?,
            None => git::fetch(self, url, wanted, &work.join("git"), job.cancel)?,
        };
        let root = work.join("package");
        let rev = checkout::checkout(&repository, path.as_deref(), &root, job.cancel)
            .map_err(|reason| wrong(url, reason))?;
        let origin = Origin::Git { url: url.clone(), at: at.clone(), rev };
        Ok(Fetched { root, origin, path: path.clone(), url: url.clone() })
    }

    fn archive(
        &self,
        source: &ArchiveSource,
        pinned: Option<&LinkPin>,
        job: &LinkJob<'_>,
        work: &Path,
    ) -> Result<Fetched, Error> {
        let url = &source.url;
        let urls = vec![url.clone()];
        let (file, sha256, size) = match pinned.map(|it| &it.origin) {
            Some(Origin::Archive { sha256, size, .. }) => {
                let wanted = Wanted { name: url.clone(), urls, sha256: sha256.clone(), size: *size };
                let files =
                    self.download_all(std::slice::from_ref(&wanted), job.store, &|_| {}, job.cancel)?;
                let file = files.into_iter().next().ok_or(Error::Cancelled)?;
                (file, sha256.clone(), *size)
            }
            _ => {
                let digest = source.sha256.clone().map(Digest::Sha256);
                let digest = digest.as_ref();
                let done = self.download_sizeless(&urls, digest, None, job.store, &|_| {}, job.cancel)?;
                (done.path, done.sha256, done.size)
            }
        };
        let root = work.join("package");
        let unpacked = || {
            fs::create_dir(&root)?;
            let strip = source.strip.unwrap_or(0) as usize;
            archive::unpack(&File::open(&file)?, &root, strip, job.cancel)?;
            let whole = if source.strip.is_none() { without_top(&root)? } else { root.clone() };
            part(&whole, source.path.as_deref())
        };
        let root = unpacked().map_err(|err: std::io::Error| wrong(url, err))?;
        let origin = Origin::Archive { url: url.clone(), strip: source.strip, sha256, size };
        Ok(Fetched { root, origin, path: source.path.clone(), url: url.clone() })
    }
}

/// A package in a work directory.
struct Fetched {
    root: PathBuf,
    origin: Origin,
    path: Option<String>,
    url: String,
}

fn wrong(url: &str, reason: impl std::fmt::Display) -> Error {
    Error::Content { url: url.to_owned(), reason: reason.to_string() }
}

/// The directory of a repository of this machine.
fn local(url: &str, base: &Path) -> Option<PathBuf> {
    match url.split_once("://") {
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
        None => Some(base.join(url)),
    }
}

/// The directory that all names of an archive begin with, else its root.
fn without_top(root: &Path) -> std::io::Result<PathBuf> {
    let mut entries = fs::read_dir(root)?;
    match (entries.next().transpose()?, entries.next()) {
        (Some(only), None) if only.file_type()?.is_dir() => Ok(only.path()),
        _ => Ok(root.to_path_buf()),
    }
}

/// The directory `path` of an unpacked archive; no link leads there.
fn part(root: &Path, path: Option<&str>) -> std::io::Result<PathBuf> {
    let mut dir = root.to_path_buf();
    for name in path.into_iter().flat_map(|it| it.split('/')) {
        dir.push(name);
        if !fs::symlink_metadata(&dir).is_ok_and(|it| it.is_dir()) {
            let message = format!("it has no directory `{}`", path.unwrap_or_default());
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, message));
        }
    }
    Ok(dir)
}

/// Gives a tree the modes and times that imported files have.
fn finish(path: &Path) -> Result<(), store::Error> {
    let stat = fs::symlink_metadata(path)?;
    if stat.is_dir() {
        for entry in fs::read_dir(path)? {
            finish(&entry?.path())?;
        }
    }
    if !stat.is_symlink() {
        fs::set_permissions(path, std::fs::Permissions::from_mode(tree::imported_mode(&stat)))?;
    }
    store::set_mtime(path, 0)
}
