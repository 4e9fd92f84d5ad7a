//! Signals to raptor: they end a command in good order, or are for the program that it runs.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::low_level;

/// Status of an interrupted command, as shells report SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Ask for an orderly end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// Mean something to programs, and nothing special to raptor.
const OTHERS: [i32; 6] = [SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT];

/// What becomes of signals. There is one for the whole process.
pub struct Signals {
    shared: Arc<Shared>,
    received: UnixStream,
}

struct Shared {
    cancel: Arc<AtomicBool>,
    /// Signals are for a program.
    passing: AtomicBool,
    /// Handlers for all signals are there.
    complete: AtomicBool,
    /// One that asks to end was passed on.
    ended: AtomicBool,
    send: UnixStream,
}

/// As long as this lives, signals are not for raptor.
pub struct Passing<'a>(&'a Signals);

impl Signals {
    /// The first signal that asks for an end sets `cancel`, the second does not wait for it.
    pub fn watch(cancel: Arc<AtomicBool>) -> std::io::Result<Signals> {
        let (received, send) = UnixStream::pair()?;
        received.set_nonblocking(true)?;
        send.set_nonblocking(true)?;
        let no = AtomicBool::default;
        let shared = Arc::new(Shared { cancel, passing: no(), complete: no(), ended: no(), send });
        let ignored = ignored();
        // `nohup` and shells that start us in the background mean it.
        for signal in ENDING.into_iter().filter(|it| ignored & (1 << (it - 1)) == 0) {
            let shared = shared.clone();
            // SAFETY: the action uses atomics, write(2) and _exit(2) alone.
            unsafe { low_level::register(signal, move || shared.end(signal)) }?;
        }
        Ok(Signals { shared, received })
    }

    /// From now on signals are for a program.
    pub fn pass(&self) -> std::io::Result<Passing<'_>> {
        let ignored = match self.shared.complete.swap(true, Ordering::Relaxed) {
            true => u64::MAX,
            false => ignored(),
        };
        for signal in OTHERS.into_iter().filter(|it| ignored & (1 << (it - 1)) == 0) {
            let shared = self.shared.clone();
            // SAFETY: the action uses atomics, write(2) and what is meant for signal handlers.
            unsafe { low_level::register(signal, move || shared.other(signal)) }?;
        }
        self.shared.ended.store(false, Ordering::Relaxed);
        self.shared.passing.store(true, Ordering::Relaxed);
        Ok(Passing(self))
    }
}

impl Shared {
    fn end(&self, signal: i32) {
        if self.passing.load(Ordering::Relaxed) {
            self.ended.store(true, Ordering::Relaxed);
            self.send(signal);
        } else if self.cancel.swap(true, Ordering::Relaxed) {
            low_level::exit(i32::from(INTERRUPTED));
        }
    }

    fn other(&self, signal: i32) {
        match self.passing.load(Ordering::Relaxed) {
            true => self.send(signal),
            false => drop(low_level::emulate_default_handler(signal)),
        }
    }

    /// Leaves `errno` alone, as a signal handler must: rustix does not use it.
    fn send(&self, signal: i32) {
        // Who sends hundreds at once cannot expect all to arrive.
        let _ = rustix::io::write(&self.send, &[signal as u8]);
    }
}

impl Passing<'_> {
    /// Signals come out here, a byte each.
    pub fn received(&self) -> BorrowedFd<'_> {
        self.0.received.as_fd()
    }

    /// Whether a signal that asks to end was passed on.
    pub fn asked_to_end(&self) -> bool {
        self.0.shared.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.shared.passing.store(false, Ordering::Relaxed);
        // What came too late for the program is for us.
        let mut late = [0; 64];
        let n = (&self.0.received).read(&mut late).unwrap_or(0);
        if late.iter().take(n).any(|it| ENDING.contains(&i32::from(*it))) {
            self.0.shared.cancel.store(true, Ordering::Relaxed);
        }
    }
}

/// Signals that this process ignores, as a mask; see proc(5), `SigIgn`.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0)
}
