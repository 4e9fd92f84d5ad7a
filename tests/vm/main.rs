//! `raptor vm` with systems of one sector, and with none, in the host's QEMU and in that of the standard library.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bootsector;
#[path = "../common/mod.rs"]
mod common;
mod ends;

use std::fs;

use bootsector::READY;
use common::{As, Project, Ran};

/// The QEMU of the host, as `.ci/setup` installs it.
const QEMU: [&str; 2] = ["--qemu", "qemu-system-x86_64"];

/// A directory with an image that starts, with a store of its own.
fn project(who: As) -> Project {
    let project = Project::of(who, &[]).with_empty_store();
    fs::write(project.path("disk.img"), bootsector::disk(2048)).unwrap();
    project.own();
    project
}

/// Runs a machine in the host's QEMU.
fn vm(project: &Project, args: &[&str]) -> Ran {
    project.run(&[&["vm"], &QEMU[..], args].concat())
}

fn disk(project: &Project, name: &str) -> Vec<u8> {
    fs::read(project.path(name)).unwrap()
}

#[test]
fn the_console_is_waited_for() {
    let project = project(As::User);
    let ran = vm(&project, &["disk.img", "--wait-for", "^the .* ready$"]);
    assert_eq!((ran.status, ran.stdout.contains(READY)), (Some(0), true), "{}", ran.stderr);
    assert!(!bootsector::has_written(&disk(&project, "disk.img")), "the image was changed");

    // What is typed comes back; then the machine ends by itself.
    let script = ["--wait-for", "ready$", "--send", "hello", "--wait-for", "hello", "--send", "q"];
    let ran = vm(&project, &[&["disk.img", "--no-reboot"], &script[..]].concat());
    assert_eq!((ran.status, ran.stdout.contains("hello")), (Some(0), true), "{}", ran.stderr);

    // Without --no-reboot it starts again.
    let ran = vm(&project, &["disk.img", "--wait-for", "ready$", "--send", "q", "--wait-for", "ready$"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn what_never_comes_is_an_error() {
    let project = project(As::Root);
    let script = ["--wait-for", "ready$", "--send", "q", "--wait-for", "never|ever"];
    let ran = vm(&project, &[&["disk.img", "--no-reboot"], &script[..]].concat());
    assert_eq!(ran.status, Some(1));
    let error = "error: the machine ended, and nothing on the console matched `never|ever`";
    for text in [error, &format!("    | {READY}\n")] {
        assert!(ran.stderr.contains(text), "no `{text}` in:\n{}", ran.stderr);
    }

    let ran = vm(&project, &["disk.img", "--wait-for", "never", "--timeout", "2s"]);
    assert_eq!(ran.status, Some(1));
    let error = "error: nothing on the console matched `never`: it took longer than 2 s\nhelp: allow more";
    assert!(ran.stderr.contains(error), "{}", ran.stderr);
    nothing_left(&project);
}

#[test]
fn images_change_only_if_that_is_wanted() {
    let project = project(As::User);
    fs::copy(project.path("disk.img"), project.path("other.img")).unwrap();
    project.own();
    let wait = ["--wait-for", "ready$", "--write"];
    let ran = vm(&project, &[&["other.img", "--usb"], &wait[..]].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(bootsector::has_written(&disk(&project, "other.img")), "the image was not changed");

    // A disk beside the image, and one that is gone afterwards.
    let ran = vm(
        &project,
        &[&["disk.img", "--drive", "other.img,format=raw", "--drive", "3M"], &wait[..]].concat(),
    );
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(bootsector::has_written(&disk(&project, "disk.img")));
    nothing_left(&project);
}

#[test]
fn without_a_system_uefi_has_a_shell() {
    let project = project(As::Root);
    fs::write(project.path("empty,img"), [0; 8192]).unwrap();
    let ran = vm(&project, &["empty,img", "--wait-for", "^UEFI Interactive Shell", "--memory", "256M"]);
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn the_machine_fits_the_image() {
    let project = project(As::Root);
    let image = |name: &str, parts: &[(usize, &[u8])]| {
        let mut image = vec![0; 64 << 10];
        for (at, part) in parts {
            image[*at..at + part.len()].copy_from_slice(part);
        }
        fs::write(project.path(name), image).unwrap();
    };
    const CD: (usize, &[u8]) = (0x8001, b"CD001");
    // The boot record says that the catalogue is in sector 19.
    const BOOT: [(usize, &[u8]); 2] =
        [(0x8801, b"CD001\x01EL TORITO SPECIFICATION"), (0x8847, b"\x13\0\0\0")];
    const CATALOGUE: usize = 19 * 2048;
    image("data.iso", &[CD]);
    image("bios.iso", &[CD, BOOT[0], BOOT[1], (CATALOGUE, b"\x01\0"), (CATALOGUE + 32, b"\x88")]);
    image("uefi.iso", &[CD, BOOT[0], BOOT[1], (CATALOGUE, b"\x01\xef"), (CATALOGUE + 32, b"\x88")]);
    image("disk.vhd", &[((64 << 10) - 512, b"conectix")]);
    image("table.img", &[(446, b"\0\x02\0\xee\xff"), (510, b"\x55\xaa")]);

    let command = |args: &[&str]| {
        let ran = project.run(&[&["vm", "-n"], args].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    for (args, uefi, text) in [
        (&["disk.img"][..], false, "format=raw,snapshot=on,file=/machine/drive0 -device virtio-blk-pci,"),
        (&["disk.img", "--uefi"], true, "format=raw,snapshot=on,"),
        (&["disk.img", "--write"], false, "format=raw,file="),
        (&["table.img"], true, "virtio-blk-pci"),
        (&["table.img", "--bios"], false, "virtio-blk-pci"),
        (&["disk.vhd"], true, "format=vpc,snapshot=on,"),
        (&["data.iso"], true, "-device scsi-cd,"),
        (&["bios.iso", "--write"], false, "format=raw,readonly=on,file=/machine/drive0 -device scsi-cd,"),
        (&["bios.iso", "--usb"], false, "-device usb-storage,"),
        (&["uefi.iso"], true, "-device scsi-cd,"),
        (
            &["disk.img", "--cdrom", "data.iso"],
            false,
            "file=/machine/drive1 -device scsi-cd,drive=drive1,bootindex=1",
        ),
        (&["disk.img", "--memory", "3G", "--cpus", "4"], false, "-smp 4 -m 3072M "),
        (
            &["disk.img", "--ssh-port", "2222", "--forward", "8080:80"],
            false,
            "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80 ",
        ),
    ] {
        let command = command(args);
        assert_eq!(command.contains("if=pflash"), uefi, "{args:?}: {command}");
        assert!(command.contains(text), "{args:?}: {command}");
    }
    assert!(!project.store().exists(), "-n made a store");
}

#[test]
fn mistakes() {
    let project = project(As::Root);
    fs::write(project.path("packed.img"), [b"\xfd7zXZ\0", &[0; 600][..]].concat()).unwrap();
    fs::write(project.path("short.img"), "short").unwrap();
    fs::write(project.path("based.img"), [b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\x70", &[0; 600][..]].concat())
        .unwrap();
    for (args, message) in [
        (&["none.img"][..], "none.img"),
        (&["."], "not a file"),
        (&["short.img"], "too small"),
        (&["packed.img"], "help: unpack it first: unxz "),
        (
            &["based.img"],
            "parts of the image are in other files\nhelp: make one file of it: qemu-img convert",
        ),
        (&["disk.img", "--drive", "none.img"], "none.img"),
        (&["disk.img", "--qemu", "/no/qemu"], "error: cannot start /no/qemu: "),
    ] {
        project.fails(&[&["vm"], args].concat(), &[message]);
    }
    for (args, message) in [
        (&["--bios", "--uefi"][..], "cannot be used with"),
        (&["--send", "a"], "--wait-for"),
        (&["--wait-for", "a", "--send", "b", "--send", "c"], "each --send needs a --wait-for"),
        (&["--wait-for", "("], "--wait-for (: "),
        (&["--display", "gtk"], "--display needs the host's QEMU"),
        (&["--forward", "80"], "two ports are wanted"),
        (&["--drive", "a,format=b"], "unknown format `b`; known are raw, "),
        (&["--drive", "700"], "multiple of 512"),
    ] {
        let ran = project.run(&[&["vm", "disk.img"], args].concat());
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_job_makes_its_image_first() {
    let manifest = "[run.disk]\ntarget = \"maker\"\noutput = \"made.img\"\n[run.other]\ntarget = \"maker\"\n";
    let maker = "FROM base\nCOPY disk.img /disk.img\nMOUNT --file --optional output /out\nCMD \"cp /disk.img /out\"\n";
    let project = Project::busybox(As::User, &[("Raptor.toml", manifest), ("maker.rapt", maker)]);
    fs::write(project.path("disk.img"), bootsector::disk(2048)).unwrap();
    // A directory of the job's name is no image.
    fs::create_dir(project.path("disk")).unwrap();
    project.own();
    let ran = vm(&project, &["disk", "--wait-for", READY]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("wrote made.img"), "{}", ran.stderr);
    project
        .fails(&["vm", "disks"], &["disks is neither a file nor a job of Raptor.toml", "has: disk, other"]);
    project.fails(
        &["vm", "disk", "--write"],
        &["is lost when the job is made again\nhelp: ", " --write made.img"],
    );
    project.fails(&["vm", "other"], &["job `other` makes no image: it names no output"]);
}

#[test]
fn the_standard_library_has_a_qemu() {
    // In the store that tests share, for the base is there.
    let project = Project::of(As::User, &[]);
    fs::write(project.path("disk.img"), bootsector::disk(2048)).unwrap();
    project.own();
    let script = ["--wait-for", "ready$", "--send", "hello", "--wait-for", "hello", "--send", "q"];
    let args = [&["vm", "disk.img", "--no-reboot", "--drive", "1M"], &script[..]].concat();
    let ran = project.run(&args);
    assert_eq!((ran.status, ran.stdout.contains("hello")), (Some(0), true), "{}", ran.stderr);
    assert!(!bootsector::has_written(&disk(&project, "disk.img")), "the image was changed");
    assert!(!project.path("Raptor.lock").exists(), "the container is no part of anybody's project");

    // It is there now, and what it needs is in the store's own lock.
    let ran = project.run(&["vm", "disk.img", "--frozen", "--write", "--wait-for", READY]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(bootsector::has_written(&disk(&project, "disk.img")), "the image was not changed");
    ends::by_signals(&project, &[]);
    ends::by_keys(&project, &[]);
}

/// Nothing is left in the store's work area.
fn nothing_left(project: &Project) {
    let left: Vec<_> =
        fs::read_dir(project.store().join("tmp")).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(left.is_empty(), "left: {left:?}");
}
