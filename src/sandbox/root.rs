//! The root as programs see it: the overlay, the kernel's file systems, and the mounts of the request.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::checkpoint::Resumed;
use super::error::{Context, Fault, Trouble};
use super::ground::{self, Ground};
use super::ids::IdMap;
use super::mounts;
use super::procfs;
use super::request::{Capture, Mount, MountSource, Network, Request};

/// Device nodes that programs may use, from the host.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Names in `/dev` that are links.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// What host root could harm through `/proc` even without capabilities (only [`IdMap::Identity`] is host root).
const GUARDED: [&str; 6] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi"];

/// A root that this process has just entered.
pub(super) struct Root {
    /// The directories of trees, for steps that copy from them.
    trees: Vec<OwnedFd>,
    /// Files and directories made only to be mounted on, without links in their paths, parents first.
    pub made: Vec<PathBuf>,
}

impl Root {
    /// The directories of trees: they have no other names any more.
    pub fn stores(&self) -> Vec<PathBuf> {
        self.trees.iter().map(|fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))).collect()
    }
}

/// Builds the root and enters it. The host is out of reach afterwards. Directories in memory are as they were at the
/// checkpoint that the sandbox begins with, if it does.
pub(super) fn enter(
    request: &Request,
    ground: Ground,
    map: IdMap,
    resumed: Option<&mut Resumed>,
) -> Result<Root, Fault> {
    mount_root(&ground, request.capture)?;
    let kernel = KernelMounts::make(request.network)?;
    let mut hosts = ground.hosts.into_iter();
    let mut prepared = Vec::new();
    for (idx, mount) in request.mounts.iter().enumerate() {
        let source = prepare(mount, idx, &ground.stores, &ground.links, &mut hosts)
            .map_err(|Trouble(why)| Trouble(format!("mount {}: {why}", mount.dest)))?;
        prepared.push((mount.dest.as_str(), source));
    }
    let resolv = match request.network {
        Network::Host => fs::read_to_string("/etc/resolv.conf").ok(),
        Network::None | Network::Proxy => None,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |dir: &PathBuf| rustix::fs::open(dir, flags, Mode::empty());
    let trees = ground.stores.iter().map(open).collect::<Result<_, _>>().context(|| "trees")?;

    rustix::process::chdir("r").context(|| "cannot enter the root")?;
    rustix::process::pivot_root(".", ".").context(|| "cannot change the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "cannot leave the host")?;
    rustix::process::chdir("/").context(|| "cannot enter the root")?;

    let mut made = resumed.as_ref().map(|it| it.notes.made.clone()).unwrap_or_default();
    kernel.attach(&mut made)?;
    match resumed {
        Some(resumed) => {
            resumed.fill_memory()?;
            renew_run_files(&request.passing_files)?;
        }
        None => {
            make_dev()?;
            write_run_files(&request.run_files)?;
            write_run_files(&request.passing_files)?;
        }
    }
    kernel.attach_devices(map)?;
    for (dest, source) in &prepared {
        attach(source, dest, &mut made)?;
    }
    if let Some(text) = resolv {
        host_resolver(&text, &mut made)?;
    }
    Ok(Root { trees, made })
}

fn mount_root(ground: &Ground, capture: Capture) -> Result<(), Trouble> {
    let (upper, place) = match capture {
        Capture::Layer | Capture::Discard => ("upperdir=w/upper,workdir=w/work,volatile", "work directory"),
        // What people keep is theirs: their databases mean it when they wait.
        Capture::Keep => ("upperdir=w/upper,workdir=w/work", "state directory"),
    };
    // Also over nothing: an overlay can be told not to wait for the disk at each fsync.
    let nothing = ["e".to_string()];
    let lower = if ground.lower.is_empty() { &nothing[..] } else { &ground.lower };
    mounts::overlay(lower, Some(upper), "r")
        .context(|| format!("cannot mount an overlay on the {place}{}", super::ids::restriction_hint()))
}

/// `/proc`, `/dev`, `/sys`, `/run` and `/tmp`, detached.
struct KernelMounts {
    proc: OwnedFd,
    dev: OwnedFd,
    pts: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    sys: OwnedFd,
    run: OwnedFd,
    tmp: OwnedFd,
}

impl KernelMounts {
    fn make(network: Network) -> Result<KernelMounts, Trouble> {
        let strict = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        // A container's own /proc may be partly covered; then the kernel refuses a new one.
        let proc = mounts::new("proc", &[], strict)
            .or_else(|_| mounts::copy_all(Path::new("/proc")))
            .context(|| "cannot mount /proc")?;
        // With the host's network nothing is pure, and people want to see the machine.
        let proc = match network {
            Network::None | Network::Proxy => procfs::covered(proc)?,
            Network::Host => proc,
        };
        let terminals = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
        let noexec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        // A small id map may lack the group `tty`.
        let pts = mounts::new("devpts", &terminals, noexec)
            .or_else(|_| mounts::new("devpts", terminals.get(..2).unwrap_or_default(), noexec))
            .context(|| "cannot mount /dev/pts")?;
        let mut devices = Vec::new();
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            devices.push((name, mounts::copy_one(&path).context(|| path.display())?));
        }
        let tmpfs = |mode| mounts::tmpfs(mode).context(|| "cannot make a tmpfs");
        Ok(KernelMounts {
            proc,
            dev: tmpfs("0755")?,
            pts,
            devices,
            sys: tmpfs("0555")?,
            run: tmpfs("0755")?,
            tmp: tmpfs("1777")?,
        })
    }

    fn attach(&self, made: &mut Vec<PathBuf>) -> Result<(), Trouble> {
        for (mount, path) in [
            (&self.proc, "/proc"),
            (&self.dev, "/dev"),
            (&self.sys, "/sys"),
            (&self.run, "/run"),
            (&self.tmp, "/tmp"),
        ] {
            attach(mount, path, made)?;
        }
        mounts::set_attributes(self.sys.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY).context(|| "/sys")
    }

    /// What is mounted in `/dev`, and over parts of `/proc`.
    fn attach_devices(self, map: IdMap) -> Result<(), Trouble> {
        for (name, device) in &self.devices {
            let path = Path::new("/dev").join(name);
            mounts::attach(device.as_fd(), &path).context(|| path.display())?;
        }
        mounts::attach(self.pts.as_fd(), Path::new("/dev/pts")).context(|| "/dev/pts")?;
        if map == IdMap::Identity {
            for path in GUARDED.map(Path::new).into_iter().filter(|path| path.exists()) {
                let copy = mounts::copy_all(path).context(|| path.display())?;
                mounts::set_attributes(copy.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY)
                    .context(|| path.display())?;
                mounts::attach(copy.as_fd(), path).context(|| path.display())?;
            }
        }
        Ok(())
    }
}

/// The content of a new `/dev`, with places for devices and terminals.
fn make_dev() -> Result<(), Trouble> {
    for name in DEVICES {
        fs::File::create_new(Path::new("/dev").join(name))?;
    }
    for (name, target) in LINKS {
        symlink(target, Path::new("/dev").join(name)).context(|| format!("/dev/{name}"))?;
    }
    fs::create_dir("/dev/pts")?;
    fs::create_dir("/dev/shm")?;
    Ok(fs::set_permissions("/dev/shm", Permissions::from_mode(0o1777))?)
}

/// The detached mount of a request's mount.
fn prepare(
    mount: &Mount,
    idx: usize,
    stores: &[PathBuf],
    links: &BTreeMap<String, String>,
    hosts: &mut impl Iterator<Item = OwnedFd>,
) -> Result<OwnedFd, Trouble> {
    let copy = |path: &str| mounts::copy_one(Path::new(path)).context(|| "cannot open the source");
    let readonly = |mount: OwnedFd| {
        mounts::set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY)
            .context(|| "cannot make it read-only")?;
        Ok(mount)
    };
    match &mount.source {
        MountSource::Tree(tree) => {
            let path = ground::tree_path(stores, tree)?;
            mounts::copy_one(&path).context(|| format!("tree {tree}")).and_then(readonly)
        }
        MountSource::Overlay(trees) => {
            let path = format!("o/{idx}");
            fs::create_dir(&path)?;
            let mut lower = ground::layers(links, trees)?;
            // A single tree is no overlay, and a whiteout in the lowest one must stay hidden.
            lower.push("e".into());
            match lower.len() {
                1 => copy("e"),
                _ => {
                    mounts::overlay(&lower, None, &path).context(|| "cannot mount the overlay")?;
                    copy(&path)
                }
            }
            .and_then(readonly)
        }
        MountSource::Text(text) => {
            let path = format!("t/{idx}");
            fs::write(&path, text)?;
            copy(&path).and_then(readonly)
        }
        MountSource::Tmpfs => mounts::tmpfs("0755").context(|| "cannot make a tmpfs"),
        MountSource::Scratch => {
            let path = format!("w/scratch/{idx}");
            fs::create_dir(&path)?;
            copy(&path)
        }
        MountSource::Draft(tree) => copy(&draft(&ground::tree_path(stores, tree)?, idx)?),
        MountSource::Output { name, .. } => copy(&ground::output_path(name)?),
        MountSource::Host { readonly: only_read, .. } => {
            let host = hosts.next().ok_or_else(|| Trouble("the host path was not passed".into()))?;
            if *only_read { readonly(host) } else { Ok(host) }
        }
        MountSource::Device(_) => hosts.next().ok_or_else(|| Trouble("the device was not passed".into())),
    }
}

