//! The terminal of an interactive program: relays between ours and the one inside.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Our terminal, raw as long as this lives, and the controlling end of the one inside.
pub(super) struct Terminal {
    inside: File,
    before: Option<Termios>,
    /// Typed but not yet taken by the program.
    pending: Vec<u8>,
    stdin_open: bool,
    inside_open: bool,
    size: Option<(u16, u16)>,
}

impl Terminal {
    /// Rows and columns, if standard input and output are a terminal.
    pub fn size() -> Option<(u16, u16)> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        if !isatty(&stdin) || !isatty(&stdout) {
            return None;
        }
        let size = tcgetwinsize(&stdout).ok()?;
        Some((size.ws_row, size.ws_col))
    }

    /// Takes over our terminal. `inside` must not block.
    pub fn new(inside: File) -> Terminal {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // Without raw mode, typing is less comfortable and nothing else.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        }
        let size = Terminal::size();
        Terminal { inside, before, pending: Vec::new(), stdin_open: true, inside_open: true, size }
    }

    /// What to wait for.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        if self.inside_open {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !self.pending.is_empty());
            fds.push(PollFd::new(&self.inside, flags));
        }
        if self.stdin_open && self.pending.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        fds
    }

    /// Passes on what both sides have, without waiting.
    pub fn relay(&mut self) {
        let size = Terminal::size();
        if let (true, Some((rows, columns))) = (size != self.size, size) {
            self.size = size;
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(&self.inside, size);
        }
        let mut buffer = [0; 4096];
        while self.inside_open {
            match self.inside.read(&mut buffer) {
                Ok(n) if n > 0 => {
                    let mut stdout = std::io::stdout();
                    // Nobody to show it to is no reason to stop the program.
                    let _ = stdout.write_all(buffer.get(..n).unwrap_or_default());
                    let _ = stdout.flush();
                }
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => break,
                // Linux says EIO when the last program has closed its end.
                _ => self.inside_open = false,
            }
        }
        if self.stdin_open && self.pending.is_empty() && readable() {
            match rustix::io::read(stdin(), &mut buffer) {
                Ok(n) if n > 0 => self.pending.extend(buffer.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                _ => self.stdin_open = false,
            }
        }
        if self.inside_open
            && !self.pending.is_empty()
            && let Ok(n) = self.inside.write(&self.pending)
        {
            self.pending.drain(..n);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}

fn readable() -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}

fn stdin() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 stays open for the whole life of the process.
    unsafe { BorrowedFd::borrow_raw(0) }
}
