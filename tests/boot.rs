//! The example's ISO starts from everything it is made for, up to a login and a command run inside.

mod common;

use std::time::{Duration, Instant};

use common::iso;
use common::qemu::{Boot, Machine};

/// Emulation on a loaded machine is slow: a minute on a quiet one, several times that elsewhere.
const BOOT: Duration = Duration::from_secs(900);
const COMMAND: Duration = Duration::from_secs(300);

fn boots(boot: Boot) {
    let iso = iso::built();
    let mut machine = Machine::start(&iso, boot);
    let begin = Instant::now();
    machine.wait_for("debian-live login:", BOOT);
    println!("{boot:?}: login after {:?}", begin.elapsed());
    machine.type_line("root");
    machine.wait_for("root@debian-live:~#", COMMAND);
    // The first start makes the host keys, which takes a while here.
    machine.type_line("until systemctl is-active -q ssh; do sleep 1; done");
    machine.type_line("echo \"<$(findmnt -no FSTYPE /) $(cat /etc/hostname)>\"");
    machine.wait_for("<overlay debian-live>", COMMAND);
    machine.type_line("[ -d /sys/firmware/efi ] && echo \"firmware: U\"EFI || echo \"firmware: B\"IOS");
    machine.wait_for(if boot == Boot::CdUefi { "firmware: UEFI" } else { "firmware: BIOS" }, COMMAND);
}

#[test]
fn from_cd_with_bios() {
    boots(Boot::CdBios);
}

#[test]
fn from_cd_with_uefi() {
    boots(Boot::CdUefi);
}

#[test]
fn from_usb_stick() {
    boots(Boot::UsbStick);
}