/// Makes a place where a tree can be written to without being changed.
fn draft(tree: &Path, idx: usize) -> Result<String, Trouble> {
    let scratch = format!("w/scratch/{idx}");
    if !fs::symlink_metadata(tree)?.is_dir() {
        fs::copy(tree, &scratch)?;
        return Ok(scratch);
    }
    let [upper, work] = ["upper", "work"].map(|name| format!("{scratch}/{name}"));
    fs::create_dir_all(&upper)?;
    fs::create_dir(&work)?;
    ground::copy_attributes(tree, Path::new(&upper))?;
    let path = format!("o/{idx}");
    fs::create_dir(&path)?;
    let lower = [tree.to_string_lossy().into_owned()];
    let upper = format!("upperdir={upper},workdir={work},volatile");
    mounts::overlay(&lower, Some(&upper), &path).context(|| "cannot mount the overlay")?;
    Ok(path)
}

/// Attaches a mount to an absolute path of the root, which is made if missing.
fn attach(mount: &OwnedFd, dest: &str, made: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let what = || format!("cannot mount on {dest}");
    let is_dir = rustix::fs::fstat(mount)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
        .context(what)?;
    let path = Path::new(dest);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Trouble(format!("{}: not an absolute path without `..`", what())));
    }
    make_mount_point(path, is_dir, made).map_err(|Trouble(why)| Trouble(format!("{}: {why}", what())))?;
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() != is_dir => {
            let kind = |is_dir| if is_dir { "a directory" } else { "a file" };
            Err(Trouble(format!("{}: it is {}, the source is {}", what(), kind(!is_dir), kind(is_dir))))
        }
        _ => mounts::attach(mount.as_fd(), path).context(what),
    }
}

