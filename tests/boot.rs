//! The live example starts, in every way that it can be started, and so do disks of the same systems.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "boot/qemu.rs"]
mod qemu;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::As;
use qemu::{Drive, Firmware, Machine};

#[test]
fn cd_by_bios() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = boot(Firmware::Bios, Drive::Cd, &[&disk_with_raptor(dir.path())]);
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/live/medium"), "/dev/sr0");
    // A machine with systemd has control groups as many computers have them, so this is the place to try them.
    control_groups(&mut machine);
}

#[test]
fn cd_by_uefi() {
    let mut machine = boot(Firmware::Uefi, Drive::Cd, &[]);
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/live/medium"), "/dev/sr0");
}

#[test]
fn usb_stick_by_bios() {
    let mut machine = boot(Firmware::Bios, Drive::UsbStick, &[]);
    let medium = machine.run("findmnt -n -o SOURCE /run/live/medium");
    assert!(medium.starts_with("/dev/sd"), "{medium}");
}

#[test]
fn usb_stick_by_uefi() {
    let mut machine = boot(Firmware::Uefi, Drive::UsbStick, &[]);
    let medium = machine.run("findmnt -n -o SOURCE /run/live/medium");
    assert!(medium.starts_with("/dev/sd"), "{medium}");
}

#[test]
fn disk_by_uefi() {
    boot_disk(Firmware::Uefi, "raw");
}

#[test]
fn disk_by_bios() {
    boot_disk(Firmware::Bios, "qcow2");
}

#[test]
fn live_disk_by_bios() {
    let disk = common::iso::disks().join("live.raw");
    let mut machine = Machine::start(Firmware::Bios, Drive::Disk("raw"), &disk, &[]);
    machine.log_in();
    assert_eq!(machine.run("findmnt -n -o SOURCE,FSTYPE /run/live/medium"), "/dev/vda4 ext4");
    assert_eq!(machine.run("findmnt -n -o FSTYPE /"), "overlay");
    assert_eq!(machine.run("systemctl --failed --no-legend"), "");
    machine.run("cd /run/live/medium && md5sum --check --quiet md5sum.txt");
    machine.run("mount -o remount,rw /run/live/medium && touch /run/live/medium/mine");
}

/// Starts a disk of the example's system, and looks at what is mounted.
fn boot_disk(firmware: Firmware, format: &'static str) {
    let disk = common::iso::disks().join(format!("disk.{format}"));
    let mut machine = Machine::start(firmware, Drive::Disk(format), &disk, &[]);
    machine.log_in();
    let has_efi = machine.run("test -d /sys/firmware/efi && echo yes || echo no");
    assert_eq!(has_efi, if firmware == Firmware::Uefi { "yes" } else { "no" });
    let mounts = machine.run("findmnt -n -r -t ext4,vfat -o TARGET,SOURCE,FSTYPE | sort");
    assert_eq!(mounts, "/ /dev/vda4 ext4\n/boot /dev/vda3 ext4\n/boot/efi /dev/vda2 vfat");
    machine.run("touch /root/writable /boot/writable");
    machine.run("test -f /boot/efi/EFI/BOOT/BOOTX64.EFI && test -f /boot/vmlinuz-$(uname -r)");
    assert_eq!(machine.run("wc -c </etc/machine-id"), "33");
    assert_eq!(machine.run("systemctl --failed --no-legend"), "");
}

