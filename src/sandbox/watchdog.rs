//! Watches what a sandbox takes of its host, and ends it when that is too much.
//!
//! It lives in the stage: that has power over all processes inside, sees the work directory with their ids, and
//! goes on while init copies files. Nothing inside can reach it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, StatVfs};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::error::{Context, Fault, Trouble};
use super::limits::{Limit, Limits, PROCESSES};
use super::memory::Inside;
use super::request::{MountSource, Request};
use super::wire::{Channel, Sync};

/// How often it looks.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// So much more time passes between measurements of memory than the processor spends on them.
const REST: u32 = 10;
/// How often the work directory is measured whatever the free space says; less often when that takes long.
const LOOK: Duration = Duration::from_secs(1);
/// Most bytes and files that stay free.
const RESERVE: (u64, u64) = (1 << 30, 10_000);
/// What an entry of a directory takes at least, content or not.
const ENTRY: u64 = 512;

/// Tells the watchdog, from inside the root, where to look.
pub(super) fn show(request: &Request, watchdog: &Channel) -> Result<(), Trouble> {
    let open = |path: &str, flags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context(|| path.to_owned())
    };
    let mut fds = vec![open("/proc", OFlags::RDONLY | OFlags::DIRECTORY)?];
    for path in ["/dev", "/run", "/tmp"] {
        fds.push(open(path, OFlags::PATH)?);
    }
    for mount in &request.mounts {
        if let MountSource::Tmpfs = mount.source {
            fds.push(open(&mount.dest, OFlags::PATH)?);
        }
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    watchdog.send(&Sync::Entered, &fds).context(|| "watchdog")
}

/// Waits for the parent of init; when a limit is met, ends it and init with it. `grouped`: a control group limits
/// memory and processes already.
pub(super) fn wait(
    middle: Pid,
    init: &Channel,
    limits: &Limits,
    grouped: bool,
) -> Result<Option<WaitStatus>, Fault> {
    let pidfd = rustix::process::pidfd_open(middle, PidfdFlags::empty()).context(|| "pidfd")?;
    let mut disk = Disk::new(Path::new("w"), limits.disk)?;
    let mut inside = None;
    let mut listening = !grouped;
    let mut memory = Memory { limit: limits.memory, look_when: Instant::now() };
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if listening {
            fds.push(PollFd::new(init, PollFlags::IN));
        }
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(Trouble(format!("poll: {err}")).into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.first() == Some(&true) {
            return Ok(ended(middle)?);
        }
        if ready.get(1) == Some(&true) {
            listening = false;
            if let Some((Sync::Entered, fds)) = init.receive().context(|| "watchdog")? {
                inside = seen(fds, middle);
            }
        }
        if let Some(limit) = disk.met().or_else(|| inside.as_ref().and_then(|it| memory.met(it))) {
            // An error means that it is gone, and init with it.
            let _ = rustix::process::kill_process(middle, Signal::KILL);
            ended(middle)?;
            return Err(Fault::Limit(limit));
        }
    }
}

fn ended(child: Pid) -> Result<Option<WaitStatus>, Trouble> {
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty()).context(|| "wait")?;
    Ok(status.map(|(_, status)| status))
}

/// What [`show`] has sent.
fn seen(fds: Vec<OwnedFd>, middle: Pid) -> Option<Inside> {
    let mut fds = fds.into_iter();
    let proc = fds.next()?;
    // Its own /proc does not know who we are; a caller's does, and shows all the caller's processes.
    let foreign = rustix::fs::readlinkat(&proc, "self", Vec::new()).is_ok();
    let children = format!("/proc/{}/ns/pid_for_children", middle.as_raw_pid());
    let namespace = match foreign {
        true => Some(std::fs::read_link(children).ok()?.to_string_lossy().into_owned()),
        false => None,
    };
    Some(Inside { proc, tmpfs: fds.collect(), namespace })
}

/// Memory and processes.
struct Memory {
    limit: u64,
    /// Memory is measured at this time.
    look_when: Instant,
}

impl Memory {
    fn met(&mut self, inside: &Inside) -> Option<Limit> {
        let begin = cpu_time();
        let pids = inside.processes();
        if pids.len() as u64 > PROCESSES {
            return Some(Limit::Processes(PROCESSES));
        }
        if Instant::now() < self.look_when {
            return None;
        }
        let over = inside.at_most(&pids) > self.limit && inside.exactly(&pids) > self.limit;
        // On a busy machine that may have taken much longer than it has cost.
        self.look_when = Instant::now() + cpu_time().saturating_sub(begin) * REST;
        over.then_some(Limit::Memory(self.limit))
    }
}

/// What this thread has cost so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The file system of the work directory.
struct Disk<'a> {
    work: &'a Path,
    limit: Option<u64>,
    /// Bytes that were free at first.
    free: u64,
    /// Bytes and files that are to stay free.
    reserve: (u64, u64),
    /// When so much of the free space is gone, the work directory is measured itself.
    look_at: u64,
    /// The same at this time, for others may have made room.
    look_when: Instant,
}

impl Disk<'_> {
    fn new(work: &Path, limit: Option<u64>) -> Result<Disk<'_>, Trouble> {
        let system = rustix::fs::statvfs(work).context(|| "work directory")?;
        let free = free(&system);
        let least = |most: u64, all: u64, free: u64| most.min(all / 50).min(free / 2);
        let reserve = (
            least(RESERVE.0, system.f_blocks * system.f_frsize, free),
            least(RESERVE.1, system.f_files, system.f_favail),
        );
        Ok(Disk {
            work,
            limit,
            free,
            reserve,
            look_at: limit.unwrap_or(u64::MAX),
            look_when: Instant::now() + LOOK,
        })
    }

    fn met(&mut self) -> Option<Limit> {
        // A file system that does not answer cannot be filled either.
        let system = rustix::fs::statvfs(self.work).ok()?;
        let left = free(&system);
        if left < self.reserve.0 {
            return Some(Limit::Reserve(self.reserve.0));
        }
        if system.f_favail < self.reserve.1 {
            return Some(Limit::Files(self.reserve.1));
        }
        // Others use the disk too: that so much is gone says only that it could be the sandbox.
        let (limit, gone) = (self.limit?, self.free.saturating_sub(left));
        let begin = Instant::now();
        if gone < self.look_at && begin < self.look_when {
            return None;
        }
        let used = bytes_below(self.work);
        self.look_at = gone + limit.saturating_sub(used);
        self.look_when = Instant::now() + LOOK.max(begin.elapsed() * REST * REST);
        (used > limit).then_some(Limit::Disk(limit))
    }
}

fn free(system: &StatVfs) -> u64 {
    system.f_bavail * system.f_frsize
}

/// What a directory takes on disk. What vanishes meanwhile, or is too deep to be named, does not count.
fn bytes_below(dir: &Path) -> u64 {
    let mut todo: Vec<PathBuf> = vec![dir.to_path_buf()];
    let mut linked = BTreeSet::new();
    let mut bytes = 0;
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.nlink() > 1 && !linked.insert(meta.ino()) {
                continue;
            }
            bytes += meta.blocks() * 512 + ENTRY;
        }
    }
    bytes
}