/// Makes a file or directory with its parents; those that are new are added to `made`.
fn make_mount_point(path: &Path, is_dir: bool, made: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    if let Ok(target) = fs::read_link(path) {
        return Err(Trouble(format!(
            "{} is a link to {}, which does not exist",
            path.display(),
            target.display()
        )));
    }
    make_mount_point(parent, true, made)?;
    let real = fs::canonicalize(parent)?.join(name);
    match is_dir {
        true => fs::create_dir(&real)?,
        false => fs::File::create_new(&real).map(drop)?,
    }
    made.push(real);
    Ok(())
}

fn write_run_files(files: &BTreeMap<String, String>) -> Result<(), Trouble> {
    for (name, text) in files {
        let name = Path::new(name);
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Trouble(format!("`{}` is no name below /run/raptor", name.display())));
        }
        let path = Path::new("/run/raptor").join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, text)?;
    }
    Ok(())
}

/// Writes files anew that a checkpoint has kept empty. What steps have put in their places stays.
fn renew_run_files(files: &BTreeMap<String, String>) -> Result<(), Trouble> {
    for (name, text) in files {
        let path = Path::new("/run/raptor").join(name);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        if let Ok(fd) = opened
            && rustix::fs::fstat(&fd).is_ok_and(|it| it.st_size == 0)
        {
            std::fs::File::from(fd).write_all(text.as_bytes()).context(|| path.display())?;
        }
    }
    Ok(())
}

/// Covers `/etc/resolv.conf` with the host's, wherever a link leads.
fn host_resolver(text: &str, made: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let mut path = PathBuf::from("/etc/resolv.conf");
    for _ in 0..8 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    if fs::metadata(parent).is_err() && !parent.starts_with("/run") && !parent.starts_with("/etc/../run") {
        return Ok(());
    }
    let file = Path::new("/run/raptor/resolv.conf");
    fs::create_dir_all("/run/raptor")?;
    fs::write(file, text)?;
    fs::create_dir_all(parent)?;
    let copy = mounts::copy_one(file).context(|| file.display())?;
    make_mount_point(&path, false, made)?;
    mounts::attach(copy.as_fd(), &path).context(|| path.display())
}
