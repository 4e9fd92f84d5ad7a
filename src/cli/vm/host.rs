//! Machines in the host's own QEMU.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use super::machine::{Firmware, Machine, Places};
use crate::cli::errors::CliError;
use crate::sandbox::TerminalModes;

/// How often a machine is looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Where distributions have the firmware of UEFI and its empty settings.
const UEFI: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

/// How a machine is run.
pub struct Host<'a> {
    /// Standard input and output of QEMU, instead of raptor's.
    pub streams: Option<[BorrowedFd<'a>; 2]>,
    /// Signals for QEMU come out here, a byte each.
    pub signals: BorrowedFd<'a>,
    /// Ends the machine.
    pub cancel: &'a AtomicBool,
    /// The longest that it may run.
    pub longest: Option<Duration>,
    /// Where QEMU keeps what is thrown away.
    pub scratch: &'a Path,
}

/// How a machine ended.
pub enum End {
    /// With the status of QEMU, or 128 and its signal.
    Status(i32),
    Cancelled,
    TookTooLong,
}

/// Where the host has what a machine needs.
pub fn places(qemu: &Path, machine: &Machine) -> Result<Places, CliError> {
    let found = UEFI.iter().find(|(code, settings)| Path::new(code).exists() && Path::new(settings).exists());
    let uefi = match (found, machine.firmware) {
        (Some((code, settings)), _) => ((*code).to_owned(), (*settings).to_owned()),
        (None, Firmware::Bios) => Default::default(),
        (None, Firmware::Uefi) => {
            return Err(CliError::Named {
                message: "there is no UEFI firmware for QEMU on this host".to_owned(),
                hint: Some(
                    "install it (Debian package ovmf), or do without --qemu and RAPTOR_QEMU".to_owned(),
                ),
            });
        }
    };
    let text = |path: &PathBuf| match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => Err(CliError::Other(format!("{}: QEMU takes only names in UTF-8", path.display()))),
    };
    let drives = machine.drives.iter().map(|it| text(&it.path)).collect::<Result<_, _>>()?;
    Ok(Places { qemu: text(&qemu.to_path_buf())?, uefi, drives })
}

/// Runs QEMU to its end.
pub fn run(argv: &[String], host: &Host<'_>) -> Result<End, CliError> {
    let (program, args) = argv.split_first().ok_or_else(|| CliError::Other("no QEMU".to_owned()))?;
    let _modes = TerminalModes::remember();
    let mut command = Command::new(program);
    command.args(args).env("TMPDIR", host.scratch);
    if let Some([stdin, stdout]) = host.streams {
        command.stdin(stdin.try_clone_to_owned()?).stdout(stdout.try_clone_to_owned()?);
    }
    die_with_us(&mut command);
    let mut child = Running(command.spawn().map_err(|err| not_started(program, &err))?);
    // It holds copies of the streams.
    drop(command);
    let end = host.longest.map(|it| Instant::now() + it);
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(End::Status(number(status)));
        }
        if host.cancel.load(Ordering::Relaxed) {
            return Ok(End::Cancelled);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(End::TookTooLong);
        }
        let _ = poll(&mut [PollFd::from_borrowed_fd(host.signals, PollFlags::IN)], Some(&TICK));
        pass_signals(host.signals, &child.0);
    }
}

/// A process that does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Either it has ended by itself, or this ends it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn not_started(program: &str, err: &std::io::Error) -> CliError {
    CliError::Named {
        message: format!("cannot start {program}: {err}"),
        hint: Some("without --qemu and RAPTOR_QEMU, the standard library's is used".to_owned()),
    }
}

/// Has the kernel kill a process when this one dies, however that happens.
fn die_with_us(command: &mut Command) {
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Who died before this was too early for the signal.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: system calls alone may be made between fork and exec, and this makes nothing else.
    unsafe { command.pre_exec(bind) };
}

fn pass_signals(signals: BorrowedFd<'_>, child: &Child) {
    let mut buffer = [0; 64];
    let n = rustix::io::read(signals.as_fd(), &mut buffer).unwrap_or(0);
    for signal in buffer.iter().take(n).filter_map(|it| Signal::from_named_raw(i32::from(*it))) {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It is not waited for yet, so the number is still its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
