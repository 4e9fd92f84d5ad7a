//! Process 1 of the sandbox: enters the root, does the steps in order, and takes all programs down with it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use fs_err as fs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use super::checkpoint::Keeper;
use super::error::{Context, Fault, StepFailure, Trouble};
use super::ground::Ground;
use super::ids::IdMap;
use super::program::{self, Program, Streams};
use super::request::{Event, Request, Step};
use super::root::{self, Root};
use super::wire::{Channel, Deliver, Reply, Stdio};
use super::{base_env, debs, files, images, network, watchdog};

/// Everything that init needs, from before it was born.
pub(super) struct Life<'a> {
    pub request: &'a Request,
    pub kind: Stdio,
    /// Standard streams of the last step and its control channel, unless [`Stdio::Captured`].
    pub stdio: &'a [OwnedFd],
    pub engine: &'a Channel,
    pub map: IdMap,
    pub ground: Ground,
    /// To tell the watchdog where to look.
    pub watchdog: Channel,
    /// Memory file for the [`Notes`].
    pub notes: OwnedFd,
}

/// What the capture must know of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Made only to be mounted on, parents first.
    pub made: Vec<PathBuf>,
    /// Those that a package or file step has asked for too, with mode, user and group.
    pub wanted: BTreeMap<PathBuf, (u32, u32, u32)>,
    /// Exit status of an interactive program, or 128 and its signal.
    pub status: i32,
}

impl Notes {
    pub fn read(file: OwnedFd) -> Result<Notes, Trouble> {
        let mut file = std::fs::File::from(file);
        std::io::Seek::rewind(&mut file).context(|| "notes")?;
        serde_json::from_reader(std::io::BufReader::new(file)).context(|| "notes")
    }
}

/// Lives; the result is the exit status: 1 after telling the engine what failed.
pub(super) fn run(life: Life<'_>) -> i32 {
    let engine = life.engine;
    match live(life) {
        Ok(()) => 0,
        Err(fault) => match engine.send(&Reply::Failed(fault), &[]) {
            Ok(()) => 1,
            Err(_) => 2,
        },
    }
}

fn live(life: Life<'_>) -> Result<(), Fault> {
    let Life { request, kind, stdio, engine, map, ground, watchdog, notes } = life;
    super::process::unshare(rustix::thread::UnshareFlags::NEWNS).context(|| "cannot copy the mounts")?;
    rustix::system::sethostname(b"raptor").context(|| "cannot set the host name")?;
    rustix::system::setdomainname(b"(none)").context(|| "cannot set the domain name")?;
    network::set_up(request.network, engine)?;
    let mut keeper = request.checkpoints.as_ref().map(|it| Keeper::open(it, request)).transpose()?;
    let mut resumed = keeper.as_mut().map(Keeper::resume).transpose()?.flatten();
    let root = root::enter(request, ground, map, resumed.as_mut())?;
    watchdog::show(request, &watchdog)?;
    drop(watchdog);
    // Programs must not look into this process, which can do more than they.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context(|| "prctl")?;

    let console = program::Console::new(kind, stdio, engine)?;
    let mut status = 0;
    let mut steps = Steps { request, root: &root, wanted: BTreeMap::new() };
    let mut first = 0;
    if let (Some(keeper), Some(resumed)) = (&mut keeper, resumed) {
        steps.wanted = resumed.notes.wanted.clone();
        first = keeper.resumed(resumed);
    }
    for (idx, step) in request.steps.iter().enumerate().skip(first) {
        // A pipe for each step, which the engine gets with the news of the step: so it can tell whose output it is.
        let (outside, inside) = output_pipe()?;
        let gone = || "the engine is gone";
        engine.send(&Reply::Event(Event::StepStarted { idx }), &[outside.as_fd()]).context(gone)?;
        drop(outside);
        let interactive = console.as_ref().filter(|_| idx + 1 == request.steps.len());
        let result = steps.run(step, interactive.map_or(Streams::Output(&inside), Streams::Caller));
        kill_programs();
        // The end of an interactive program is no failure, whatever it is.
        status = match result {
            Err(StepFailure::Exit(status)) if interactive.is_some() => status,
            Err(StepFailure::Signal(signal)) if interactive.is_some() => 128 + signal,
            result => result.map(|()| 0).map_err(|failure| Fault::Step { idx, failure })?,
        };
        engine.send(&Reply::Event(Event::StepDone { idx }), &[]).context(gone)?;
        let notes = || Notes { made: root.made.clone(), wanted: steps.wanted.clone(), status };
        if let Some(taken) = keeper.as_mut().and_then(|it| it.take(idx, notes)) {
            let problem = taken.err().map(|Trouble(why)| why);
            tell_and_wait(engine, Event::Checkpoint { idx, problem })?;
        }
    }
    let wanted = steps.wanted;
    let file = std::fs::File::from(notes);
    serde_json::to_writer(file, &Notes { made: root.made, wanted, status }).context(|| "notes")?;
    Ok(())
}

