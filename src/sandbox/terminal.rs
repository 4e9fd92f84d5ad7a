//! The terminal of an interactive program: relays between ours and the one inside.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Whether standard input and output are a terminal, so that a program needs one of its own.
pub(super) fn is_wanted() -> bool {
    isatty(std::io::stdin()) && isatty(std::io::stdout())
}

/// The modes of the caller's terminal, if one of the standard streams is one; they come back on drop, whatever
/// became of the program that changed them.
pub struct Modes(Option<(BorrowedFd<'static>, Termios)>);

impl Modes {
    /// The modes as they are now.
    pub fn remember() -> Modes {
        Modes([0, 1, 2].into_iter().map(stream).find_map(|fd| Some((fd, tcgetattr(fd).ok()?))))
    }

    /// Every key goes to the program inside, which has a terminal to make signals and lines of them.
    pub(super) fn set_raw(&self) {
        if let Some((fd, before)) = &self.0 {
            let mut raw = before.clone();
            raw.make_raw();
            // Without raw mode, typing is less comfortable and nothing else.
            let _ = tcsetattr(fd, OptionalActions::Now, &raw);
        }
    }

    pub(super) fn restore(&self) {
        let Some((fd, before)) = &self.0 else { return };
        // In the background the terminal is somebody else's now, and to touch it would stop us.
        if tcgetpgrp(fd).map_or(true, |group| group == rustix::process::getpgrp()) {
            let _ = tcsetattr(fd, OptionalActions::Now, before);
        }
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Our terminal, and both ends of the one inside.
pub(super) struct Terminal {
    /// None after our terminal is gone.
    inside: Option<Inside>,
    /// Standard output, if possible without blocking.
    screen: File,
    /// Typed but not yet taken by the program.
    typed: Vec<u8>,
    /// Printed but not yet shown.
    printed: Vec<u8>,
    size: Option<Winsize>,
}

struct Inside {
    controller: File,
    /// As long as one is open, the terminal does not end when programs close it and open it again.
    _terminal: OwnedFd,
}

impl Terminal {
    /// Begins to relay. `controller` must not block.
    pub fn new(controller: File, terminal: OwnedFd) -> std::io::Result<Terminal> {
        Ok(Terminal {
            inside: Some(Inside { controller, _terminal: terminal }),
            screen: screen()?,
            typed: Vec::new(),
            printed: Vec::new(),
            size: tcgetwinsize(std::io::stdout()).ok(),
        })
    }

    /// What to wait for.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        if let Some(Inside { controller, .. }) = &self.inside {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.printed.is_empty());
            flags.set(PollFlags::OUT, !self.typed.is_empty());
            fds.push(PollFd::new(controller, flags));
            if self.typed.is_empty() {
                fds.push(PollFd::from_borrowed_fd(stream(0), PollFlags::IN));
            }
        }
        if !self.printed.is_empty() {
            fds.push(PollFd::new(&self.screen, PollFlags::OUT));
        }
        fds
    }

    /// Gives the terminal inside the size of ours; true if that is another than before.
    pub fn resize(&mut self) -> bool {
        let Ok(size) = tcgetwinsize(std::io::stdout()) else { return false };
        if Some(size) == self.size {
            return false;
        }
        self.size = Some(size);
        // This tells the programs in its foreground.
        self.inside.as_ref().is_some_and(|it| tcsetwinsize(&it.controller, size).is_ok())
    }

    /// Passes on what both sides have, as far as they take it; false while there is more to show.
    pub fn relay(&mut self) -> bool {
        self.resize();
        self.relay_keys();
        loop {
            if !self.show() {
                return false;
            }
            let Some(Inside { controller, .. }) = &mut self.inside else { return true };
            let mut buffer = [0; 16 * 1024];
            match controller.read(&mut buffer) {
                Ok(n) if n > 0 => self.printed.extend(buffer.get(..n).unwrap_or_default()),
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return true,
            }
        }
    }

    fn relay_keys(&mut self) {
        if self.inside.is_some() && self.typed.is_empty() && is_ready(stream(0), PollFlags::IN) {
            let mut buffer = [0; 4096];
            match rustix::io::read(stream(0), &mut buffer) {
                Ok(n) if n > 0 => self.typed.extend(buffer.get(..n).unwrap_or_default()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Our terminal is gone. Without us the one inside is gone too, and its programs learn of it.
                _ => self.inside = None,
            }
        }
        if let (Some(Inside { controller, .. }), false) = (&mut self.inside, self.typed.is_empty())
            && let Ok(n) = controller.write(&self.typed)
        {
            self.typed.drain(..n);
        }
    }

    /// Whether all that was printed is shown.
    fn show(&mut self) -> bool {
        while !self.printed.is_empty() {
            match self.screen.write(&self.printed) {
                Ok(n) if n > 0 => drop(self.printed.drain(..n)),
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                // Nobody to show it to is no reason to stop the program.
                _ => self.printed.clear(),
            }
        }
        true
    }
}

/// Standard output opened anew, so that not to block is our own business; as it is where that is forbidden.
fn screen() -> std::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        Err(_) => Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&now)), Ok(n) if n > 0)
}

/// A standard stream.
fn stream(number: i32) -> BorrowedFd<'static> {
    // SAFETY: Rust opens the standard streams of every process, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(number) }
}
