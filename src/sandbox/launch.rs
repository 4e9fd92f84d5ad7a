//! The engine's side: starting sandbox processes, listening to them, ending them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::console::{Caller, Console};
use super::entry::{ARGUMENT, job_file};
use super::error::{Error, StepFailure};
use super::ids::{self, IdPlan};
use super::limits::Limit;
use super::request::{Event, MountSource, Report, Request, Step};
use super::wire::{Channel, Hello, Job, Reply, Stdio, Task};
use super::{Listeners, network, terminal};
use crate::tree::{self, TreeInfo};

/// How often a running sandbox looks whether it was cancelled.
pub(super) const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The program whose [`super::entry`] is the sandbox: this one, except in tests.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// Path of the program.
    pub exe: PathBuf,
}

impl Launcher {
    /// The running program, also when its file was replaced meanwhile.
    pub fn current() -> Launcher {
        Launcher { exe: PathBuf::from("/proc/self/exe") }
    }
}

/// A program to use interactively after the steps of a request.
#[derive(Clone, Debug)]
pub struct InteractRequest {
    /// The sandbox; its steps run first.
    pub request: Request,
    /// At least one word.
    pub argv: Vec<String>,
    /// Environment, over [`super::base_env`].
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub cwd: String,
}

/// Runs a sandbox to its end.
///
/// `serve` gets the sockets of [`super::Network::Proxy`] before the first step. A set `cancel` ends everything
/// within a tenth of a second; no process and no mount stays. On any error what was written stays in the work
/// dir, for [`remove`].
pub fn run(
    launcher: &Launcher,
    request: &Request,
    serve: Option<&mut dyn FnMut(Listeners)>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let task = Task::Run { request: Box::new(request.clone()), stdio: Stdio::Captured };
    drive(launcher, task, None, serve, cancel, on_event)
}

/// Runs a sandbox whose last program has the caller's streams, or those of this process: a terminal of its own if
/// this one has a terminal, else the very same descriptors. However it ends, there is a report with its status.
pub fn interact(
    launcher: &Launcher,
    interaction: &InteractRequest,
    caller: &Caller<'_>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    let mut request = interaction.request.clone();
    let (argv, env) = (interaction.argv.clone(), interaction.env.clone());
    request.steps.push(Step::Run { argv, env, cwd: interaction.cwd.clone() });
    let last = request.steps.len() - 1;
    let stdio = match caller.streams.is_none() && terminal::is_wanted() {
        true => Stdio::Terminal,
        false => Stdio::Inherited,
    };
    let task = Task::Run { request: Box::new(request), stdio };
    match drive(launcher, task, Some((caller, last)), None, cancel, on_event) {
        Err(Error::StepFailed { idx, failure: StepFailure::Message(why) }) if idx == last => {
            Err(Error::NotStarted(why))
        }
        result => result,
    }
}

/// Deletes a work dir, a tree, or anything else that may hold files of other ids than the caller's.
pub fn remove(launcher: &Launcher, path: &Path) -> Result<(), Error> {
    let direct = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => Err(err),
    };
    match direct {
        Ok(()) => Ok(()),
        Err(_) if matches!(ids::plan(), Ok(IdPlan::Sub { .. })) => {
            match simple(launcher, Task::Remove(absolute(path)?))? {
                Reply::Removed => Ok(()),
                _ => Err(unexpected()),
            }
        }
        Err(err) => Err(Error::Setup(format!("cannot remove {}: {err}", path.display()))),
    }
}

/// Hashes a tree with the ids that it has inside sandboxes.
pub fn hash(launcher: &Launcher, path: &Path) -> Result<TreeInfo, Error> {
    if ids::plan()? == IdPlan::Root {
        return tree::hash_tree(path, tree::Owner::AsSeen).map_err(|err| Error::Setup(err.to_string()));
    }
    match simple(launcher, Task::Hash(absolute(path)?))? {
        Reply::Hashed(info) => Ok(info),
        _ => Err(unexpected()),
    }
}

/// Whether the calling user's trees can be read and written as they are, for they have the ids that sandboxes see.
pub fn owns_ids() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs this program with other arguments where the calling user's ids are those that sandboxes see, on the same
/// standard streams; gives its exit status. It sees nothing of the environment but `PATH`.
pub fn reenter(launcher: &Launcher, argv: Vec<OsString>, cancel: &AtomicBool) -> Result<i32, Error> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let process = SandboxProcess::start(launcher, Task::Reenter(argv), &streams)?;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if wait(&process.channel, None, None)? {
            return match answer(process)? {
                Reply::Exited(status) => Ok(status),
                _ => Err(unexpected()),
            };
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|err| Error::Setup(format!("{}: {err}", path.display())))
}

