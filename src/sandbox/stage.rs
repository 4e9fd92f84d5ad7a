//! The process inside the user namespace: makes the other namespaces, starts init, and takes the result when
//! init and all its programs are gone.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use fs_err as fs;
use rustix::process::{Gid, Pid, Uid, WaitOptions};
use rustix::thread::UnshareFlags;
use rustix::time::{ClockId, clock_gettime};

use super::error::{Context, Fault, Trouble};
use super::ground;
use super::ids::{self, IdMap};
use super::request::{Network, Report, Request};
use super::wire::{Channel, Job, Reply, Stdio, Sync, Task};
use super::{capture, init, process, watchdog};
use crate::tree;

/// Does the job; the result is the exit status. Every failure has been told to the engine.
pub(super) fn run(job: &Job, stdio: &[OwnedFd], engine: &Channel, supervisor: Channel, map: IdMap) -> i32 {
    if let Task::Run { .. } = job.task {
        // If the machine has no memory left, this and all that comes from it goes first. Not everybody may say so.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
    }
    let result = process::die_with_parent()
        .context(|| "prctl")
        .and_then(|()| enter_user_namespace(&supervisor))
        .map_err(Fault::from)
        .and_then(|(mounts, grouped)| match &job.task {
            Task::Run { request, stdio: kind } => {
                sandbox(request, *kind, stdio, engine, Entered { map, mounts, grouped })
            }
            Task::Remove(path) => {
                let removed = match fs::symlink_metadata(path) {
                    Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
                    Ok(_) => fs::remove_file(path),
                    Err(err) => Err(err),
                };
                removed.map(|()| Some(Reply::Removed)).map_err(|err| Trouble::from(err).into())
            }
            Task::Reenter(argv) => Err(reenter(argv, stdio).into()),
            Task::Hash(path) => tree::hash_tree(path, tree::Owner::AsSeen)
                .map(|info| Some(Reply::Hashed(info)))
                .map_err(|err| Trouble::from(err).into()),
        });
    let reply = match result {
        Ok(Some(reply)) => reply,
        Ok(None) => return 1,
        Err(fault) => Reply::Failed(fault),
    };
    match engine.send(&reply, &[]) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Becomes the program of a command; returns only if that fails.
fn reenter(argv: &[OsString], stdio: &[OwnedFd]) -> Trouble {
    for (fd, number) in stdio.iter().zip(0..) {
        if let Err(err) = process::replace_fd(fd.as_fd(), number) {
            return Trouble(format!("standard streams: {err}"));
        }
    }
    let error = Command::new("/proc/self/exe").args(argv).exec();
    Trouble(format!("cannot start raptor again: {error}"))
}

/// Becomes root of a new user namespace; returns the mounts that the supervisor made for it, and whether a control
/// group limits memory and processes.
fn enter_user_namespace(supervisor: &Channel) -> Result<(Vec<OwnedFd>, bool), Trouble> {
    process::unshare(UnshareFlags::NEWUSER)
        .context(|| format!("cannot make a user namespace{}", ids::restriction_hint()))?;
    supervisor.send(&Sync::Unshared, &[]).context(|| "supervisor")?;
    let Some((Sync::Mapped { grouped }, mounts)) = supervisor.receive().context(|| "supervisor")? else {
        return Err(Trouble("the supervisor is gone".into()));
    };
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .context(|| "cannot become group 0")?;
    rustix::thread::set_thread_groups(&[]).context(|| "cannot leave all groups")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).context(|| "cannot become user 0")?;
    // Changing ids has undone the one and taken our own /proc files away.
    process::die_with_parent().context(|| "prctl")?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .context(|| "prctl")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok((mounts, grouped))
}

/// How the user namespace was entered.
struct Entered {
    map: IdMap,
    /// Those that the supervisor made.
    mounts: Vec<OwnedFd>,
    /// A control group limits memory and processes.
    grouped: bool,
}

/// The sandbox proper. `None` means that init has told the engine why it failed.
fn sandbox(
    request: &Request,
    kind: Stdio,
    stdio: &[OwnedFd],
    engine: &Channel,
    Entered { map, mounts, grouped }: Entered,
) -> Result<Option<Reply>, Fault> {
    leave_namespaces(request.network)?;
    let ground = ground::lay(request, mounts)?;
    let notes = rustix::fs::memfd_create("notes", rustix::fs::MemfdFlags::CLOEXEC).context(|| "notes")?;
    // The new process number and time namespaces are for children only, and whoever has made them can start
    // no threads; so that is somebody else than this process, which has to hash.
    let (ours, theirs) = Channel::pair().context(|| "socketpair")?;
    let Some(middle) = process::fork_bound().context(|| "fork")? else {
        drop(ours);
        let life = init::Life { request, kind, stdio, engine, map, ground, watchdog: theirs, notes };
        std::process::exit(start_init(life));
    };
    drop(theirs);
    let status = watchdog::wait(middle.pid, &ours, &request.limits, grouped)?;
    match (status.and_then(|it| it.exit_status()), status.and_then(|it| it.terminating_signal())) {
        (Some(0), _) => {}
        (Some(1), _) => return Ok(None),
        (_, Some(signal)) => return Err(Fault::Setup(format!("its init was killed by signal {signal}"))),
        _ => return Err(Fault::Setup("its init crashed".into())),
    }
    let report: Report = capture::take(request, &ground, notes)?;
    Ok(Some(Reply::Done(report)))
}

/// Starts init in namespaces of its own and ends like it.
fn start_init(life: init::Life<'_>) -> i32 {
    let engine = life.engine;
    let result = (|| {
        process::unshare(UnshareFlags::NEWPID).context(|| "cannot make a process namespace")?;
        // The uptime is a small leak and old kernels cannot hide it, so failing here is no failure.
        if process::unshare(UnshareFlags::NEWTIME).is_ok() {
            // They differ by the time that the machine was suspended.
            let [monotonic, boottime] =
                [ClockId::Monotonic, ClockId::Boottime].map(|it| clock_gettime(it).tv_sec);
            let offsets = format!("monotonic -{monotonic} 0\nboottime -{boottime} 0\n");
            let _ = fs::write("/proc/self/timens_offsets", offsets);
        }
        match process::fork_bound().context(|| "fork")? {
            None => std::process::exit(init::run(life)),
            Some(child) => {
                drop(life);
                wait(child.pid)
            }
        }
    })();
    match result {
        Ok((Some(status), _)) => status,
        Ok((None, signal)) => {
            let what = format!("its init was killed by signal {}", signal.unwrap_or_default());
            engine.send(&Reply::Failed(Fault::Setup(what)), &[]).map_or(2, |()| 1)
        }
        Err(trouble) => engine.send(&Reply::Failed(trouble.into()), &[]).map_or(2, |()| 1),
    }
}

/// Exit status or signal of a child, once it is gone.
fn wait(child: Pid) -> Result<(Option<i32>, Option<i32>), Trouble> {
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty()).context(|| "wait")?;
    Ok(status.map_or((None, None), |(_, status)| (status.exit_status(), status.terminating_signal())))
}

fn leave_namespaces(network: Network) -> Result<(), Trouble> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if network != Network::Host {
        flags |= UnshareFlags::NEWNET;
    }
    process::unshare(flags).context(|| format!("cannot make namespaces{}", ids::restriction_hint()))?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .context(|| "cannot make mounts private")?;
    Ok(())
}
