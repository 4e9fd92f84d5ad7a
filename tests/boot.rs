//! The live example starts, in every way that it can be started.
//!
//! The image is `$RAPTOR_TEST_ISO`, or else is built from `examples/live`, once for all tests, with the store
//! `$RAPTOR_TEST_STORE` (default `target/test-store`).

#[path = "boot/qemu.rs"]
mod qemu;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use qemu::{Drive, Firmware, Machine};

static ISO: LazyLock<PathBuf> = LazyLock::new(|| match env::var_os("RAPTOR_TEST_ISO") {
    Some(path) => path.into(),
    None => build(),
});

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
    let mut machine = Machine::start(firmware, drive, &ISO);
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

/// Builds the live example in a copy of its directory.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let store =
        env::var_os("RAPTOR_TEST_STORE").map_or_else(|| root.join("target/test-store"), PathBuf::from);
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    fs::create_dir_all(&project).unwrap();
    for entry in fs::read_dir(root.join("examples/live")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), project.join(entry.file_name())).unwrap();
        }
    }
    let status = Command::new(env!("CARGO_BIN_EXE_raptor"))
        .args(["make", "debian-live"])
        .current_dir(&project)
        .env("RAPTOR_STORE", store)
        .status()
        .unwrap();
    assert!(status.success(), "raptor make: {status}");
    project.join("debian-live.iso")
}