fn unexpected() -> Error {
    Error::Setup("the sandbox process gave an answer to something else".into())
}

/// Does a task that says nothing but its result.
fn simple(launcher: &Launcher, task: Task) -> Result<Reply, Error> {
    answer(SandboxProcess::start(launcher, task, &[])?)
}

/// The one thing that a process has to say.
fn answer(mut process: SandboxProcess) -> Result<Reply, Error> {
    match process.channel.receive() {
        Ok(Some((Reply::Failed(fault), _))) => Err(fault.into_error(None)),
        Ok(Some((reply, _))) => Ok(reply),
        Ok(None) => Err(process.died()),
        Err(err) => Err(Error::Setup(format!("cannot listen to the sandbox: {err}"))),
    }
}

fn drive(
    launcher: &Launcher,
    mut task: Task,
    interactive: Option<(&Caller<'_>, usize)>,
    mut serve: Option<&mut dyn FnMut(Listeners)>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    if let Task::Run { request, .. } = &mut task {
        for trees in &mut request.trees {
            *trees = absolute(trees)?;
        }
        request.work = absolute(&request.work)?;
        if let Some(checkpoints) = &mut request.checkpoints {
            checkpoints.dir = absolute(&checkpoints.dir)?;
        }
        for mount in &mut request.mounts {
            if let MountSource::Host { path, .. } | MountSource::Device(path) = &mut mount.source {
                *path = absolute(path)?;
            }
        }
    }
    let step_time = match &task {
        Task::Run { request, .. } => request.limits.step_time,
        _ => None,
    };
    let mut step = CurrentStep::default();
    let (mut process, mut console) = match interactive {
        None => (SandboxProcess::start(launcher, task, &[])?, None),
        Some((caller, _)) => {
            let (console, control) =
                Console::new(caller).map_err(|err| Error::Setup(format!("socketpair: {err}")))?;
            let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
            let mut fds = caller.streams.unwrap_or(own).to_vec();
            fds.push(control.as_fd());
            fds.extend(caller.held);
            (SandboxProcess::start(launcher, task, &fds)?, Some(console))
        }
    };
    let mut output: Option<std::fs::File> = None;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let told = wait(&process.channel, output.as_ref(), console.as_ref())?;
        if let Some(console) = &mut console {
            console.relay(|| is_readable(&process.channel))?;
        }
        drain(&mut output, on_event);
        if let (Some(limit), Some(idx)) = (step_time.filter(|it| step.took_longer_than(*it)), step.idx) {
            let failure = StepFailure::Limit(Limit::StepTime(limit));
            return Err(Error::StepFailed { idx, failure });
        }
        if !told {
            continue;
        }
        let received = process
            .channel
            .receive()
            .map_err(|err| Error::Setup(format!("cannot listen to the sandbox: {err}")))?;
        // What a program wrote before this message was sent is in the pipe by now.
        drain(&mut output, on_event);
        match received {
            None => return Err(process.died()),
            // The descriptor that comes with it is closed when this is done: that is what the sandbox waits for.
            Some((Reply::Event(event @ Event::Checkpoint { .. }), _wait)) => on_event(event),
            Some((Reply::Event(event), fds)) => {
                step.hear(&event);
                if let (Some(console), Some((_, last)), Event::StepStarted { idx }) =
                    (&mut console, interactive, &event)
                    && *idx == last
                {
                    console.start();
                }
                on_event(event);
                // A step that begins brings the pipe that its programs write to.
                if let Some(fd) = fds.into_iter().next() {
                    output = Some(non_blocking(fd)?);
                }
            }
            Some((Reply::Terminal, fds)) => {
                let mut fds = fds.into_iter();
                if let (Some(console), Some(controller), Some(terminal)) =
                    (&mut console, fds.next(), fds.next())
                {
                    console
                        .relay_terminal(non_blocking(controller)?, terminal)
                        .map_err(|err| Error::Setup(format!("terminal: {err}")))?;
                }
            }
            Some((Reply::Listeners, fds)) => {
                if let (Some(serve), Some(listeners)) = (serve.as_deref_mut(), network::listeners(fds)) {
                    serve(listeners);
                }
            }
            Some((reply @ (Reply::Done(_) | Reply::Failed(_)), _)) => {
                if let Some(console) = console {
                    console.finish();
                }
                process.finish();
                return match reply {
                    Reply::Done(report) => Ok(report),
                    Reply::Failed(fault) => Err(fault.into_error(step.idx)),
                    _ => Err(unexpected()),
                };
            }
            Some((Reply::Removed | Reply::Hashed(_) | Reply::Exited(_), _)) => return Err(unexpected()),
        }
    }
}

