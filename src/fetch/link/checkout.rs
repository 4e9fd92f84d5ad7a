//! Files of a commit as git has them: no filter, attribute or setting changes a byte. Every object is checked against
//! its id.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::Repository;
use gix::objs::tree::EntryKind;
use gix::objs::{CommitRef, Kind, TagRef, TreeRef};

use super::git::Found;

/// Most files and directories of a package.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes of one file, which is held in memory.
const MAX_FILE: u64 = 1 << 30;
/// Most bytes of all files.
const MAX_BYTES: u64 = 16 << 30;
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 256;
/// Most tags that name one another.
const MAX_TAGS: usize = 8;
/// Begins files that stand for those of Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Writes a commit, or the directory `path` of it, into the new directory `dest`. Gives the commit's id; errors are
/// for people.
pub(super) fn checkout(
    Found { repository, id }: &Found,
    path: Option<&str>,
    dest: &Path,
    cancel: &AtomicBool,
) -> Result<String, String> {
    let mut checkout = Checkout { repository, cancel, n_entries: 0, n_bytes: 0 };
    let (commit, mut tree) = checkout.commit(*id)?;
    let mut at = PathBuf::new();
    for name in path.into_iter().flat_map(|it| it.split('/')) {
        tree = checkout
            .entries(tree)?
            .into_iter()
            .find(|it| it.kind == EntryKind::Tree && it.name == name.as_bytes())
            .ok_or_else(|| format!("commit {commit} has no directory `{}`", path.unwrap_or_default()))?
            .id;
        at.push(name);
    }
    checkout.tree(tree, dest, &at, 0)?;
    Ok(commit.to_string())
}

struct Checkout<'a> {
    repository: &'a Repository,
    cancel: &'a AtomicBool,
    n_entries: usize,
    n_bytes: u64,
}

struct Entry {
    name: Vec<u8>,
    kind: EntryKind,
    id: ObjectId,
}

impl Checkout<'_> {
    /// The commit that an id leads to, and its tree.
    fn commit(&self, id: ObjectId) -> Result<(ObjectId, ObjectId), String> {
        let mut at = id;
        for _ in 0..MAX_TAGS {
            let (kind, data) = self.object(at)?;
            let malformed = |err: &dyn std::fmt::Display| format!("object {at} is malformed: {err}");
            match kind {
                Kind::Commit => {
                    let commit = CommitRef::from_bytes(&data, at.kind()).map_err(|err| malformed(&err))?;
                    return Ok((at, commit.tree()));
                }
                Kind::Tag => {
                    let tag = TagRef::from_bytes(&data, at.kind()).map_err(|err| malformed(&err))?;
                    at = tag.target();
                }
                Kind::Tree | Kind::Blob => return Err(format!("{id} is no commit")),
            }
        }
        Err(format!("the tag {id} leads to no commit"))
    }

    /// An object whose content is what its id says.
    fn object(&self, id: ObjectId) -> Result<(Kind, Vec<u8>), String> {
        let header = self.repository.find_header(id).map_err(|err| format!("object {id}: {err}"))?;
        if header.size() > MAX_FILE {
            return Err(format!("object {id} has {} bytes; {MAX_FILE} is the most", header.size()));
        }
        let object = self.repository.find_object(id).map_err(|err| format!("object {id}: {err}"))?;
        let (kind, data) = (object.kind, object.detach().data);
        let found =
            gix::objs::compute_hash(id.kind(), kind, &data).map_err(|err| format!("object {id}: {err}"))?;
        match found == id {
            true => Ok((kind, data)),
            false => Err(format!("object {id} is damaged")),
        }
    }

    fn entries(&self, id: ObjectId) -> Result<Vec<Entry>, String> {
        let (kind, data) = self.object(id)?;
        if kind != Kind::Tree {
            return Err(format!("{id} is no directory"));
        }
        let tree = TreeRef::from_bytes(&data, id.kind())
            .map_err(|err| format!("object {id} is malformed: {err}"))?;
        let entry = |it: &gix::objs::tree::EntryRef<'_>| Entry {
            name: it.filename.to_vec(),
            kind: it.mode.kind(),
            id: it.oid.to_owned(),
        };
        Ok(tree.entries.iter().map(entry).collect())
    }

    /// Writes a directory; `shown` is its path in the repository.
    fn tree(&mut self, id: ObjectId, dest: &Path, shown: &Path, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("directories are nested more than {MAX_DEPTH} deep"));
        }
        fs::create_dir(dest).map_err(|err| format!("{}: {err}", shown.display()))?;
        for entry in self.entries(id)? {
            if self.cancel.load(Ordering::Relaxed) {
                return Err("cancelled".into());
            }
            self.n_entries += 1;
            if self.n_entries > MAX_ENTRIES {
                return Err(format!("it has more than {MAX_ENTRIES} files"));
            }
            let name = std::ffi::OsStr::from_bytes(&entry.name);
            let shown = shown.join(name);
            if !is_safe(&entry.name) {
                return Err(format!("{} cannot be the name of a file", shown.display()));
            }
            let dest = dest.join(name);
            match entry.kind {
                EntryKind::Tree => self.tree(entry.id, &dest, &shown, depth + 1)?,
                EntryKind::Commit => {
                    return Err(format!(
                        "{} is a submodule, and submodules are not fetched; link that repository itself",
                        shown.display()
                    ));
                }
                kind => self.file(kind, entry.id, &dest, &shown)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, kind: EntryKind, id: ObjectId, dest: &Path, shown: &Path) -> Result<(), String> {
        let failed = |err: std::io::Error| format!("{}: {err}", shown.display());
        let (found, data) = self.object(id)?;
        if found != Kind::Blob {
            return Err(format!("{} is no file", shown.display()));
        }
        self.n_bytes += data.len() as u64;
        if self.n_bytes > MAX_BYTES {
            return Err(format!("its files are larger than {MAX_BYTES} bytes"));
        }
        if kind == EntryKind::Link {
            return symlink(std::ffi::OsStr::from_bytes(&data), dest).map_err(failed);
        }
        if data.starts_with(LFS_POINTER) {
            return Err(format!("{} is kept in Git LFS, which is not supported", shown.display()));
        }
        let mode = if kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
        let mut file = File::options().write(true).create_new(true).mode(mode).open(dest).map_err(failed)?;
        file.write_all(&data).map_err(failed)
    }
}

/// Whether a name of a git tree is one of a file in a directory.
fn is_safe(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && !name.eq_ignore_ascii_case(b".git")
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}