/// Tells of something, and waits until it is dealt with.
fn tell_and_wait(engine: &Channel, event: Event) -> Result<(), Trouble> {
    let (end, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe")?;
    engine.send(&Reply::Event(event), &[theirs.as_fd()]).context(|| "the engine is gone")?;
    drop(theirs);
    std::io::copy(&mut std::fs::File::from(end), &mut std::io::sink()).context(|| "pipe").map(drop)
}

/// Where the programs of a step write: the end to read, and theirs.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), Trouble> {
    let (outside, inside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe")?;
    // Programs open their standard output by name, perhaps as another user than root.
    rustix::fs::fchmod(&inside, rustix::fs::Mode::from_raw_mode(0o666)).context(|| "pipe")?;
    Ok((outside, inside))
}

/// What steps have in common.
struct Steps<'a> {
    request: &'a Request,
    root: &'a Root,
    wanted: BTreeMap<PathBuf, (u32, u32, u32)>,
}

impl Steps<'_> {
    fn run(&mut self, step: &Step, streams: Streams<'_>) -> Result<(), StepFailure> {
        let done = match step {
            Step::Run { argv, env, cwd } => {
                let mut all = base_env();
                all.insert("SOURCE_DATE_EPOCH".into(), self.request.epoch.to_string());
                all.extend(env.iter().map(|(k, v)| (k.clone(), v.clone())));
                let program = Program { argv, env: &all, cwd };
                let started = program::start(&program, streams)?;
                return match streams {
                    Streams::Output(_) => wait(started),
                    Streams::Caller(console) => attend(started, &console.control),
                };
            }
            Step::Workdir { path } => match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => Ok(()),
                Ok(_) => Err(Trouble(format!("{path} is not a directory"))),
                Err(err) => Err(err.into()),
            },
            Step::Write { text, path, attrs } => files::write(text, path, attrs),
            Step::Mkdir { path, parents, attrs } => match self.made_as(path) {
                Some(made) => files::resolve(attrs, 0o755).map(|owner| {
                    self.wanted.insert(made, owner);
                }),
                None => files::mkdir(path, *parents, attrs),
            },
            Step::Symlink { target, path } => fs_err::os::unix::fs::symlink(target, path).map_err(Into::into),
            Step::Copy { sources, dest, attrs } => files::copy(&self.root.stores(), sources, dest, attrs),
            Step::UnpackDebs { debs } => {
                let made: BTreeSet<_> = self.root.made.iter().cloned().collect();
                debs::unpack(&self.root.stores(), debs, &made, &mut self.wanted)
            }
            Step::UnpackLayer(blob) => {
                let made: BTreeSet<_> = self.root.made.iter().cloned().collect();
                let epoch = self.request.epoch;
                images::unpack(&self.root.stores(), blob, epoch, &made, &mut self.wanted)
            }
        };
        done.map_err(|Trouble(message)| StepFailure::Message(message))
    }

    /// The mount point at `path` if it exists only as one so far: as far as steps can tell, nothing is there.
    fn made_as(&self, path: &str) -> Option<PathBuf> {
        let path = fs::canonicalize(path).ok()?;
        (self.root.made.contains(&path) && !self.wanted.contains_key(&path)).then_some(path)
    }
}

/// Waits for a program, and reaps whoever else dies meanwhile.
fn wait(program: Pid) -> Result<(), StepFailure> {
    loop {
        if let Some((pid, status)) = reap(WaitOptions::empty())?
            && pid == program
        {
            return ended(status);
        }
    }
}

/// The same, and passes on the signals that the engine has for the program.
fn attend(program: Pid, control: &Channel) -> Result<(), StepFailure> {
    let problem = |err: std::io::Error| StepFailure::Message(format!("cannot wait for the program: {err}"));
    let (news, tell) = std::os::unix::net::UnixStream::pair().map_err(problem)?;
    news.set_nonblocking(true).map_err(problem)?;
    signal_hook::low_level::pipe::register(Signal::CHILD.as_raw(), tell).map_err(problem)?;
    loop {
        while let Some((pid, status)) = reap(WaitOptions::NOHANG)? {
            if pid == program {
                return ended(status);
            }
        }
        let mut fds = [PollFd::new(control, PollFlags::IN), PollFd::new(&news, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(problem(err.into())),
        }
        let [told, _] = fds.map(|fd| !fd.revents().is_empty());
        // Bytes only say that it is time to look; so one read is enough, and none to read is fine.
        let _ = rustix::io::read(&news, &mut [0; 64]);
        if told {
            match control.receive::<Deliver>().map_err(problem)? {
                Some((message, _)) => deliver(program, &message),
                // The engine is gone, and so are we soon.
                None => return wait(program),
            }
        }
    }
}

/// Passes a signal on to a program that is not yet reaped.
fn deliver(program: Pid, message: &Deliver) {
    let Some(signal) = Signal::from_named_raw(message.signal) else { return };
    // It may be about to end; then the signal is not needed any more.
    let _ = match message.group {
        true => rustix::process::kill_process_group(program, signal),
        false => rustix::process::kill_process(program, signal),
    };
}

fn reap(options: WaitOptions) -> Result<Option<(Pid, WaitStatus)>, StepFailure> {
    match rustix::process::wait(options) {
        Err(Errno::INTR) => Ok(None),
        result => result.map_err(|err| StepFailure::Message(format!("cannot wait for the program: {err}"))),
    }
}

fn ended(status: WaitStatus) -> Result<(), StepFailure> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(StepFailure::Exit(code)),
        (None, signal) => Err(StepFailure::Signal(signal.unwrap_or_default())),
    }
}

/// Ends everything that a step has left running.
fn kill_programs() {
    // To process 1, all processes are its own namespace's, and it is spared itself. No such process is fine.
    // SAFETY: kill(2) touches no memory.
    unsafe { libc::kill(-1, Signal::KILL.as_raw()) };
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
}
