//! The supervisor: first process of a sandbox, still outside of it.
//!
//! It is this program, started anew because the engine has threads and must not fork. It fills the user
//! namespace of its child, and it outlives all others so that the engine can wait for one process only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};

use super::cgroup::Group;
use super::error::{Context, Fault, Trouble};
use super::ids::{self, IdMap};
use super::request::Request;
use super::wire::{Channel, Hello, Job, MAX_FDS, Reply, Sync, Task};
use super::{ground, mounts, process, stage};

/// First argument that makes this program a sandbox.
pub(super) const ARGUMENT: &str = "__sandbox";

/// The whole life of a sandbox process; the result is its exit status.
///
/// `main` calls this, and nothing before it, when the first argument is `__sandbox`.
pub fn entry() -> i32 {
    let channel = match take_socket() {
        Ok(channel) => channel,
        Err(Trouble(message)) => {
            eprintln!("raptor: {ARGUMENT} is not for users: {message}");
            return 2;
        }
    };
    let received = receive_job(&channel).map_err(Fault::from);
    match received.and_then(|(job, stdio)| supervise(&job, stdio, &channel)) {
        Ok(()) => 0,
        Err(fault) => {
            // If nobody listens any more there is nobody to tell.
            let _ = channel.send(&Reply::Failed(fault), &[]);
            1
        }
    }
}

/// The engine passes its socket as standard input; programs must not see it.
fn take_socket() -> Result<Channel, Trouble> {
    let stdin = std::io::stdin();
    let fd = rustix::io::fcntl_dupfd_cloexec(&stdin, 3).context(|| "standard input")?;
    rustix::net::sockopt::socket_type(&fd).context(|| "standard input is no socket of raptor")?;
    let null = fs_err::File::open("/dev/null")?;
    process::replace_fd(null.as_fd(), 0).context(|| "standard input")?;
    Ok(Channel::from(fd))
}

fn receive_job(channel: &Channel) -> Result<(Job, Vec<OwnedFd>), Trouble> {
    let received = channel.receive::<Hello>().context(|| "cannot receive the request")?;
    let mut fds = received.map(|(Hello, fds)| fds).unwrap_or_default().into_iter();
    let file = fds.next().ok_or_else(|| Trouble("there was no request".into()))?;
    let job = serde_json::from_reader(std::io::BufReader::new(std::fs::File::from(file)))
        .context(|| "cannot read the request")?;
    Ok((job, fds.collect()))
}

fn supervise(job: &Job, stdio: Vec<OwnedFd>, channel: &Channel) -> Result<(), Fault> {
    process::die_with_parent().context(|| "prctl")?;
    process::adopt_orphans().context(|| "prctl")?;
    // Ctrl-C in a terminal is for the engine alone, which then ends us in good order.
    rustix::process::setsid().context(|| "setsid")?;
    // A request may mount hundreds of trees; programs get their own limit later.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context(|| "setrlimit")?;
    if let Task::Run { request, .. } = &job.task {
        // The directory stays reachable this way when its path is not, for lack of rights.
        let work = request.work.as_path();
        rustix::process::chdir(work).context(|| format!("cannot enter {}", work.display()))?;
    }
    let mut problem = Trouble("no way to map ids".into());
    for map in ids::candidates(&job.ids) {
        match start(job, &stdio, channel, map)? {
            Ok((child, group)) => {
                drop(stdio);
                let status = watch(child, channel, group)?;
                if let Task::Reenter(_) = job.task {
                    // If nobody listens any more there is nobody to tell.
                    let _ = channel.send(&Reply::Exited(status), &[]);
                }
                return Ok(());
            }
            Err(trouble) => problem = trouble,
        }
    }
    Err(problem.into())
}