/// The step that a sandbox is in.
#[derive(Default)]
struct CurrentStep {
    idx: Option<usize>,
    /// When it began, unless it is done.
    since: Option<Instant>,
}

impl CurrentStep {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::StepStarted { idx } => {
                *self = CurrentStep { idx: Some(*idx), since: Some(Instant::now()) };
            }
            Event::StepDone { .. } => self.since = None,
            Event::Checkpoint { .. } | Event::Output(_) => {}
        }
    }

    fn took_longer_than(&self, limit: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() > limit)
    }
}

/// Waits until something may have happened; true if the sandbox has said something.
fn wait(
    channel: &Channel,
    output: Option<&std::fs::File>,
    console: Option<&Console<'_>>,
) -> Result<bool, Error> {
    let mut fds = vec![PollFd::new(channel, PollFlags::IN)];
    fds.extend(output.map(|output| PollFd::new(output, PollFlags::IN)));
    fds.extend(console.iter().flat_map(|it| it.poll_fds()));
    match poll(&mut fds, Some(&TICK)) {
        Ok(_) | Err(Errno::INTR) => Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty())),
        Err(err) => Err(Error::Setup(format!("poll: {err}"))),
    }
}

/// Whether something can be received at once.
fn is_readable(channel: &Channel) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&now)), Ok(n) if n > 0)
}

fn non_blocking(fd: OwnedFd) -> Result<std::fs::File, Error> {
    rustix::io::ioctl_fionbio(&fd, true).map_err(|err| Error::Setup(format!("pipe: {err}")))?;
    Ok(fd.into())
}

/// Passes on what programs have written so far.
fn drain(output: &mut Option<std::fs::File>, on_event: &mut dyn FnMut(Event)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Some(file) = output {
        match file.read(&mut buffer) {
            Ok(n) if n > 0 => on_event(Event::Output(buffer.get(..n).unwrap_or_default().to_vec())),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            // All writers are gone.
            _ => *output = None,
        }
    }
}

/// A started sandbox. Dropping it ends everything in it and waits for that.
struct SandboxProcess {
    child: Child,
    channel: Channel,
}

impl SandboxProcess {
    /// Starts one, and gives it these descriptors besides its task.
    fn start(launcher: &Launcher, task: Task, given: &[BorrowedFd<'_>]) -> Result<SandboxProcess, Error> {
        let failed = |source| Error::Launch { exe: launcher.exe.clone(), source };
        let (channel, theirs) = Channel::pair().map_err(|err| failed(err.into()))?;
        let job = job_file(&Job { ids: ids::plan()?, task }).map_err(failed)?;
        let child = Command::new(&launcher.exe)
            .arg(ARGUMENT)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(ProcessStdio::from(OwnedFd::from(theirs)))
            .stdout(ProcessStdio::null())
            .spawn()
            .map_err(failed)?;
        let process = SandboxProcess { child, channel };
        let fds: Vec<_> = [job.as_fd()].into_iter().chain(given.iter().copied()).collect();
        process.channel.send(&Hello, &fds).map_err(failed)?;
        Ok(process)
    }

    /// Waits for the end of a sandbox that has said its last word.
    fn finish(&mut self) {
        // A status that cannot be had is no reason to doubt what was said.
        let _ = self.child.wait();
    }

    /// The error for a sandbox that is gone without a word.
    fn died(&mut self) -> Error {
        match self.child.wait() {
            Ok(status) => Error::Setup(format!("the sandbox process ended unexpectedly ({status})")),
            Err(err) => Error::Setup(format!("the sandbox process is gone: {err}")),
        }
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        // The supervisor kills the others, waits until they are gone, and ends; at once if it is done already.
        self.channel.hang_up();
        let _ = self.child.wait();
    }
}
