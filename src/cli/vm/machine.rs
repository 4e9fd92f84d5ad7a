//! A machine as QEMU is told of it.

use std::path::PathBuf;

use super::args::Display;
use super::image::Format;

/// What starts the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

/// What a file is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Disk,
    Cd,
    Usb,
}

/// A file that a machine has as a disk or CD.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Absolute.
    pub path: PathBuf,
    pub format: Format,
    pub slot: Slot,
    /// What the machine writes is there afterwards.
    pub kept: bool,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub firmware: Firmware,
    /// The first is what it starts from.
    pub drives: Vec<Drive>,
    /// Bytes.
    pub memory: u64,
    pub cpus: u16,
    /// Ports of the host's 127.0.0.1 and of the machine.
    pub forwards: Vec<(u16, u16)>,
    pub no_reboot: bool,
    pub display: Display,
    pub kvm: bool,
    /// Standard input and output are a terminal.
    pub terminal: bool,
}

/// Where QEMU finds things.
#[derive(Clone, Debug)]
pub struct Places {
    pub qemu: String,
    /// The firmware of UEFI, and its empty settings.
    pub uefi: (String, String),
    /// Of each drive.
    pub drives: Vec<String>,
}

impl Machine {
    /// The command line of QEMU.
    pub fn argv(&self, places: &Places) -> Vec<String> {
        let memory = format!("{}M", self.memory.div_ceil(1 << 20));
        let cpus = self.cpus.to_string();
        let mut argv = words(&[&places.qemu, "-no-user-config", "-nodefaults", "-machine", "q35"]);
        argv.extend(words(&["-cpu", "max", "-smp", &cpus, "-m", &memory]));
        if self.kvm {
            argv.extend(words(&["-accel", "kvm"]));
        }
        // Translated code is thrown away early: QEMU walks all code that ever was in a page whenever the page is
        // written, which makes the start of a big system a minute longer with the default.
        argv.extend(words(&["-accel", "tcg,thread=multi,tb-size=64"]));
        argv.extend(self.console());
        argv.extend(words(&["-vga", "std", "-device", "virtio-rng-pci"]));
        argv.extend(self.network());
        if self.firmware == Firmware::Uefi {
            let (code, settings) = &places.uefi;
            argv.extend(words(&[
                "-drive",
                &format!("if=pflash,format=raw,readonly=on,file={}", escaped(code)),
            ]));
            argv.extend(words(&[
                "-drive",
                &format!("if=pflash,format=raw,snapshot=on,file={}", escaped(settings)),
            ]));
        }
        argv.extend(self.controllers());
        for (idx, (drive, path)) in self.drives.iter().zip(&places.drives).enumerate() {
            argv.extend(drive_words(idx, drive, path));
        }
        if self.no_reboot {
            argv.extend(words(&["-no-reboot"]));
        }
        argv
    }

    fn console(&self) -> Vec<String> {
        let display = match self.display {
            Display::None => "none",
            Display::Gtk => "gtk",
        };
        let serial = match self.terminal {
            // With the keys of QEMU, and Ctrl-C for the machine.
            true => "mon:stdio",
            false => "stdio",
        };
        words(&["-display", display, "-serial", serial])
    }

    fn network(&self) -> Vec<String> {
        let forwards: String = self
            .forwards
            .iter()
            .map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"))
            .collect();
        // Without its ROM, which would look for something to start in the network.
        words(&[
            "-netdev",
            &format!("user,id=net{forwards}"),
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ])
    }

    fn controllers(&self) -> Vec<String> {
        let has = |slot| self.drives.iter().any(|it| it.slot == slot);
        let mut argv = Vec::new();
        if has(Slot::Cd) {
            // Kernels for clouds know this one best.
            argv.extend(words(&["-device", "virtio-scsi-pci"]));
        }
        if has(Slot::Usb) {
            argv.extend(words(&["-device", "qemu-xhci"]));
        }
        argv
    }
}

fn drive_words(idx: usize, drive: &Drive, path: &str) -> Vec<String> {
    let access = match drive.slot {
        Slot::Cd => ",readonly=on",
        _ if drive.kept => "",
        _ => ",snapshot=on",
    };
    let file = format!("if=none,id=drive{idx},format={}{access},file={}", drive.format.name(), escaped(path));
    let device = match drive.slot {
        Slot::Disk => "virtio-blk-pci",
        Slot::Cd => "scsi-cd",
        Slot::Usb => "usb-storage",
    };
    words(&["-drive", &file, "-device", &format!("{device},drive=drive{idx},bootindex={idx}")])
}

/// A value of QEMU's options.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|it| (*it).to_owned()).collect()
}
