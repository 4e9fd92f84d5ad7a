//! The few process calls that the safe libraries lack.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::mounts::last_errno;

/// Forks; `None` is the child. Only for processes without other threads.
pub(super) fn fork() -> rustix::io::Result<Option<Pid>> {
    // SAFETY: callers have one thread, so the child finds no lock held and no state half changed.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(None),
        pid => Pid::from_raw(pid).map(Some).ok_or(Errno::CHILD),
    }
}

/// A child that cannot outlive its parent, as seen by the parent.
pub(super) struct Bound {
    /// Its number.
    pub pid: Pid,
    /// Closed when the parent dies; the child looks at it once.
    _alive: OwnedFd,
}

/// Forks a child that dies with this process; `None` is the child. For processes without other threads.
pub(super) fn fork_bound() -> rustix::io::Result<Option<Bound>> {
    let (watched, alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if let Some(pid) = fork()? {
        return Ok(Some(Bound { pid, _alive: alive }));
    }
    drop(alive);
    die_with_parent()?;
    // A parent that died before this was too early for the signal.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&now))? {
        0 => Ok(None),
        _ => std::process::exit(2),
    }
}

/// Has the kernel kill this process when its parent dies. Changing ids undoes this.
pub(super) fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// Makes this process the parent of its orphaned descendants.
pub(super) fn adopt_orphans() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Leaves the current namespaces for new ones.
pub(super) fn unshare(flags: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: descriptors are not unshared (no FILES flag), so no other owner of one is surprised.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes descriptor `number` a copy of `fd` that programs inherit.
pub(super) fn replace_fd(fd: BorrowedFd<'_>, number: i32) -> rustix::io::Result<()> {
    // SAFETY: only called for the standard streams, which nobody in this process owns.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Marks all descriptors but the standard streams to be closed by exec.
pub(super) fn close_others_on_exec() -> rustix::io::Result<()> {
    // SAFETY: the flag only changes what exec does.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Default action for all signals, none blocked: Rust ignores SIGPIPE, and the caller may ignore more.
pub(super) fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of ours; for signals that cannot change this just fails.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Gives programs the same address space layout each time.
pub(super) fn fixed_addresses() -> rustix::io::Result<()> {
    // SAFETY: takes effect at the next exec only.
    match unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}
