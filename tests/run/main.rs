//! `raptor run` as programs inside and people outside meet it, as root and as an ordinary user.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod jobs;
mod mounts;
mod network;
mod signals;
mod state;
mod streams;
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use common::{As, Project};

const BOTH: [As; 2] = [As::Root, As::User];

/// Targets with busybox; its own store is empty.
fn project(who: As) -> Project {
    Project::busybox(
        who,
        &[
            ("env.rapt", "FROM base\nMKDIR /work\nENV BUILD=1\nWORKDIR /work\nRUN pwd\nCMD \"pwd; env\"\n"),
            ("entry.rapt", "FROM base\nENTRYPOINT /bin/echo entry\nCMD one \"two three\"\n"),
            (
                "bad.rapt",
                "FROM base\nRUN false\nMOUNT --simple input /in\nMOUNT --file output /out\nCMD true\n",
            ),
        ],
    )
}

/// A running `raptor run` whose standard output is read by line.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a shell script in the container `base`, and waits for its first line, `ready`.
    fn script(project: &Project, options: &[&str], script: &str) -> Running {
        Running::start(project, &[&["run", "-q"], options, &["base", script]].concat())
    }

    /// Starts raptor, and waits for a program inside to print `ready`.
    fn start(project: &Project, args: &[&str]) -> Running {
        let mut child = project.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut running = Running { child, lines };
        assert_eq!(running.line(), "ready");
        running
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the program ended too early").unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) touches no memory.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// Waits for something that comes sooner or later on a machine that works.
fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} never came");
}

/// An argument of `sleep` that no other process has.
fn marker(number: u32) -> String {
    format!("{number}.{}", std::process::id())
}

/// Numbers of processes with this word in their command line.
fn processes(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
    let pids = all.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let has = |pid: &String| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|it| it == word.as_bytes())
    };
    pids.filter(has).collect()
}

/// Nothing of a finished run is left: no directory in the store's work area, and no mount.
fn nothing_left(project: &Project) {
    let left: Vec<_> =
        fs::read_dir(project.store().join("tmp")).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(left.is_empty(), "left: {left:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = project.path("").display().to_string();
    assert!(!mounts.contains(place.trim_end_matches('/')), "{mounts}");
}
