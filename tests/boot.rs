//! The live example starts, in every way that it can be started.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "boot/qemu.rs"]
mod qemu;

use qemu::{Drive, Firmware, Machine};

#[test]
fn cd_by_bios() {
    let mut machine = boot(Firmware::Bios, Drive::Cd);
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/live/medium"), "/dev/sr0");
}

#[test]
fn cd_by_uefi() {
    let mut machine = boot(Firmware::Uefi, Drive::Cd);
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/live/medium"), "/dev/sr0");
}

#[test]
fn usb_stick_by_bios() {
    let mut machine = boot(Firmware::Bios, Drive::UsbStick);
    let medium = machine.run("findmnt -n -o SOURCE /run/live/medium");
    assert!(medium.starts_with("/dev/sd"), "{medium}");
}

#[test]
fn usb_stick_by_uefi() {
    let mut machine = boot(Firmware::Uefi, Drive::UsbStick);
    let medium = machine.run("findmnt -n -o SOURCE /run/live/medium");
    assert!(medium.starts_with("/dev/sd"), "{medium}");
}

/// Starts the example, logs in and looks at what must be so however it was started.
fn boot(firmware: Firmware, drive: Drive) -> Machine {
    let mut machine = Machine::start(firmware, drive, &common::iso::built());
    machine.log_in();
    let has_efi = machine.run("test -d /sys/firmware/efi && echo yes || echo no");
    assert_eq!(has_efi, if firmware == Firmware::Uefi { "yes" } else { "no" });
    assert_eq!(machine.run("cat /etc/hostname"), "debian-live");
    assert_eq!(machine.run("findmnt -n -o FSTYPE /"), "overlay");

    // Each layer is there, the uppermost as well as the lowest, and deleted files stay deleted.
    let layers = machine.run("cat /run/live/medium/live/live.module");
    assert!(layers.lines().count() >= 4, "{layers}");
    machine.run("test ! -e /var/lib/apt/lists");

    // Nothing that tells machines apart is in the image: it is made now.
    assert_eq!(machine.run("wc -c </etc/machine-id"), "33");
    machine.run("systemctl is-active --quiet ssh || systemctl start ssh");
    machine.run("test -s /etc/ssh/ssh_host_ed25519_key");
    assert_eq!(machine.run("systemctl --failed --no-legend"), "");

    // The medium is what it says it is.
    machine.run("cd /run/live/medium && md5sum --check --quiet md5sum.txt && cd /");
    machine
}
