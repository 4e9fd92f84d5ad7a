//! The private directory below which a sandbox is put together; its names are all that `/proc/mounts` shows.
//!
//! `s/N` directories of trees, `w` work dir, `l/N` links to lower trees, `e` an empty directory, `r` the root, `o/N`
//! overlays, `t/N` texts, `p` and `c` `/proc` and its covers, `k` checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::mount::MountAttrFlags;
use rustix::process::{Gid, Uid};

use super::error::{Context, Trouble};
use super::mounts;
use super::request::{Capture, MountSource, Request};

/// What `lay` made. The current directory is the private one.
pub(super) struct Ground {
    /// Links to the trees of the root, topmost first, as overlays want them.
    pub lower: Vec<String>,
    /// Where the trees are.
    pub stores: Vec<PathBuf>,
    /// Link of each tree that some mount needs.
    pub links: BTreeMap<String, String>,
    /// Host mounts in the order of the request.
    pub hosts: Vec<OwnedFd>,
}

/// Makes the private directory over the current one, and prepares the work dir.
///
/// `mounts` are trees, work dir and host paths if the supervisor has made them; else they are made here.
pub(super) fn lay(request: &Request, mounts: Vec<OwnedFd>) -> Result<Ground, Trouble> {
    let mut mounts = if mounts.is_empty() { own_mounts(request)? } else { mounts }.into_iter();
    let trees: Vec<OwnedFd> = mounts.by_ref().take(request.trees.len()).collect();
    let Some(work) = mounts.next() else {
        return Err(Trouble("mounts are missing".into()));
    };
    let checkpoints = request.checkpoints.as_ref().and_then(|_| mounts.next());
    let private = mounts::tmpfs("0755").context(|| "cannot make a tmpfs")?;
    mounts::attach_here(private.as_fd()).context(|| "cannot mount a tmpfs over the work directory")?;
    rustix::process::fchdir(&private).context(|| "cannot enter the private directory")?;
    for name in ["s", "w", "l", "e", "r", "o", "t"] {
        fs::create_dir(name)?;
    }
    let mut stores = Vec::new();
    for (idx, trees) in trees.iter().enumerate() {
        let dir = Path::new("s").join(idx.to_string());
        fs::create_dir(&dir)?;
        mounts::attach(trees.as_fd(), &dir).context(|| "cannot attach the trees")?;
        stores.push(dir);
    }
    mounts::attach(work.as_fd(), Path::new("w")).context(|| "cannot attach the work directory")?;
    if let Some(checkpoints) = checkpoints {
        fs::create_dir("k")?;
        mounts::attach(checkpoints.as_fd(), Path::new("k")).context(|| "cannot attach the checkpoints")?;
    }

    let mut links = BTreeMap::new();
    let overlaid = request.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Overlay(trees) => Some(trees),
        _ => None,
    });
    for tree in overlaid.chain([&request.lower]).flatten() {
        if !links.contains_key(tree) {
            links.insert(tree.clone(), link(&stores, tree, links.len())?);
        }
    }
    let lower = layers(&links, &request.lower)?;
    prepare_work(request, lower.first())?;
    Ok(Ground { lower, stores, links, hosts: mounts.collect() })
}

/// Links of a stack of trees, topmost first.
///
/// Equal layers are one tree, and an overlay refuses a directory that it has already. Only the topmost counts:
/// whatever a lower one shows or hides, the topmost shows or hides too.
pub(super) fn layers(links: &BTreeMap<String, String>, trees: &[String]) -> Result<Vec<String>, Trouble> {
    if trees.len() > mounts::MAX_LOWER {
        let (n, max) = (trees.len(), mounts::MAX_LOWER);
        return Err(Trouble(format!("{n} layers on top of each other are too many; {max} are possible")));
    }
    let mut seen = BTreeSet::new();
    Ok(trees
        .iter()
        .rev()
        .filter(|tree| seen.insert(*tree))
        .filter_map(|tree| links.get(tree).cloned())
        .collect())
}

/// Path of a tree in the first of the directories that has it, after checking that the name is just a name.
pub(super) fn tree_path(stores: &[PathBuf], tree: &str) -> Result<PathBuf, Trouble> {
    if tree.is_empty() || tree == "." || tree == ".." || tree.contains('/') {
        return Err(Trouble(format!("`{tree}` is no name of a tree")));
    }
    let mut paths = stores.iter().map(|dir| dir.join(tree));
    paths
        .find(|path| std::fs::symlink_metadata(path).is_ok())
        .ok_or_else(|| Trouble(format!("tree {tree} does not exist")))
}