#[test]
fn cd_by_raptor_vm() {
    let _turn = qemu::turn();
    let (iso, project) = (common::iso::built(), common::Project::new(&[]));
    let args = ["vm", "--qemu", "qemu-system-x86_64", "--timeout", "15m", iso.to_str().unwrap()];
    // Logs in, looks where the medium is, and ends the machine, which is the end of raptor.
    let script = [
        ("login: $", "root"),
        ("# $", "echo m=$(findmnt -n -o SOURCE /run/live/medium)"),
        ("^m=/dev/sr0$", "poweroff"),
    ];
    let script = script.iter().flat_map(|(wait, send)| ["--wait-for", wait, "--send", send]);
    let ran = project.run(&args.into_iter().chain(script).collect::<Vec<_>>());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

/// Starts the example, logs in and looks at what must be so however it was started.
fn boot(firmware: Firmware, drive: Drive, disks: &[&Path]) -> Machine {
    let mut machine = Machine::start(firmware, drive, &common::iso::built(), disks);
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

/// A disk with this raptor and a project of busybox.
fn disk_with_raptor(dir: &Path) -> PathBuf {
    let project = common::Project::busybox(
        As::Root,
        &[
            ("anonymous.rapt", "FROM base\nRUN sh -c \"echo taking; tail -c 900000000 /dev/zero\"\n"),
            ("file.rapt", "FROM base\nRUN sh -c \"echo taking; cat /dev/zero > /tmp/file\"\n"),
            ("waits.rapt", "FROM base\nRUN sh -c \"echo waiting; sleep 60105\"\n"),
            ("fine.rapt", "FROM base\nRUN true\n"),
        ],
    );
    let (content, disk) = (dir.join("content"), dir.join("disk"));
    fs::create_dir(&content).unwrap();
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("cp").arg("-r").arg(project.path("")).arg(content.join("project")));
    run(Command::new("cp").arg("-p").args(["/usr/bin/newuidmap", "/usr/bin/newgidmap"]).arg(&content));
    run(Command::new("strip").arg("-o").arg(content.join("raptor")).arg(common::raptor()));
    run(Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-L", "raptor", "-d"])
        .arg(&content)
        .arg(&disk)
        .arg("400M"));
    disk
}

/// Under systemd each sandbox has a control group of its own, which ends it and then is gone.
fn control_groups(machine: &mut Machine) {
    const GROUPS: &str = "find /sys/fs/cgroup -type d -name 'raptor-[0-9]*'";
    machine.run("mkdir /run/disk && mount /dev/disk/by-label/raptor /run/disk && cd /run/disk/project");
    machine.run("export RAPTOR_STORE=/run/disk/store PATH=/run/disk:$PATH && raptor build -q base");
    assert_eq!(machine.run(GROUPS), "");

    for bomb in ["anonymous", "file"] {
        let group = ended_by_kernel(machine, &format!("raptor build --memory 96M {bomb}"));
        assert!(
            group.starts_with("oom_memcg=/system.slice/") && group.contains("getty.slice/raptor-"),
            "{group}"
        );
        assert_eq!(machine.run(GROUPS), "");
    }

    // While it lives, the group has the limits; after its engine was killed, the next sandbox removes it.
    machine.run("raptor build -q --memory 96M waits >/run/said 2>&1 & echo $! >/run/engine");
    machine.run("until pgrep -f '^sleep 60105'; do sleep 0.2; done");
    let values = machine.run(&format!(
        "cd $({GROUPS}) && cat memory.max memory.oom.group pids.max && grep -c . cgroup.procs; cd /run/disk/project"
    ));
    let values: Vec<&str> = values.lines().collect();
    assert_eq!(values[..3], ["100663296", "1", "8192"]);
    assert!(values[3].parse::<u32>().unwrap() >= 4, "stage, middle, init, sleep: {values:?}");
    machine.run("kill -9 $(cat /run/engine); while pgrep -f '^sleep 60105'; do sleep 0.2; done");
    machine.run("raptor build -q fine");
    assert_eq!(machine.run(GROUPS), "");

    // A service with a limit of its own that is left to those in it: groups are made below it, and it stays within.
    let service = "systemd-run --quiet --wait --pipe --property Delegate=yes --property MemoryMax=700M \
                   --working-directory /run/disk/project --setenv RAPTOR_STORE=/run/disk/store --unit limited";
    let group = ended_by_kernel(machine, &format!("{service} /run/disk/raptor build --memory 96M anonymous"));
    assert!(group.contains("/system.slice/limited.service/raptor-"), "{group}");
    assert_eq!(machine.run(GROUPS), "");

    // An ordinary user to whom groups were left.
    machine.run("useradd -m builder && echo builder:100000:65536 | tee /etc/subuid > /etc/subgid");
    machine.run("install -d -o builder -m 700 /run/disk/users && mkdir -p /sys/fs/cgroup/left/shell");
    machine.run("cd /sys/fs/cgroup/left && echo +memory +pids > cgroup.subtree_control");
    machine.run("chown builder . cgroup.procs shell shell/cgroup.procs; cd /run/disk/project");
    let user = "sh -c 'echo $$ > /sys/fs/cgroup/left/shell/cgroup.procs; exec setpriv --reuid builder --regid builder \
                --init-groups env HOME=/home/builder RAPTOR_STORE=/run/disk/users raptor build --memory 96M file'";
    let group = ended_by_kernel(machine, user);
    assert!(group.contains("/left/raptor-"), "{group}");
    assert_eq!(machine.run(GROUPS), "");
    machine.run("umount -l /run/disk && cd / && hash -r");
}

/// The control group that the kernel ended for its limit of 96 MiB during a build that says so.
fn ended_by_kernel(machine: &mut Machine, build: &str) -> String {
    machine.run("dmesg --clear");
    let said =
        machine.run(&format!("{build} </dev/null >/run/said 2>&1; test $? = 1; echo $?; cat /run/said"));
    for text in
        ["0\n", "| taking", "ended: it took more memory than 96 MiB", "help: allow more with --memory"]
    {
        assert!(said.contains(text), "no `{text}` in:\n{said}");
    }
    machine.run("dmesg | grep -o 'oom_memcg=/[^,]*'")
}
