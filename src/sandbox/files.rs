//! File steps: WRITE, MKDIR and COPY, done by init after it has entered the root, so that no path can leave it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{Context, Trouble};
use super::ground;
use super::request::{Attrs, CopySource};
use crate::tree;

/// Mode, user and group, resolved.
pub(super) type Ownership = (u32, u32, u32);

/// Writes a file; links are followed, inside the root.
pub(super) fn write(text: &str, path: &str, attrs: &Attrs) -> Result<(), Trouble> {
    let owner = resolve(attrs, 0o644)?;
    let path = Path::new(path);
    need_parent(path)?;
    // A fifo that an earlier step left here must not stop us for ever.
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(CWD, path, flags, Mode::from_raw_mode(0o600), ResolveFlags::NO_MAGICLINKS)
        .context(|| format!("cannot write {}", path.display()))?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes()).context(|| format!("cannot write {}", path.display()))?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.1)), Some(Gid::from_raw(owner.2)))
        .context(|| format!("cannot change the owner of {}", path.display()))?;
    file.set_permissions(Permissions::from_mode(owner.0))
        .context(|| format!("cannot change the mode of {}", path.display()))
}

/// Makes a directory. One that exists (`parents` only) keeps what `attrs` does not name.
pub(super) fn mkdir(path: &str, parents: bool, attrs: &Attrs) -> Result<(), Trouble> {
    let path = Path::new(path);
    let owner = resolve(attrs, 0o755)?;
    if parents {
        if let Ok(meta) = fs::metadata(path) {
            if !meta.is_dir() {
                return Err(Trouble(format!(
                    "cannot make {}: it exists and is no directory",
                    path.display()
                )));
            }
            let keep = |wanted: &Option<String>, new, old| if wanted.is_some() { new } else { old };
            let (user, group) =
                (keep(&attrs.user, owner.1, meta.uid()), keep(&attrs.group, owner.2, meta.gid()));
            return match attrs {
                Attrs { mode: None, user: None, group: None } => Ok(()),
                _ => give(path, (attrs.mode.unwrap_or(meta.mode() & 0o7777), user, group)),
            };
        }
        if let Some(parent) = path.parent() {
            // Made with the umask of init, 022, and so 0755.
            fs::create_dir_all(parent)?;
        }
    }
    need_parent(path)?;
    fs::create_dir(path)?;
    give(path, owner)
}

/// Copies trees of the directories `stores`.
pub(super) fn copy(
    stores: &[PathBuf],
    sources: &[CopySource],
    dest: &str,
    attrs: &Attrs,
) -> Result<(), Trouble> {
    let (_, user, group) = resolve(attrs, 0)?;
    let mut copier = Copier { mode: attrs.mode, user, group, links: BTreeMap::new() };
    let path = Path::new(dest);
    let into = dest.ends_with('/') || sources.len() > 1 || path.is_dir();
    for source in sources {
        let from = ground::tree_path(stores, &source.tree)?;
        let meta = fs::symlink_metadata(&from).context(|| format!("tree {}", source.tree))?;
        copier.links.clear();
        match (meta.is_dir(), into) {
            (true, _) | (false, false) => copier.copy(&from, path)?,
            (false, true) if path.is_dir() => copier.copy(&from, &path.join(&source.name))?,
            (false, true) => {
                let name = &source.name;
                return Err(Trouble(format!("cannot copy {name} into {dest}: there is no such directory")));
            }
        }
    }
    Ok(())
}