fn link(stores: &[PathBuf], tree: &str, idx: usize) -> Result<String, Trouble> {
    let path = tree_path(stores, tree)?;
    let meta = fs::symlink_metadata(&path).context(|| format!("tree {tree}"))?;
    if !meta.is_dir() {
        return Err(Trouble(format!("tree {tree} is not a directory")));
    }
    let link = format!("l/{idx}");
    std::os::unix::fs::symlink(Path::new("..").join(path), &link).context(|| link.clone())?;
    Ok(link)
}

/// Trees, work dir and host paths, for ids that need no shifting.
fn own_mounts(request: &Request) -> Result<Vec<OwnedFd>, Trouble> {
    request_mounts(request, |path, attributes| {
        let mount = mounts::copy_all(path).context(|| format!("cannot open {}", path.display()))?;
        mounts::set_attributes(mount.as_fd(), attributes)
            .context(|| format!("cannot restrict {}", path.display()))?;
        Ok(mount)
    })
}

/// Copies of the mounts that a request needs from outside, in the order in which [`lay`] takes them: trees, work
/// dir, checkpoints, host paths.
pub(super) fn request_mounts(
    request: &Request,
    mut copy: impl FnMut(&Path, MountAttrFlags) -> Result<OwnedFd, Trouble>,
) -> Result<Vec<OwnedFd>, Trouble> {
    let harmless = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mut fds = Vec::new();
    for trees in &request.trees {
        fds.push(copy(trees, harmless | MountAttrFlags::MOUNT_ATTR_RDONLY)?);
    }
    fds.push(copy(&request.work, harmless)?);
    if let Some(checkpoints) = &request.checkpoints {
        fds.push(copy(&checkpoints.dir, harmless)?);
    }
    for mount in &request.mounts {
        match &mount.source {
            MountSource::Host { path, .. } => fds.push(copy(path, harmless)?),
            MountSource::Device(path) => fds.push(copy(path, MountAttrFlags::MOUNT_ATTR_NOSUID)?),
            _ => {}
        }
    }
    Ok(fds)
}

/// Directories of the overlay and of outputs; leftovers of an earlier run that kept its upper dir are removed.
fn prepare_work(request: &Request, top: Option<&String>) -> Result<(), Trouble> {
    clear_scratch()?;
    fs::create_dir("w/work")?;
    fs::create_dir("w/scratch")?;
    let upper = Path::new("w/upper");
    if request.capture != Capture::Keep || !upper.exists() {
        fs::create_dir(upper)?;
        // The root directory of the merged view is the upper dir: it must look like the one it covers.
        if let Some(top) = top {
            copy_attributes(Path::new(top), upper)?;
        }
    }
    for mount in &request.mounts {
        let MountSource::Output { name, file } = &mount.source else { continue };
        let path = output_path(name)?;
        fs::create_dir_all("w/out")?;
        match file {
            true => fs::File::create_new(&path).map(drop)?,
            false => fs::create_dir(&path)?,
        }
    }
    Ok(())
}

/// Path of an output, after checking that the name is just a name.
pub(super) fn output_path(name: &str) -> Result<String, Trouble> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Trouble(format!("`{name}` is no name of an output")));
    }
    Ok(format!("w/out/{name}"))
}

/// Removes what only the running sandbox needs.
pub(super) fn clear_scratch() -> Result<(), Trouble> {
    for path in ["w/work", "w/scratch"] {
        match fs::remove_dir_all(path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Gives directory `to` the owner, mode and extended attributes of `from`, which may be a link to it.
pub(super) fn copy_attributes(from: &Path, to: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::MetadataExt;
    // Through the link, without the absolute path: its directories may be closed to us.
    let from = from.join(".");
    let meta = fs::metadata(&from)?;
    rustix::fs::chown(to, Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())))
        .context(|| to.display())?;
    fs::set_permissions(to, meta.permissions())?;
    for (name, value) in crate::tree::xattrs(&from, crate::tree::xattr_counts)? {
        rustix::fs::lsetxattr(to, &name, &value, rustix::fs::XattrFlags::empty()).context(|| to.display())?;
    }
    Ok(())
}
