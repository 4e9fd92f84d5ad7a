//! A machine in QEMU with its serial console: start it, wait for text, log in, run commands.
//!
//! It needs no KVM. Every wait has an end, and dropping a machine kills it.

#![allow(dead_code, reason = "every test file uses another part")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a machine may take to its login prompt; a busy computer without KVM needs a minute or two.
const BOOT: Duration = Duration::from_secs(1200);
/// How long everything else may take.
const ANSWER: Duration = Duration::from_secs(300);

/// UEFI firmware and its empty settings (Debian package ovmf).
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// One machine at a time: two would take more than twice as long.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What starts the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

/// What the image is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    Cd,
    UsbStick,
    /// A disk, in a format of QEMU's; what is written to it is lost.
    Disk(&'static str),
    /// A stick that the machine can change.
    WritableStick,
}

/// A machine that is not quite like the others.
pub struct Setup<'a> {
    pub firmware: Firmware,
    /// The image, and what it is put into.
    pub image: Option<(Drive, &'a Path)>,
    /// Disks, none of which it can change for good.
    pub disks: &'a [&'a Path],
    pub memory_mb: u32,
    /// More arguments of QEMU.
    pub more: &'a [String],
}

/// Waits until no other machine runs.
pub fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running machine.
pub struct Machine {
    qemu: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// All that was seen so far.
    log: String,
    /// How much of `log` has been answered.
    read: usize,
    n_commands: usize,
    _dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Starts a machine that has `image` in `drive`, and perhaps disks, which it cannot change for good.
    pub fn start(firmware: Firmware, drive: Drive, image: &Path, disks: &[&Path]) -> Machine {
        Machine::set_up(&Setup { firmware, image: Some((drive, image)), disks, memory_mb: 1024, more: &[] })
    }

    /// Starts a machine.
    pub fn set_up(setup: &Setup) -> Machine {
        let turn = turn();
        let dir = tempfile::tempdir().unwrap();

        // setpriv sees to it that QEMU does not outlive a killed test.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.arg("-m").arg(setup.memory_mb.to_string());
        command.args(["-smp", "2", "-cpu", "max", "-no-reboot"]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
        // Translated code is thrown away early: QEMU walks all code that ever was in a page whenever the page
        // is written, which makes the step from the initramfs to systemd a minute longer with the default.
        command.args(["-accel", "tcg,thread=multi,tb-size=64"]);
        if setup.firmware == Firmware::Uefi {
            let vars = dir.path().join("vars.fd");
            fs::copy(OVMF_VARS, &vars).unwrap_or_else(|err| panic!("{OVMF_VARS}: {err}; see .ci/setup"));
            command.args(["-machine", "q35"]);
            command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}"));
            command.arg("-drive").arg(format!("if=pflash,format=raw,file={}", vars.display()));
        }
        for disk in setup.disks {
            command.arg("-drive").arg(format!("if=virtio,format=raw,snapshot=on,file={}", name(disk)));
        }
        if let Some((drive, image)) = setup.image {
            let (format, access) = match drive {
                Drive::Cd | Drive::UsbStick => ("raw", "readonly=on"),
                Drive::WritableStick => ("raw", "readonly=off"),
                Drive::Disk(format) => (format, "snapshot=on"),
            };
            let image = format!("if=none,id=image,format={format},{access},file={}", name(image));
            command.arg("-drive").arg(image);
            match drive {
                Drive::Cd => command.args(["-device", "ide-cd,drive=image,bootindex=1"]),
                Drive::UsbStick | Drive::WritableStick => {
                    command.args(["-device", "qemu-xhci", "-device", "usb-storage,drive=image,bootindex=1"])
                }
                Drive::Disk(_) => command.args(["-device", "virtio-blk-pci,drive=image,bootindex=1"]),
            };
        }
        if !setup.more.iter().any(|it| it == "-nic") {
            command.args(["-nic", "none"]);
        }
        command.args(setup.more);
        Machine::spawn(command, dir, turn)
    }

    fn spawn(mut command: Command, dir: TempDir, turn: MutexGuard<'static, ()>) -> Machine {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut qemu = command.spawn().unwrap_or_else(|err| panic!("{command:?}: {err}"));
        let keyboard = qemu.stdin.take().unwrap();
        let (sender, screen) = channel();
        forward(qemu.stdout.take().unwrap(), sender.clone());
        forward(qemu.stderr.take().unwrap(), sender);
        Machine { qemu, keyboard, screen, log: String::new(), read: 0, n_commands: 0, _dir: dir, _turn: turn }
    }

    /// Waits for the login prompt, and logs in as root, who has no password.
    pub fn log_in(&mut self) {
        self.wait_for("login: ", BOOT);
        self.type_line("root");
        self.wait_for("# ", ANSWER);
        // A plain shell that shows nothing but what commands print, and no messages of the kernel in between.
        self.type_line("dmesg -n 1; stty -echo; exec env PS1= /bin/sh");
        self.run("true");
    }

    /// Runs a shell command that must succeed; what it prints, without surrounding blanks.
    pub fn run(&mut self, command: &str) -> String {
        // The end mark is put together by the shell, so that the command line itself does not contain it.
        self.n_commands += 1;
        let n = self.n_commands;
        self.type_line(&format!("{command}\nprintf '\\nend of %s: %s.\\n' {n} $?"));
        let output = self.wait_for(&format!("end of {n}: "), ANSWER);
        let status = self.wait_for(".", ANSWER);
        assert_eq!(status, "0", "`{command}` failed:\n{output}");
        output.trim().to_string()
    }

    /// Waits for `text`; what came before it.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> String {
        let end = Instant::now() + timeout;
        loop {
            if let Some(at) = self.log[self.read..].find(text) {
                let before = self.log[self.read..self.read + at].to_string();
                self.read += at + text.len();
                return before;
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.log.push_str(&String::from_utf8_lossy(&bytes).replace('\r', "")),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {text:?} after {} s; the console says:\n{}", timeout.as_secs(), self.log)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("QEMU ended before {text:?}:\n{}", self.log),
            }
        }
    }

    /// Turns the machine off, and waits until it is.
    pub fn power_off(mut self) {
        self.type_line("systemctl poweroff");
        let end = Instant::now() + ANSWER;
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the machine does not turn itself off:\n{}", self.log);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").and_then(|()| self.keyboard.flush()).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Either it has ended by itself, or this ends it: nothing is left to do if both fail.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A file as a value in an option of QEMU.
fn name(file: &Path) -> String {
    file.to_str().unwrap().replace(',', ",,")
}

/// Sends all that `source` gives to the channel, from a thread of its own.
fn forward(mut source: impl Read + Send + 'static, sender: Sender<Vec<u8>>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = source.read(&mut buffer) {
            if sender.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
}