struct Copier {
    mode: Option<u32>,
    user: u32,
    group: u32,
    /// First copy of each hard-linked inode.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), Trouble> {
        need_parent(to)?;
        let meta = fs::symlink_metadata(from)?;
        let kind = meta.file_type();
        let present = fs::symlink_metadata(to).ok();
        if kind.is_dir() {
            return self.copy_dir(from, to, &meta);
        }
        match present {
            Some(old) if old.is_dir() => {
                return Err(Trouble(format!("cannot copy over {}: it is a directory", to.display())));
            }
            Some(_) => fs::remove_file(to)?,
            None => {}
        }
        if meta.nlink() > 1 {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                return Ok(fs::hard_link(first, to)?);
            }
            self.links.insert((meta.dev(), meta.ino()), to.to_path_buf());
        }
        if kind.is_symlink() {
            symlink(fs::read_link(from)?, to).context(|| format!("cannot make the link {}", to.display()))?;
            return own(to, self.user, self.group);
        }
        if kind.is_file() {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            let mut target = options.open(to)?;
            std::io::copy(&mut fs::File::open(from)?, &mut target)
                .context(|| format!("cannot copy to {}", to.display()))?;
        } else if kind.is_fifo() {
            make_fifo(to)?;
        } else {
            let what = if kind.is_socket() { "a socket" } else { "a device or whiteout" };
            return Err(Trouble(format!("cannot copy to {}: the source is {what}", to.display())));
        }
        give(to, (self.mode.unwrap_or(meta.mode() & 0o7777), self.user, self.group))?;
        copy_xattrs(from, to)
    }

    fn copy_dir(&mut self, from: &Path, to: &Path, meta: &std::fs::Metadata) -> Result<(), Trouble> {
        let new = match fs::create_dir(to) {
            Ok(()) => true,
            Err(err) if err.kind() == ErrorKind::AlreadyExists && to.is_dir() => false,
            Err(err) => return Err(err.into()),
        };
        let mut names =
            fs::read_dir(from)?.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>()?;
        names.sort();
        for name in names {
            self.copy(&from.join(&name), &to.join(&name))?;
        }
        if new {
            // Whoever may read a directory may also enter it, as `chmod a=rX` has it.
            let mode = self.mode.map(|mode| mode | (mode & 0o444) >> 2);
            give(to, (mode.unwrap_or(meta.mode() & 0o7777), self.user, self.group))?;
            copy_xattrs(from, to)?;
        }
        Ok(())
    }
}

/// Makes a fifo.
pub(super) fn make_fifo(path: &Path) -> Result<(), Trouble> {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .context(|| format!("cannot make the fifo {}", path.display()))
}

/// Sets owner, then mode: changing the owner clears the set-user-id bits.
pub(super) fn give(path: &Path, (mode, user, group): Ownership) -> Result<(), Trouble> {
    own(path, user, group)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// Sets the owner of `path` itself.
pub(super) fn own(path: &Path, user: u32, group: u32) -> Result<(), Trouble> {
    let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("cannot give {} to {user}:{group}", path.display()))
}

fn copy_xattrs(from: &Path, to: &Path) -> Result<(), Trouble> {
    for (name, value) in tree::xattrs(from, tree::xattr_counts)? {
        rustix::fs::lsetxattr(to, &name, &value, XattrFlags::empty())
            .context(|| format!("cannot set {} of {}", name.display(), to.display()))?;
    }
    Ok(())
}

/// Fails unless the directory of `path` exists. Links like `/proc/self/fd/3` lead to what init has open, which is
/// no part of the image: nothing can be made behind them.
pub(super) fn need_parent(path: &Path) -> Result<(), Trouble> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, parent, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(_) => Ok(()),
        Err(err) => {
            let why = match err {
                Errno::NOENT => "does not exist".into(),
                Errno::NOTDIR => "is no directory".into(),
                err => err.to_string(),
            };
            Err(Trouble(format!("cannot make {}: {} {why}", path.display(), parent.display())))
        }
    }
}

/// Mode, user and group that `attrs` name; root where they do not.
pub(super) fn resolve(attrs: &Attrs, mode: u32) -> Result<Ownership, Trouble> {
    let id = |name: &Option<String>, file, what| match name {
        None => Ok(0),
        Some(name) => match name.parse() {
            Ok(number) => Ok(number),
            Err(_) => {
                let text = fs::read_to_string(file).unwrap_or_default();
                find_id(&text, name).ok_or_else(|| Trouble(format!("{what} `{name}` is not in {file}")))
            }
        },
    };
    let user = id(&attrs.user, "/etc/passwd", "user")?;
    let group = id(&attrs.group, "/etc/group", "group")?;
    Ok((attrs.mode.unwrap_or(mode), user, group))
}

/// Third field of the line for `name` in the text of `/etc/passwd` or `/etc/group`.
fn find_id(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::find_id;

    #[test]
    fn ids_by_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n_apt:x:42:65534::/nonexistent:/bin/false\n";
        assert_eq!(find_id(text, "root"), Some(0));
        assert_eq!(find_id(text, "_apt"), Some(42));
        assert_eq!(find_id(text, "broken"), None);
        assert_eq!(find_id(text, "x"), None);
    }
}
