//! The ends of machines: by signals to raptor, by the death of raptor, by keys.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::bootsector::READY;
use super::common::{As, Project};
use super::{QEMU, nothing_left, project};

#[test]
fn in_the_hosts_qemu() {
    let project = project(As::User);
    by_signals(&project, &QEMU);
    by_keys(&project, &QEMU);
    nothing_left(&project);
}

/// A machine that says that it is ready. Its memory is what its processes are found by.
fn ready(project: &Project, options: &[&str], memory: &str) -> Child {
    let args = [&["vm", "disk.img", "--drive", "1M", "--memory", memory], options].concat();
    let mut child = project.command(&args).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|it| it.unwrap().contains(READY)), "the machine did not start");
    child
}

/// Signals that ask for an end, and the one that does not ask.
pub fn by_signals(project: &Project, options: &[&str]) {
    // No two tests have the same at a time.
    let place = if options.is_empty() { 20 } else { 0 };
    let memory = |n: i32| format!("{}M", 64 + n + place + (std::process::id() % 50) as i32 * 40);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGKILL] {
        let memory = memory(signal);
        let mut child = ready(project, options, &memory);
        assert!(!processes(&memory).is_empty());
        // SAFETY: kill(2) touches no memory.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), (signal != libc::SIGKILL).then_some(130));
        wait_until("the end of the machine", || processes(&memory).is_empty());
    }
    // Waiting for something is interrupted as builds are.
    let memory = memory(0);
    let mut child = ready(project, &[options, &["--wait-for", "never"]].concat(), &memory);
    // SAFETY: kill(2) touches no memory.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes(&memory), Vec::<String>::new());
}

/// Ctrl-C is the machine's, Ctrl-A X ends it.
pub fn by_keys(project: &Project, options: &[&str]) {
    let plain = project.command(&[&["vm", "disk.img"], options].concat());
    let words = std::iter::once(plain.get_program()).chain(plain.get_args());
    let words: Vec<String> = words.map(|it| format!("'{}'", it.to_str().unwrap())).collect();
    // A terminal for raptor's input and output, and the modes that it has before and after.
    let command = format!("stty -g; {}; echo status $?; stty -g", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--command", &command, "/dev/null"]).current_dir(project.path("")).env_clear();
    script.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());

    let mut seen = String::new();
    let mut see = |text: &str, seen: &mut String| {
        let mut byte = [0];
        while !seen.ends_with(text) {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "no {text:?} in:\n{seen}");
            seen.push(char::from(byte[0]));
        }
    };
    see(READY, &mut seen);
    // What comes back was not raptor's, for it goes on.
    keyboard.write_all(b"ab\x03c").unwrap();
    see("ab\x03c", &mut seen);
    keyboard.write_all(b"\x01x").unwrap();
    see("status 0\r\n", &mut seen);
    let before = seen.lines().next().unwrap().to_owned();
    see(&before, &mut seen);
    assert!(seen.contains("Ctrl-A X ends the machine"), "{seen}");
    drop(keyboard);
    script.wait().unwrap();
}

/// Numbers of processes with this word in their command line.
fn processes(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
    let has = |pid: &String| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|it| it == word.as_bytes())
    };
    all.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit())).filter(has).collect()
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
