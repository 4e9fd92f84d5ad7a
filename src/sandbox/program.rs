//! Starting one program of a step, in a process that has given up everything it does not need.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::{Context, StepFailure, Trouble};
use super::mounts::last_errno;
use super::wire::{Channel, Reply, Stdio};
use super::{confine, process};

/// What to run.
pub(super) struct Program<'a> {
    pub argv: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    pub cwd: &'a str,
}

/// Its standard streams.
#[derive(Clone, Copy)]
pub(super) enum Streams<'a> {
    /// Nothing in; out and error to this.
    Output(&'a OwnedFd),
    /// Those of raptor's caller.
    Caller(&'a Console<'a>),
}

/// The caller of an interactive program.
pub(super) struct Console<'a> {
    /// Where signals for the program come from.
    pub control: Channel,
    streams: [&'a OwnedFd; 3],
    /// Gets the controlling end of a new terminal, which takes the place of the caller's own.
    terminal_for: Option<&'a Channel>,
}

impl<'a> Console<'a> {
    /// From the descriptors that came with the job.
    pub fn new(kind: Stdio, fds: &'a [OwnedFd], engine: &'a Channel) -> Result<Option<Console<'a>>, Trouble> {
        let terminal_for = match kind {
            Stdio::Captured => return Ok(None),
            Stdio::Inherited => None,
            Stdio::Terminal => Some(engine),
        };
        let [stdin, stdout, stderr, control, ..] = fds else {
            return Err(Trouble("the standard streams were not passed".into()));
        };
        let control = control.try_clone().context(|| "control channel")?.into();
        Ok(Some(Console { control, streams: [stdin, stdout, stderr], terminal_for }))
    }
}

/// Starts a program; an error means that it does not run.
pub(super) fn start(program: &Program<'_>, streams: Streams<'_>) -> Result<Pid, StepFailure> {
    spawn(program, streams).map_err(|Trouble(message)| StepFailure::Message(message))
}

fn spawn(program: &Program<'_>, streams: Streams<'_>) -> Result<Pid, Trouble> {
    let call = Call::new(program)?;
    let filter = confine::filter();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.context(|| "/dev/null")?;
    let terminal = match streams {
        Streams::Caller(Console { terminal_for: Some(engine), streams: [stdin, stdout, _], .. }) => {
            Some(open_terminal([stdin, stdout], engine)?)
        }
        _ => None,
    };
    let fds = match (&terminal, streams) {
        // Standard error alone may lead elsewhere.
        (Some(terminal), Streams::Caller(Console { streams: [_, _, stderr], .. })) if !isatty(stderr) => {
            [terminal, terminal, stderr]
        }
        (Some(terminal), _) => [terminal; 3],
        (None, Streams::Caller(console)) => console.streams,
        (None, Streams::Output(output)) => [&null, output, output],
    };
    // Closed by exec; until then the child can say why it fails.
    let (said, say) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe")?;
    let Some(child) = process::fork().context(|| "fork")? else {
        let Trouble(why) = become_program(program, &call, fds, terminal.is_some(), &filter);
        let _ = rustix::io::write(&say, why.as_bytes());
        std::process::exit(127);
    };
    drop(say);
    let mut why = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(said), &mut why).context(|| "pipe")?;
    match why.is_empty() {
        true => Ok(child),
        false => Err(Trouble(why)),
    }
}

