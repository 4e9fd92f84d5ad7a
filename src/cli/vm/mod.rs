//! `raptor vm`: a machine that starts from an image. `spec/cli.md` has the rules.

mod args;
mod container;
mod host;
mod image;
mod machine;
mod text;
mod watch;

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use args::Display;
pub use args::Vm;
use container::Tools;
use host::{End, Host};
use image::{DriveSource, Image};
use machine::{Drive, Firmware, Machine, Places, Slot};
use watch::{Script, Watched};

use super::args::{Make, Timings};
use super::errors::CliError;
use super::make;
use super::project::{MANIFEST, Project};
use super::run::KVM;
use super::session::Session;
use super::signals::INTERRUPTED;
use crate::sandbox::Caller;
use crate::store::WorkDir;

/// Memory of a machine when nothing is said of it.
const MEMORY: u64 = 1 << 30;

pub fn main(session: &Session, args: &Vm) -> Result<ExitCode, CliError> {
    let script = Script::new(args)?;
    let qemu = host_qemu(args);
    if args.display != Display::None && qemu.is_none() {
        return Err(CliError::Usage("--display needs the host's QEMU: --qemu PROGRAM".to_owned()));
    }
    let Some(found) = find(session, args)? else { return Ok(ExitCode::SUCCESS) };
    let image = image::look(&found.path)?;
    if session.global.no_act {
        let machine = machine(session, args, (&found, &image), &session.store_dirs()?.0.join("tmp"))?;
        let argv = match &qemu {
            Some(qemu) => machine.argv(&host::places(qemu, &machine)?),
            None => machine.argv(&container::places(&machine)),
        };
        session.ui.info(&format!("would run {}", argv.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    let files = Files(session.store()?.work_dir()?);
    let machine = machine(session, args, (&found, &image), files.scratch())?;
    make_scratch(args, &machine)?;
    let place = match &qemu {
        Some(qemu) => Place::Host(host::places(qemu, &machine)?),
        None => Place::Container(container::build(session)?),
    };
    let running = Running { session, machine, files, place };
    match script {
        Some(script) => running.watch(&script),
        None => running.attend(),
    }
}

/// Files of one run: they are gone after it, or before the next command if it is killed.
pub struct Files(WorkDir);

impl Files {
    /// Where they are.
    fn scratch(&self) -> &Path {
        self.0.path()
    }
}

/// Whose QEMU it is.
enum Place {
    Host(Places),
    Container(Tools),
}

/// A machine that is ready to start.
struct Running<'a> {
    session: &'a Session,
    machine: Machine,
    files: Files,
    place: Place,
}

impl Running<'_> {
    /// With raptor's own keyboard and screen.
    fn attend(&self) -> Result<ExitCode, CliError> {
        if self.machine.terminal {
            self.session.ui.info("Ctrl-A X ends the machine, Ctrl-A H tells of more keys");
        }
        let passing = self.session.signals.pass()?;
        let end = self.run(None, passing.received())?;
        let asked = passing.asked_to_end();
        drop(passing);
        match end {
            End::Status(_) if asked => Ok(ExitCode::from(INTERRUPTED)),
            End::Status(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(1))),
            End::Cancelled => Err(self.interrupted()),
            End::TookTooLong => Err(self.took_too_long("the machine was ended")),
        }
    }

    /// Without anybody at the keyboard.
    fn watch(&self, script: &Script) -> Result<ExitCode, CliError> {
        let stop = match self.machine.drives.iter().any(|it| it.kept) {
            // So that all that was written is in the files.
            true => libc::SIGTERM,
            false => libc::SIGKILL,
        };
        let watched = script.watch(stop, |it| self.run(Some([it.keyboard, it.screen]), it.signals))?;
        let Watched { ended, missing, done, last } = watched;
        let end = ended?;
        if done {
            return Ok(ExitCode::SUCCESS);
        }
        let wanted = missing.map(|it| format!("nothing on the console matched `{it}`"));
        let problem = match (end, wanted) {
            (End::Cancelled, _) => return Err(self.interrupted()),
            (End::Status(status), None) => return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1))),
            (End::Status(_), Some(wanted)) => CliError::Other(format!("the machine ended, and {wanted}")),
            (End::TookTooLong, wanted) => {
                self.took_too_long(&wanted.unwrap_or("the machine did not end".into()))
            }
        };
        last.iter().for_each(|line| self.session.ui.raw(&format!("    | {line}")));
        Err(problem)
    }

    fn run(&self, streams: Option<[BorrowedFd<'_>; 2]>, signals: BorrowedFd<'_>) -> Result<End, CliError> {
        match &self.place {
            Place::Host(places) => {
                let host = Host {
                    streams,
                    signals,
                    cancel: &self.session.cancel,
                    longest: self.session.global.timeout,
                    scratch: self.files.scratch(),
                };
                host::run(&self.machine.argv(places), &host)
            }
            Place::Container(tools) => {
                let stderr = std::io::stderr();
                let streams = streams.map(|[stdin, stdout]| [stdin, stdout, stderr.as_fd()]);
                let caller = Caller { signals: Some(signals), streams, held: None };
                container::run(self.session, tools, &self.machine, &self.files, &caller)
            }
        }
    }

    fn interrupted(&self) -> CliError {
        self.session.cancel.store(true, Ordering::Relaxed);
        CliError::interrupted()
    }

    fn took_too_long(&self, what: &str) -> CliError {
        let time = self.session.global.timeout.unwrap_or_default().as_secs();
        CliError::Named {
            message: format!("{what}: it took longer than {time} s"),
            hint: Some("allow more with --timeout TIME".to_owned()),
        }
    }
}

