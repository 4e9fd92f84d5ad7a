//! A real terminal outside, a shell inside.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::common::Project;
use crate::{BOTH, marker, nothing_left, processes, project, wait_until};

/// A terminal with a command in it, and somebody who reads everything on its screen.
struct Desk {
    /// None after the terminal was taken away.
    controller: Option<Arc<File>>,
    terminal: OwnedFd,
    child: Child,
    screen: Arc<Mutex<String>>,
}

impl Desk {
    /// Sits down at a terminal of 33 lines and starts a command there.
    fn new(mut command: Command) -> Desk {
        let (controller, terminal) = open_terminal();
        command.stdin(terminal.try_clone().unwrap());
        Desk::at(controller, terminal, command)
    }

    /// The same for a command whose standard input is something else.
    fn with_other_input(command: Command) -> Desk {
        let (controller, terminal) = open_terminal();
        Desk::at(controller, terminal, command)
    }

    fn at(controller: File, terminal: OwnedFd, mut command: Command) -> Desk {
        let fd = terminal.as_raw_fd();
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(move || match (libc::setsid(), libc::ioctl(fd, libc::TIOCSCTTY, 0)) {
                (-1, _) | (_, -1) => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = command.stdout(terminal.try_clone().unwrap()).spawn().unwrap();
        let (controller, screen) = (Arc::new(controller), Arc::new(Mutex::new(String::new())));
        let (reader, shown) = (Arc::downgrade(&controller), screen.clone());
        std::thread::spawn(move || {
            let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let mut buffer = [0; 4096];
            while let Some(controller) = reader.upgrade() {
                if poll(&mut [PollFd::new(&*controller, PollFlags::IN)], Some(&tick)) == Ok(0) {
                    continue;
                }
                let Ok(n @ 1..) = (&*controller).read(&mut buffer) else { return };
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Desk { controller: Some(controller), terminal, child, screen }
    }

    /// Starts a script, or a shell, in the container `base`.
    fn run(project: &Project, script: &str) -> Desk {
        // Standard error of a shell is where its prompt is.
        let shell = ["sh", "-c", "exec \"$@\" 2>&1", "-"];
        let mut command = project.command_behind(&shell, &["run", "-q", "base", script]);
        command.env("TERM", "vt100").stderr(Stdio::null());
        Desk::new(command)
    }

    fn keys(&self, keys: &str) {
        self.controller.as_deref().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text to appear after everything that was waited for before.
    fn sees(&self, text: &str) {
        wait_until(&format!("`{text}`"), || {
            let mut screen = self.screen.lock().unwrap();
            match screen.find(text) {
                Some(at) => {
                    screen.drain(..at + text.len());
                    true
                }
                None => false,
            }
        });
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The exit status, after which the terminal must be as it was.
    fn status(&mut self) -> Option<i32> {
        let status = self.child.wait().unwrap();
        let modes = tcgetattr(&self.terminal).unwrap();
        assert!(modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        assert!(modes.output_modes.contains(rustix::termios::OutputModes::OPOST));
        status.code()
    }
}

/// Both ends of a new terminal of 33 lines, the controlling one first.
fn open_terminal() -> (File, OwnedFd) {
    let (mut controller, mut terminal) = (0, 0);
    let (modes, size_of, name) = (std::ptr::null(), std::ptr::null(), std::ptr::null_mut());
    // SAFETY: both numbers are valid pointers, and null pointers stand for what is not wanted.
    assert_eq!(unsafe { libc::openpty(&mut controller, &mut terminal, name, modes, size_of) }, 0);
    for fd in [controller, terminal] {
        // SAFETY: fcntl(2) touches no memory here.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    }
    // SAFETY: the descriptors are new, so these are their only owners.
    let (controller, terminal) = unsafe { (File::from_raw_fd(controller), OwnedFd::from_raw_fd(terminal)) };
    tcsetwinsize(&terminal, size(33, 77)).unwrap();
    (controller, terminal)
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn a_shell_with_job_control() {
    for who in BOTH {
        let project = project(who);
        let mut desk = Desk::run(&project, "PS1='$ ' exec sh");
        desk.sees("$ ");
        assert!(desk.is_raw());
        desk.keys("tty; stty size; echo $TERM\n");
        desk.sees("/dev/pts/0");
        desk.sees("33 77");
        desk.sees("vt100");
        desk.keys("trap 'echo si''ze $(stty size)' WINCH\n");
        desk.sees("$ ");
        tcsetwinsize(&desk.terminal, size(40, 100)).unwrap();
        // A shell handles it at its prompt.
        wait_until("the new size", || {
            desk.keys("stty size\n");
            desk.screen.lock().unwrap().contains("40 100")
        });
        desk.sees("40 100");
        let (asleep, behind, file) = (marker(4900), marker(4901), format!("/{}", marker(4902)));
        for (key, after) in [("\x03", "ended 130"), ("\x1c", "ended 131")] {
            desk.keys(&format!("sleep {asleep}; echo en''ded $?\n"));
            wait_until("sleep", || !processes(&asleep).is_empty());
            desk.keys(key);
            // After ^C a shell forgets the rest of the line.
            if key == "\x03" {
                wait_until("its end", || processes(&asleep).is_empty());
                desk.keys("echo en''ded $?\n");
            }
            desk.sees(after);
        }
        desk.keys(&format!("cat - {file}\n"));
        wait_until("cat", || !processes(&file).is_empty());
        desk.keys("one\n");
        desk.sees("one\r\none");
        desk.keys("\x1a");
        desk.sees("Stopped");
        desk.keys("echo ba''ck; fg\n");
        desk.sees("back");
        desk.sees("cat");
        desk.keys("two\n");
        desk.sees("two\r\ntwo");
        desk.keys("\x04");
        desk.keys(&format!("sleep {behind} &\n"));
        desk.keys("jobs\n");
        desk.sees("Running");
        desk.keys("exit 5\n");
        assert_eq!(desk.status(), Some(5));
        assert!(processes(&behind).is_empty());
        nothing_left(&project);
    }
}

#[test]
fn the_terminal_comes_back_however_it_ends() {
    for who in BOTH {
        let project = project(who);
        let asleep = marker(5000);
        let sleep = format!("exec sleep {asleep}");
        let script = |end: &str| format!("stty raw -echo; echo re''ady; {end}");
        let mut desk = Desk::run(&project, &script("kill -9 $$"));
        desk.sees("ready");
        assert_eq!(desk.status(), Some(137));
        for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130), (libc::SIGHUP, 129)] {
            let mut desk = Desk::run(&project, &script(&sleep));
            desk.sees("ready");
            assert!(desk.is_raw());
            // SAFETY: kill(2) touches no memory.
            assert_eq!(unsafe { libc::kill(desk.child.id() as i32, signal) }, 0);
            assert_eq!(desk.status(), Some(status));
        }
        // A sandbox that dies under it is raptor's own failure.
        let mut desk = Desk::run(&project, &script(&sleep));
        desk.sees("ready");
        let children = format!("/proc/{0}/task/{0}/children", desk.child.id());
        let supervisor: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
        // SAFETY: kill(2) touches no memory.
        assert_eq!(unsafe { libc::kill(supervisor, libc::SIGKILL) }, 0);
        assert_eq!(desk.status(), Some(1));
        wait_until("the end of all", || processes(&asleep).is_empty());
        project.ok(&["run", "-q", "base", "true"]);
        nothing_left(&project);
    }
}

#[test]
fn who_loses_the_terminal_is_told() {
    for who in BOTH {
        let project = project(who);
        let asleep = marker(5100);
        let mut desk = Desk::run(&project, &format!("echo re''ady; cat; exec sleep {asleep}"));
        desk.sees("ready");
        desk.controller = None;
        assert_eq!(desk.child.wait().unwrap().code(), Some(129));
        assert!(processes(&asleep).is_empty());
        nothing_left(&project);
    }
}

#[test]
fn much_output_is_shown_to_the_end() {
    for who in BOTH {
        let project = project(who);
        let mut desk = Desk::run(&project, "seq 1 30000; echo the''end");
        assert_eq!(desk.status(), Some(0));
        desk.sees("\r\n1000\r\n");
        desk.sees("\r\n29999\r\n30000\r\ntheend");
    }
}

#[test]
fn pipes_and_terminals_mixed() {
    for who in BOTH {
        let project = project(who);
        project.ok(&["build", "base"]);
        // In from a pipe, out to the terminal, which a program may spoil.
        let mut command =
            project.command(&["run", "-q", "base", "stty raw -echo <&1; cat; test -t 1 && echo tty"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut desk = Desk::with_other_input(command);
        desk.child.stdin.take().unwrap().write_all(b"piped\n").unwrap();
        desk.sees("piped");
        desk.sees("tty");
        assert_eq!(desk.status(), Some(0));
        // Errors to a file, the rest to the terminal.
        let mut command = project.command(&["run", "-q", "base", "test -t 0 && echo screen; echo log >&2"]);
        command.stderr(File::create(project.path("log")).unwrap());
        let mut desk = Desk::new(command);
        desk.sees("screen");
        assert_eq!(desk.status(), Some(0));
        assert_eq!(project.read("log"), "log\n");
        // ^C at a terminal that is the program's too reaches all of it.
        let asleep = marker(5200);
        let script = format!("echo ready; sleep {asleep}; echo not reached");
        let mut command = project.command(&["run", "-q", "base", &script]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut desk = Desk::with_other_input(command);
        desk.sees("ready");
        wait_until("sleep", || !processes(&asleep).is_empty());
        desk.keys("\x03");
        assert_eq!(desk.status(), Some(130));
        assert!(processes(&asleep).is_empty());
        nothing_left(&project);
    }
}
