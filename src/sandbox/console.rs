//! The engine's side of an interactive program: signals go in, and its terminal is relayed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::process::Signal;

use super::error::Error;
use super::launch::TICK;
use super::terminal::{Modes, Terminal};
use super::wire::{Channel, Deliver};

/// What the caller of an interactive program wants of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Where the numbers of signals for the program come from, a byte each. Must not block.
    pub signals: Option<BorrowedFd<'a>>,
    /// Standard streams of the program, instead of those of this process.
    pub streams: Option<[BorrowedFd<'a>; 3]>,
    /// Stays open until all processes of the sandbox are gone, such as the lock of their work dir.
    pub held: Option<BorrowedFd<'a>>,
}

/// An interactive program, from before its sandbox exists until after its end.
pub(super) struct Console<'a> {
    signals: Option<BorrowedFd<'a>>,
    control: Channel,
    modes: Modes,
    terminal: Option<Terminal>,
    started: bool,
    /// Signals that are not passed on yet.
    waiting: Vec<Signal>,
}

impl<'a> Console<'a> {
    /// The console, and the end of the control channel that is init's.
    pub fn new(caller: &Caller<'a>) -> rustix::io::Result<(Console<'a>, Channel)> {
        let (control, theirs) = Channel::pair()?;
        open_pipes();
        let modes = Modes::remember();
        let (signals, waiting) = (caller.signals, Vec::new());
        Ok((Console { signals, control, modes, terminal: None, started: false, waiting }, theirs))
    }

    /// The program's step has begun: signals are for it.
    pub fn start(&mut self) {
        self.started = true;
        self.pass_signals();
    }

    /// Relays this terminal, given by both of its ends.
    pub fn relay_terminal(&mut self, controller: File, terminal: OwnedFd) -> std::io::Result<()> {
        self.terminal = Some(Terminal::new(controller, terminal)?);
        self.modes.set_raw();
        Ok(())
    }

    /// What to wait for.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds: Vec<_> = self.terminal.iter().flat_map(Terminal::poll_fds).collect();
        fds.extend(self.signals.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        fds
    }

    /// Passes on what there is. `is_told` looks whether the sandbox has said something that is not heard yet: until
    /// then nobody knows whether the program has begun.
    pub fn relay(&mut self, is_told: impl FnOnce() -> bool) -> Result<(), Error> {
        let received = self.received();
        self.waiting.extend(received);
        if self.started {
            self.pass_signals();
        } else if self.waiting.iter().any(|it| ends(*it)) && !is_told() {
            return Err(Error::Cancelled);
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.relay();
        }
        Ok(())
    }

    /// Shows what the program, now gone, has printed last; unless somebody is tired of waiting for the terminal.
    pub fn finish(mut self) {
        let Some(mut terminal) = self.terminal.take() else { return };
        while !terminal.relay() {
            let mut fds = terminal.poll_fds();
            fds.extend(self.signals.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
            let polled = poll(&mut fds, Some(&TICK));
            if polled.is_err_and(|err| err != rustix::io::Errno::INTR)
                || self.received().into_iter().any(ends)
            {
                return;
            }
        }
    }

    fn received(&self) -> Vec<Signal> {
        let mut buffer = [0; 64];
        let n = self.signals.map_or(0, |fd| rustix::io::read(fd, &mut buffer).unwrap_or(0));
        buffer.iter().take(n).filter_map(|it| Signal::from_named_raw(i32::from(*it))).collect()
    }

    fn pass_signals(&mut self) {
        for signal in std::mem::take(&mut self.waiting) {
            self.pass_on(signal);
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        match signal {
            // The keyboard means everybody in the foreground, which a program and its children are.
            Signal::INT | Signal::QUIT => self.deliver(signal, true),
            // A new size makes this signal inside.
            Signal::WINCH if self.terminal.as_mut().is_some_and(Terminal::resize) => {}
            Signal::TSTP => self.suspend(),
            // The shell that woke us may have changed the terminal.
            Signal::CONT => {
                self.take_terminal();
                self.deliver(signal, true);
            }
            _ => self.deliver(signal, false),
        }
    }

    /// Stops the program and ourselves until somebody wakes us.
    fn suspend(&mut self) {
        // Not TSTP, which means nothing to a program whose session has no shell.
        self.deliver(Signal::STOP, true);
        self.modes.restore();
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        self.take_terminal();
        self.deliver(Signal::CONT, true);
    }

    fn take_terminal(&self) {
        if self.terminal.is_some() {
            self.modes.set_raw();
        }
    }

    fn deliver(&self, signal: Signal, group: bool) {
        // A program that is gone needs no signals.
        let _ = self.control.send(&Deliver { signal: signal.as_raw(), group }, &[]);
    }
}

/// Whether a signal asks to end.
fn ends(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal)
}

/// Lets programs open the pipes among our standard streams by name (`/dev/stdout`), whatever user they run as: these
/// are root's, and root inside is somebody else. Nobody can reach a pipe who may not look into our processes anyway.
fn open_pipes() {
    /// `f_type` of statfs(2) for a pipe without a name.
    const PIPE: i64 = 0x5049_5045;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if rustix::fs::fstatfs(stream).is_ok_and(|it| it.f_type == PIPE) {
            // Another user's pipe stays as it is; programs can still use it as descriptor 0, 1 or 2.
            let _ = rustix::fs::fchmod(stream, Mode::from_raw_mode(0o666));
        }
    }
}
