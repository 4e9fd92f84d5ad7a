//! Ways to start that take long: tried where RAPTOR_LONG_TESTS is set, and passed over elsewhere.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{self, server::Server};
use crate::media::{self, EXAMPLE};
use crate::qemu::{Drive, Firmware, Machine, Setup};
use crate::{keeps_changes, looks_right};

/// How long a machine may take to find that its medium is bad.
const CHECK: Duration = Duration::from_secs(900);

/// Whether somebody has the time.
fn asked_for() -> bool {
    let asked = std::env::var_os("RAPTOR_LONG_TESTS").is_some();
    if !asked {
        eprintln!("passed over: RAPTOR_LONG_TESTS is not set");
    }
    asked
}

#[test]
fn a_checked_overlay_keeps_changes_in_xfs() {
    if asked_for() {
        let mut machine = keeps_changes(Firmware::Bios, "xfs", "/run/overlay/overlayfs", "xfs");
        // Also after the stick got another partition.
        let result = machine.run("cat /run/initramfs/checkmedia.result");
        assert!(result.contains("the partition has the right checksum"), "{result}");
    }
}

#[test]
fn dmsquash_keeps_changes() {
    if asked_for() {
        keeps_changes(Firmware::Uefi, "kept", "/run/initramfs/overlayfs", "ext4");
    }
}

#[test]
fn a_corrupt_overlay_medium_is_noticed() {
    if asked_for() {
        let mut machine = start_corrupt("xfs", Firmware::Bios);
        machine.wait_for("Failed to verify system integrity", CHECK);
    }
}

#[test]
fn a_corrupt_dmsquash_medium_is_noticed() {
    if asked_for() {
        let mut machine = start_corrupt("dmsquash", Firmware::Uefi);
        machine.wait_for("CD check failed!", CHECK);
    }
}

/// Starts a medium with one wrong byte in the middle.
fn start_corrupt(job: &str, firmware: Firmware) -> Machine {
    let dir = tempfile::tempdir_in(common::scratch()).unwrap();
    let medium = dir.path().join("medium.iso");
    fs::copy(media::built(job), &medium).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&medium).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
    // QEMU has the file open before the directory goes.
    Machine::start(firmware, Drive::Cd, &medium, &[])
}

#[test]
fn dmsquash_runs_from_memory() {
    if asked_for() {
        let medium = media::built("dmsquash");
        let kernel =
            Kernel::of("dmsquash", "root=live:CDLABEL=My-live.1 rd.live.overlay.overlayfs=1 rd.live.ram=1");
        let mut machine = kernel.start(Some((Drive::Cd, &medium)), &[], 2048, &[]);
        machine.log_in();
        let files = machine.run("losetup -n -l -O BACK-FILE");
        assert!(files.contains("/run/initramfs/squashed.img"), "{files}");
        looks_right(&mut machine);
    }
}

#[test]
fn dmsquash_from_a_web_server() {
    if asked_for() {
        let medium = fs::read(media::built("kept")).unwrap();
        let server = Server::start(move |_| (200, String::new(), medium.clone()));
        let url = server.url("/live.iso").replace("127.0.0.1", "10.0.2.2");
        let kernel = Kernel::of("kept", &format!("root=live:{url} ip=dhcp rd.neednet=1"));
        let mut machine = kernel.start(None, &[], 3072, &["-nic", "user,model=virtio-net-pci"]);
        machine.log_in();
        assert_eq!(machine.run("findmnt -n -o SOURCE /"), "/dev/mapper/live-rw");
        looks_right(&mut machine);
        assert_eq!(server.seen(), ["/live.iso"]);
    }
}

#[test]
fn overlay_from_a_file_on_a_disk() {
    if asked_for() {
        let dir = tempfile::tempdir_in(common::scratch()).unwrap();
        let disk = disk_with(dir.path(), &media::built(EXAMPLE));
        let kernel = Kernel::of(EXAMPLE, "root=live:CDLABEL=CDROM iso-scan/filename=/iso/live.iso");
        let mut machine = kernel.start(None, &[&disk], 1024, &[]);
        machine.log_in();
        let source = machine.run("findmnt -n -o SOURCE /run/overlay/live");
        assert!(source.starts_with("/dev/loop"), "{source}");
        looks_right(&mut machine);
    }
}

#[test]
fn dmsquash_from_a_file_on_a_disk() {
    if asked_for() {
        let dir = tempfile::tempdir_in(common::scratch()).unwrap();
        let disk = disk_with(dir.path(), &media::built("kept"));
        let kernel = Kernel::of("kept", "root=live:CDLABEL=KEPT iso-scan/filename=/iso/live.iso");
        let mut machine = kernel.start(None, &[&disk], 1024, &[]);
        machine.log_in();
        assert_eq!(machine.run("findmnt -n -o SOURCE /"), "/dev/mapper/live-rw");
        looks_right(&mut machine);
    }
}

/// A disk with a file system that has a medium as `/iso/live.iso`.
fn disk_with(dir: &Path, medium: &Path) -> PathBuf {
    let (content, disk) = (dir.join("content"), dir.join("disk"));
    fs::create_dir_all(content.join("iso")).unwrap();
    fs::copy(medium, content.join("iso/live.iso")).unwrap();
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-L", "STICK", "-d"]).arg(&content).arg(&disk).arg("1G");
    assert!(mkfs.status().unwrap().success());
    disk
}

/// The kernel and the initramfs of a medium, for a machine that a network or another boot loader starts.
struct Kernel {
    dir: tempfile::TempDir,
    args: String,
}

impl Kernel {
    fn of(job: &str, args: &str) -> Kernel {
        let dir = tempfile::tempdir_in(common::scratch()).unwrap();
        for file in ["linux", "initrd"] {
            let path = format!("/boot/x86_64/loader/{file}");
            media::extract(&media::built(job), &path, &dir.path().join(file));
        }
        Kernel { dir, args: format!("{args} rd.live.image no_timer_check console=ttyS0,115200") }
    }

    fn start(
        &self,
        image: Option<(Drive, &Path)>,
        disks: &[&Path],
        memory_mb: u32,
        more: &[&str],
    ) -> Machine {
        let file = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let (linux, initrd) = (file("linux"), file("initrd"));
        let args = ["-kernel", &linux, "-initrd", &initrd, "-append", &self.args];
        let more: Vec<String> = args.iter().chain(more).map(|it| (*it).to_owned()).collect();
        Machine::set_up(&Setup { firmware: Firmware::Bios, image, disks, memory_mb, more: &more })
    }
}