/// Turns this process into the program; returns only to say why not.
fn become_program(
    program: &Program<'_>,
    call: &Call,
    fds: [&OwnedFd; 3],
    terminal: bool,
    filter: &confine::Filter,
) -> Trouble {
    let prepared = (|| {
        rustix::process::setsid().context(|| "setsid")?;
        for (number, fd) in fds.into_iter().enumerate() {
            process::replace_fd(fd.as_fd(), number as i32).context(|| "standard streams")?;
        }
        if terminal {
            rustix::process::ioctl_tiocsctty(std::io::stdin()).context(|| "controlling terminal")?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let cwd = program.cwd;
        rustix::process::chdir(cwd).context(|| format!("cannot enter the working directory {cwd}"))?;
        process::default_signals();
        process::fixed_addresses().context(|| "personality")?;
        process::close_others_on_exec().context(|| "close_range")?;
        confine::confine(filter)
    })();
    match prepared {
        Ok(()) => call.exec(),
        Err(trouble) => trouble,
    }
}

/// Opens a terminal pair like the caller's terminal; the engine gets both ends.
fn open_terminal([stdin, stdout]: [&OwnedFd; 2], engine: &Channel) -> Result<OwnedFd, Trouble> {
    let what = || "cannot make a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller = rustix::fs::open("/dev/ptmx", flags, Mode::empty()).context(what)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the request takes a pointer to an int.
    if unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCSPTLCK as _, &unlocked) } != 0 {
        return Err(last_errno()).context(what);
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes open flags and returns a new descriptor.
    let terminal = match unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTPEER as _, flags) } {
        -1 => return Err(last_errno()).context(what),
        // SAFETY: the descriptor is new, so this is its only owner.
        fd => unsafe { OwnedFd::from_raw_fd(fd) },
    };
    // What keys mean and how big it is; a terminal that cannot tell gets one that works all the same.
    if let Ok(modes) = tcgetattr(stdin) {
        tcsetattr(&terminal, OptionalActions::Now, &modes).context(what)?;
    }
    if let Ok(size) = tcgetwinsize(stdout) {
        tcsetwinsize(&terminal, size).context(what)?;
    }
    engine.send(&Reply::Terminal, &[controller.as_fd(), terminal.as_fd()]).context(what)?;
    Ok(terminal)
}

/// Arguments of execve(2), in C's form.
struct Call {
    name: String,
    /// Files to try, in order.
    files: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    path: String,
}

impl Call {
    fn new(program: &Program<'_>) -> Result<Call, Trouble> {
        let c =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| Trouble("a word has a zero byte in it".into()));
        let Some(name) = program.argv.first() else {
            return Err(Trouble("there is no program to run".into()));
        };
        let path = program.env.get("PATH").cloned().unwrap_or_default();
        let files = match name.contains('/') {
            true => vec![c(name.as_bytes())?],
            false => path
                .split(':')
                .map(|dir| {
                    c(Path::new(if dir.is_empty() { "." } else { dir }).join(name).as_os_str().as_bytes())
                })
                .collect::<Result<_, _>>()?,
        };
        let argv = program.argv.iter().map(|arg| c(arg.as_bytes())).collect::<Result<_, _>>()?;
        let env =
            program.env.iter().map(|(k, v)| c(format!("{k}={v}").as_bytes())).collect::<Result<_, _>>()?;
        Ok(Call { name: name.clone(), files, argv, env, path })
    }

    fn exec(&self) -> Trouble {
        let pointers = |list: &[CString]| {
            list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const libc::c_char>>()
        };
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let mut problem = None;
        for file in &self.files {
            // SAFETY: both lists end in a null pointer, and all strings live in `self`.
            unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            let path = Path::new(OsStr::from_bytes(file.to_bytes()));
            match last_errno() {
                Errno::NOENT | Errno::NOTDIR if std::fs::symlink_metadata(path).is_err() => {}
                Errno::NOENT => {
                    return Trouble(format!("cannot run {}: its interpreter is missing", path.display()));
                }
                // Like the shell: a later directory may have one that may be run.
                Errno::ACCESS => {
                    problem = Some(Trouble(format!("cannot run {}: not executable", path.display())))
                }
                Errno::NOEXEC => {
                    return Trouble(format!(
                        "cannot run {}: neither a program nor a `#!` script",
                        path.display()
                    ));
                }
                err => return Trouble(format!("cannot run {}: {err}", path.display())),
            }
        }
        problem.unwrap_or_else(|| match self.name.contains('/') {
            true => Trouble(format!("cannot run {}: there is no such file", self.name)),
            false => Trouble(format!("cannot run {}: not found in PATH ({})", self.name, self.path)),
        })
    }
}