/// Starts the child that enters the namespaces. The inner error means that another map may work.
fn start(
    job: &Job,
    stdio: &[OwnedFd],
    channel: &Channel,
    map: IdMap,
) -> Result<Result<(Pid, Option<Group>), Trouble>, Trouble> {
    let (ours, theirs) = Channel::pair().context(|| "socketpair")?;
    let Some(child) = process::fork().context(|| "fork")? else {
        drop(ours);
        std::process::exit(stage::run(job, stdio, channel, theirs, map));
    };
    drop(theirs);
    match ours.receive::<Sync>() {
        Ok(Some((Sync::Unshared, _))) => {}
        // The child has said itself what went wrong.
        _ => return Ok(Ok((child, None))),
    }
    let mapped = ids::write_maps(&job.ids, map, child.as_raw_pid()).and_then(|()| match (&job.task, map) {
        (Task::Run { request, .. }, IdMap::Shifted) => shifted_mounts(request, child),
        _ => Ok(Vec::new()),
    });
    let fds = match mapped {
        Ok(fds) => fds,
        Err(trouble) => {
            kill(child);
            reap_all();
            return Ok(Err(trouble));
        }
    };
    let group = match &job.task {
        Task::Run { request, .. } => Group::around(child, &request.limits),
        _ => None,
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mapped = Sync::Mapped { grouped: group.is_some() };
    ours.send(&mapped, &fds).context(|| "cannot talk to the sandbox")?;
    Ok(Ok((child, group)))
}

/// Trees, work dir and host paths of a request, with their ids shifted into the user namespace of `child`.
fn shifted_mounts(request: &Request, child: Pid) -> Result<Vec<OwnedFd>, Trouble> {
    let namespace = fs_err::File::open(format!("/proc/{}/ns/user", child.as_raw_pid()))?;
    let fds = ground::request_mounts(request, |path, attributes| {
        if !attributes.contains(MountAttrFlags::MOUNT_ATTR_NODEV)
            && let Ok(device) = device_of_root(path, attributes, namespace.as_fd())
        {
            return Ok(device);
        }
        let mount = mounts::copy_one(path).context(|| format!("cannot open {}", path.display()))?;
        mounts::set_attributes(mount.as_fd(), attributes).context(|| path.display())?;
        // The kernel cannot show other owners of devices; then its mode must let everybody.
        if attributes.contains(MountAttrFlags::MOUNT_ATTR_NODEV) {
            mounts::shift_ids(mount.as_fd(), namespace.as_fd())
                .context(|| format!("cannot shift the ids of {}", path.display()))?;
        }
        Ok(mount)
    })?;
    if fds.len() > MAX_FDS {
        return Err(Trouble(format!("more than {} host mounts", MAX_FDS - 2)));
    }
    Ok(fds)
}

/// A device once more, and root's inside, which needs a kernel of 2025. Who is root may use it anyway.
fn device_of_root(
    path: &Path,
    attributes: MountAttrFlags,
    namespace: BorrowedFd<'_>,
) -> rustix::io::Result<OwnedFd> {
    let stat = rustix::fs::stat(path)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let place = mounts::new("tmpfs", &[], attributes)?;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(&place, "device", kind, mode, stat.st_rdev)?;
    let mount = mounts::copy_in(place.as_fd(), "device")?;
    mounts::shift_ids(mount.as_fd(), namespace)?;
    Ok(mount)
}

/// Waits until every process of the sandbox is gone, and hurries them when the engine hangs up. Gives the exit
/// status of the child.
fn watch(child: Pid, channel: &Channel, group: Option<Group>) -> Result<i32, Fault> {
    let pidfd =
        rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).context(|| "pidfd")?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(channel, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(Trouble(format!("poll: {err}")).into()),
        }
        let [ended, hung_up] = fds.map(|fd| !fd.revents().is_empty());
        if hung_up {
            kill(child);
        }
        if ended || hung_up {
            break;
        }
    }
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty()).context(|| "wait")?;
    // The init of the sandbox dies with its parent; after it there is nobody left.
    reap_all();
    match status {
        Some((_, status)) => match (status.terminating_signal(), group.and_then(|it| it.met())) {
            (Some(_), Some(limit)) => Err(Fault::Limit(limit)),
            (Some(signal), None) => Err(Fault::Setup(format!("killed by signal {signal}"))),
            (None, _) => Ok(status.exit_status().unwrap_or(1)),
        },
        None => Ok(1),
    }
}

fn kill(pid: Pid) {
    // An error means that it is gone.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

fn reap_all() {
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
}

/// A memory file with a job, as [`entry`] wants it.
pub(super) fn job_file(job: &Job) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("request", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::io::BufWriter::new(std::fs::File::from(fd));
    serde_json::to_writer(&mut file, job)?;
    let mut file = file.into_inner().map_err(|err| err.into_error())?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file.into())
}