fn host_qemu(args: &Vm) -> Option<PathBuf> {
    let named = std::env::var_os("RAPTOR_QEMU").filter(|it| !it.is_empty()).map(PathBuf::from);
    args.qemu.clone().or(named)
}

/// The image file.
struct Found {
    path: PathBuf,
    /// A job makes it, so it is the job's to change.
    is_made: bool,
}

/// Finds the image; makes it first if a job does. None if it is not made because of `-n`.
fn find(session: &Session, args: &Vm) -> Result<Option<Found>, CliError> {
    let path = Path::new(&args.image);
    if path.is_file() || !Path::new(MANIFEST).is_file() {
        return Ok(Some(Found { path: path.to_owned(), is_made: false }));
    }
    let project = Project::load(session, Path::new(MANIFEST))?;
    if !project.manifest.runs.contains_key(&args.image) {
        if path.exists() {
            return Ok(Some(Found { path: path.to_owned(), is_made: false }));
        }
        let known: Vec<&str> = project.manifest.runs.keys().map(String::as_str).collect();
        return Err(CliError::Named {
            message: format!("{} is neither a file nor a job of {MANIFEST}", args.image),
            hint: (!known.is_empty()).then(|| format!("{MANIFEST} has: {}", known.join(", "))),
        });
    }
    let job = project.job(&args.image)?;
    let Some(output) = job.sources.get("output").and_then(|it| it.first()) else {
        return Err(CliError::Other(format!("job `{}` makes no image: it names no output", args.image)));
    };
    let path = project.output(&output.path);
    if args.write && args.drive.is_empty() {
        return Err(CliError::Named {
            message: "what a machine writes into the image of a job is lost when the job is made again"
                .to_owned(),
            hint: Some(format!("make the job, and start the file: raptor vm --write {}", path.display())),
        });
    }
    let make = Make {
        file: MANIFEST.into(),
        batch: false,
        targets: vec![args.image.clone()],
        json: false,
        timings: Timings::default(),
    };
    make::main(session, &make)?;
    Ok((!session.global.no_act).then_some(Found { path, is_made: true }))
}

/// The machine that the options describe; empty disks are files in `scratch`.
fn machine(
    session: &Session,
    args: &Vm,
    (found, image): (&Found, &Image),
    scratch: &Path,
) -> Result<Machine, CliError> {
    let slot = match () {
        () if args.usb => Slot::Usb,
        () if image.is_cd => Slot::Cd,
        () => Slot::Disk,
    };
    let drive = |image: &Image, slot| Drive {
        path: image.path.clone(),
        format: image.format,
        slot,
        kept: args.write && slot != Slot::Cd,
    };
    let first = drive(image, slot);
    let mut drives = vec![Drive { kept: first.kept && !found.is_made, ..first }];
    for (idx, source) in args.drive.iter().enumerate() {
        drives.push(match source {
            DriveSource::Scratch(_) => {
                let (path, format) = (scratch_file(scratch, idx), image::Format::Raw);
                Drive { path, format, slot: Slot::Disk, kept: true }
            }
            DriveSource::File { path, format } => {
                let more = image::look(path)?;
                Drive { format: format.unwrap_or(more.format), ..drive(&more, Slot::Disk) }
            }
        });
    }
    if let Some(path) = &args.cdrom {
        drives.push(drive(&image::look(path)?, Slot::Cd));
    }
    let firmware = match args.bios || (image.has_bios_code && !args.uefi) {
        true => Firmware::Bios,
        false => Firmware::Uefi,
    };
    let ssh = args.ssh_port.map(|port| (port, 22));
    Ok(Machine {
        firmware,
        drives,
        memory: args.memory.unwrap_or(MEMORY),
        cpus: args.cpus,
        forwards: ssh.into_iter().chain(args.forward.iter().copied()).collect(),
        no_reboot: args.no_reboot,
        display: args.display,
        kvm: !args.no_kvm && is_kvm_there(session),
        terminal: args.wait_for.is_empty()
            && std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal(),
    })
}

fn scratch_file(scratch: &Path, idx: usize) -> PathBuf {
    scratch.join(format!("drive{idx}"))
}

/// Makes the files of the empty disks.
fn make_scratch(args: &Vm, machine: &Machine) -> Result<(), CliError> {
    // The first drive is the image.
    for (source, drive) in args.drive.iter().zip(machine.drives.iter().skip(1)) {
        if let DriveSource::Scratch(size) = source {
            fs_err::File::create_new(&drive.path)?.set_len(*size)?;
        }
    }
    Ok(())
}

/// Whether the kernel can run machines on the processor itself.
fn is_kvm_there(session: &Session) -> bool {
    // Without help of the processor it can be there all the same, and then does not run any firmware.
    let features = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let helps = features.split_whitespace().any(|it| it == "vmx" || it == "svm");
    let opened = std::fs::File::options().read(true).write(true).open(KVM);
    let why = match (&opened, helps) {
        (Ok(_), true) => return true,
        (Ok(_), false) => "the processor does not help with it".to_owned(),
        (Err(err), _) => err.to_string(),
    };
    session.ui.detail(&format!("the machine is slow, for it runs without {KVM}: {why}"));
    false
}
