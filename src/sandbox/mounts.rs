//! Detached mounts: made first, attached where they belong later.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::limits;

/// Most lower directories of one overlay: one page of options holds as many short names.
pub(super) const MAX_LOWER: usize = 400;

/// A new file system.
pub(super) fn new(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A new tmpfs whose root has this mode (octal). Its size says nothing of the host.
pub(super) fn tmpfs(mode: &str) -> rustix::io::Result<OwnedFd> {
    let options = [("mode", mode), ("size", limits::TMPFS_SIZE), ("nr_inodes", limits::TMPFS_FILES)];
    new("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// A copy of the mount below `path`: of it alone.
pub(super) fn copy_one(path: &Path) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// A copy of what has this name in a detached mount.
pub(super) fn copy_in(mount: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    open_tree(mount, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// A copy of the mount below `path` with everything mounted on it. An ordinary user must not uncover what a
/// mount hides, so that is the only kind of copy there is of the host's mounts.
pub(super) fn copy_all(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags | OpenTreeFlags::AT_RECURSIVE)
}

/// Changes a mount and all below it.
pub(super) fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    mount_setattr(mount, libc::AT_RECURSIVE, u64::from(attributes.bits()), 0)
}

/// Shifts the ids of a mount into a user namespace.
pub(super) fn shift_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let idmap = u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
    mount_setattr(mount, 0, idmap, namespace.as_raw_fd() as u64)
}

fn mount_setattr(mount: BorrowedFd<'_>, flags: i32, set: u64, userns: u64) -> rustix::io::Result<()> {
    // `struct mount_attr` of linux/mount.h: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [set, 0, 0, userns];
    // SAFETY: the path is a C string, and the pointer and size describe `attributes`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Attaches a detached mount to a path.
pub(super) fn attach(mount: BorrowedFd<'_>, at: &Path) -> rustix::io::Result<()> {
    // Following the last link of `at` is what mount(2) does too.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mount, c"", CWD, at, flags)
}

/// Attaches a detached mount over the current directory, which need not be readable.
pub(super) fn attach_here(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", CWD, c"", flags)
}

/// Mounts an overlay at `at`, relative names only. `upper` is the options that a read-only view does not have.
pub(super) fn overlay(lower: &[String], upper: Option<&str>, at: &str) -> rustix::io::Result<()> {
    let lower = lower.join(":");
    let fixed = "userxattr,index=off,metacopy=off,redirect_dir=nofollow,xino=off";
    let base = match upper {
        Some(upper) => format!("lowerdir={lower},{upper},{fixed}"),
        None => format!("lowerdir={lower},{fixed}"),
    };
    // Kernels before 6.6 do not know `uuid=null`; they write no `overlay.uuid` either.
    let mut result = Err(Errno::INVAL);
    for options in [format!("{base},uuid=null"), base] {
        let mut options = options.into_bytes();
        options.push(0);
        let options = CStr::from_bytes_until_nul(&options).map_err(|_| Errno::INVAL)?;
        result = rustix::mount::mount(c"overlay", at, c"overlay", MountFlags::empty(), options);
        if result != Err(Errno::INVAL) {
            break;
        }
    }
    result
}

/// The error of the C call just made.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
