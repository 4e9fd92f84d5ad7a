//! Live media as KIWI makes them: what is on them, what they are made of, and that they start.
//!
//! With RAPTOR_LONG_TESTS in the environment, the ways to start that are in `kiwi/long.rs` are tried as well.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "kiwi/long.rs"]
mod long;
#[path = "kiwi/media.rs"]
mod media;
#[path = "boot/qemu.rs"]
mod qemu;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{As, Project};
use media::EXAMPLE;
use qemu::{Drive, Firmware, Machine};

const MODULE: &str = "$std.kiwi-live";

#[test]
fn bad_parameters_are_refused_when_they_are_read() {
    let project = Project::debian(As::Root, &[]);
    for (with, message) in [
        ("flags=live", "flags is one of: overlay, dmsquash; not `live`"),
        ("filesystem=erofs", "filesystem is one of: ext4, squashfs; not `erofs`"),
        ("squashfscompression=lz4", "squashfscompression is one of: zstd, xz, gzip; not `lz4`"),
        ("rootfs_extra_mb=1G", "rootfs_extra_mb is a whole number from 0 to 1048576, not `1G`"),
        ("hybridpersistent=yes", "hybridpersistent is true or false, not `yes`"),
        (
            "hybridpersistent_filesystem=btrfs",
            "hybridpersistent_filesystem is one of: ext4, xfs; not `btrfs`",
        ),
        ("mediacheck=1", "mediacheck is true or false, not `1`"),
        ("network=on", "network is true or false, not `on`"),
        ("firmware=ofw", "firmware is one of: bios, efi, uefi; not `ofw`"),
        ("partition_table=bsd", "partition_table is one of: gpt, msdos; not `bsd`"),
        ("gpt_hybrid_mbr=x", "gpt_hybrid_mbr is true or false, not `x`"),
        ("volid=MY DISK", "volid is at most 32 of the characters A-Z, a-z, 0-9, _, . and -, not `MY DISK`"),
        ("volid=A23456789012345678901234567890123", "volid is at most 32 of"),
        ("volid=", "volid is empty"),
        ("application_id=é", "application_id is at most 128 of the printable characters of ASCII, not `é`"),
        ("publisher=a\nb", "publisher is at most 128 of"),
        ("kernelcmdline=a\nb", "kernelcmdline is at most 1024 of"),
        ("console=tty0; reboot", "console is at most 128 of"),
        ("timeout=soon", "timeout is a whole number from -1 to 86400, not `soon`"),
        ("title=it's", "title is at most 64 of"),
        ("failsafe=no", "failsafe is true or false, not `no`"),
    ] {
        project.fails(&["eval", MODULE, "--with", with], &[message, "E0203"]);
    }
    for (with, message) in [
        (["mediacheck=true", "firmware=efi"], "mediacheck cannot be true where flags is dmsquash and"),
        (["partition_table=gpt", "mediacheck=false"], "partition_table is msdos where flags is dmsquash and"),
    ] {
        let mut args = vec!["eval", MODULE, "--with", "flags=dmsquash", "--with", "hybridpersistent=true"];
        args.extend(with.iter().flat_map(|it| ["--with", it]));
        project.fails(&args, &[message]);
    }
    project.fails(
        &["eval", MODULE, "--with", "gpt_hybrid_mbr=true", "--with", "partition_table=msdos"],
        &["gpt_hybrid_mbr is for partition_table gpt"],
    );
}

#[test]
fn the_page_lists_all_parameters() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = fs::read_to_string(root.join("stdlib/kiwi-live.rapt")).unwrap();
    let page = fs::read_to_string(root.join("spec/stdlib/kiwi-live.md")).unwrap();
    let parameters = module.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("$ set ")?.split_once('=')?;
        Some((name.trim(), value.split_once("| default(")?.1.strip_suffix(')')?))
    });
    let mut n = 0;
    for (name, default) in parameters {
        let row = page.lines().find(|it| it.starts_with(&format!("| `{name}` |")));
        let cells: Vec<&str> = row.unwrap_or_else(|| panic!("no {name}")).split(" | ").collect();
        // Some depend on others, and are described.
        if let Some(text) = default.strip_prefix('"').filter(|it| *it != "\"" && !it.contains(" if ")) {
            assert_eq!(cells[2], format!("`{}`", text.trim_end_matches('"')), "{name}");
        } else if !default.contains('"') {
            assert_eq!(cells[2], default, "{name}");
        }
        n += 1;
    }
    assert_eq!(n, 19);
}

#[test]
fn targets_that_could_not_start_are_refused() {
    let fake = "FROM debian://bookworm\nWRITE \"x\" /boot/vmlinuz-1\nMKDIR -p /usr/lib/modules/1\n\
                WRITE \"kernel/fs/isofs/isofs.ko:\\n\" /usr/lib/modules/1/modules.dep\n\
                WRITE \"kernel/fs/overlayfs/overlay.ko\\nkernel/drivers/block/loop.ko\\n\" \
                /usr/lib/modules/1/modules.builtin\n";
    // The tools are in the store, and in that lock.
    media::built(EXAMPLE);
    let project = media::locked_project(As::Root);
    project.write("bare.rapt", "FROM debian://bookworm\n");
    project.write("fake.rapt", fake);
    for (target, message) in [
        ("bare", "bare has no kernel in /boot: install linux-image-amd64"),
        ("fake", "the kernel 1 of fake cannot start from this medium, as it lacks squashfs, sr_mod: install"),
    ] {
        let toml = format!(
            "[run.a]\ntarget = \"{MODULE}\"\ninput = [\"{target}\"]\noutput = \"a.iso\"\n\
             with = {{ hybridpersistent = true }}\n"
        );
        project.write("Raptor.toml", &toml);
        project.fails(&["make", "a"], &[message]);
    }
}

#[test]
fn a_medium_has_what_those_of_kiwi_have() {
    let medium = media::built(EXAMPLE);
    let marker = media::text(&medium, "/boot/mbrid").trim().to_owned();
    assert!(marker.len() == 10 && marker.starts_with("0x"), "{marker}");
    let mut files: Vec<String> = [
        &format!("boot/{marker}"),
        "EFI/BOOT/BOOTX64.EFI",
        "LiveOS/squashfs.img",
        "boot/grub/earlyboot.cfg",
        "boot/grub/grub.cfg",
        "boot/grub/loopback.cfg",
        "boot/mbrid",
        "boot/x86_64/loader/eltorito.img",
        "boot/x86_64/loader/initrd",
        "boot/x86_64/loader/linux",
    ]
    .map(|it| format!("/{it}"))
    .into();
    files.sort_unstable();
    assert_eq!(media::files(&medium), files);

    let menu = media::text(&medium, "/boot/grub/grub.cfg");
    for line in [
        &format!("search --no-floppy --file --set=root /boot/{marker}"),
        "set timeout=3",
        "if serial --unit=0 --speed=115200; then",
        "menuentry 'My system (1.0)' --class os --unrestricted {",
        "    linux  ($root)/boot/x86_64/loader/linux ${extra_cmdline} ${isoboot} no_timer_check root=live:CDLABEL=CDROM rd.live.image \
         rd.live.overlay.persistent rd.live.overlay.cowfs=ext4 console=tty0 console=ttyS0,115200",
        "menuentry 'Failsafe -- My system (1.0)' --class os --unrestricted {",
        "menuentry 'Boot from Hard Disk' --class drive-harddisk --unrestricted {",
    ] {
        assert!(menu.lines().any(|it| it == line), "no `{line}` in:\n{menu}");
    }
    assert!(!menu.contains("Mediacheck"), "{menu}");

    let about =
        media::asked(&medium, &["-pvd_info", "-report_el_torito", "plain", "-report_system_area", "plain"]);
    for text in [
        "Volume Id    : CDROM",
        &format!("App Id       : {}", marker.to_uppercase()),
        "Publisher Id : EXAMPLE & SONS",
        "Preparer Id  : RAPTOR",
        "El Torito boot img :   1  BIOS  y",
        "El Torito boot img :   2  UEFI  y",
        "System area summary: MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
    ] {
        assert!(about.contains(text), "no `{text}` in:\n{about}");
    }
}

#[test]
fn a_medium_is_as_its_parameters_say() {
    let medium = media::built("dmsquash");
    let menu = media::text(&medium, "/boot/grub/grub.cfg");
    let args = "no_timer_check rd.live.check quiet=\\'\\$\\(x\\)\\'";
    for line in [
        &format!(
            "    linux  ($root)/boot/x86_64/loader/linux ${{extra_cmdline}} ${{isoboot}} {args} \
             root=live:CDLABEL=My-live.1 rd.live.image rd.live.overlay.overlayfs=1 console=tty0 console=ttyS0,115200"
        ),
        "menuentry 'live' --class os --unrestricted {",
        "menuentry 'Mediacheck' --class os --unrestricted {",
    ] {
        assert!(menu.lines().any(|it| it == line), "no `{line}` in:\n{menu}");
    }
    // Secure Boot starts with these.
    let files = media::files(&medium);
    for file in ["/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/grubx64.efi", "/EFI/BOOT/mmx64.efi", "/.disk/info"] {
        assert!(files.iter().any(|it| it == file), "{files:?}");
    }
    // The checksum that isomd5sum writes.
    let image = fs::read(&medium).unwrap();
    assert!(image[0x8373..0x8573].starts_with(b"ISO MD5SUM = "));
}

#[test]
fn after_a_change_the_initramfs_stays() {
    media::built(EXAMPLE);
    let project = media::locked_project(As::Root);
    let live = project.read("live.rapt");
    project.write("live.rapt", &format!("{live}WRITE \"changed\\n\" /etc/changed\n"));
    // Other parameters ask for no other initramfs.
    let ran = project.run(&["make", "small"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let mut built: Vec<&str> =
        ran.stderr.lines().filter_map(|line| line.split_once("] built ")?.1.split(' ').next()).collect();
    built.sort_unstable();
    assert_eq!(built, ["layer-initrd@-live", "live", "small"], "{}", ran.stderr);

    let medium = project.path("small.iso");
    assert!(!media::files(&medium).iter().any(|it| it.starts_with("/EFI")));
    let about = media::asked(&medium, &["-report_el_torito", "plain", "-report_system_area", "plain"]);
    assert!(about.contains("System area summary: MBR grub2-mbr cyl-align-off\n"), "{about}");
    assert!(!about.contains("UEFI"), "{about}");
    assert!(!media::text(&medium, "/boot/grub/grub.cfg").contains("Failsafe"));
}

#[test]
fn root_and_an_ordinary_user_make_the_same_medium() {
    let of_root = media::built(EXAMPLE);
    let theirs = media::locked_project(As::Root);
    let project = media::locked_project(As::User).with_empty_store();
    // Layers are the same whoever builds them, which other tests show; the user gets them, and makes all the rest.
    let export = theirs.command(&["store", "export", "live", "$std.lib.dracut-tools"]);
    let mut export = { export }.stdout(Stdio::piped()).spawn().unwrap();
    let mut import = project.command(&["store", "import", "--trust"]);
    let output = import.stdin(export.stdout.take().unwrap()).output().unwrap();
    assert!(export.wait().unwrap().success());
    assert_eq!(common::ran(output).status, Some(0));

    let mut command = project.command(&["make", "--locked", "-j1", EXAMPLE]);
    let output = command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").output().unwrap();
    let ran = common::ran(output);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for job in ["layer-initrd@-base", EXAMPLE] {
        assert!(ran.stderr.contains(&format!("] built {job} in")), "{}", ran.stderr);
    }
    let status = Command::new("cmp").arg(&of_root).arg(project.path("my-system.iso")).status().unwrap();
    assert!(status.success());
}

#[test]
fn overlay_from_cd_by_bios() {
    let mut machine = Machine::start(Firmware::Bios, Drive::Cd, &media::built(EXAMPLE), &[]);
    machine.log_in();
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/overlay/live"), "/dev/sr0");
    assert_eq!(machine.run("findmnt -n -o FSTYPE /run/overlay/rootfsbase"), "ext4");
    assert_eq!(machine.run("findmnt -n -o FSTYPE /run/overlay"), "tmpfs");
    looks_right(&mut machine);
    assert_eq!(machine.run("systemctl --failed --no-legend"), "");
}

#[test]
fn overlay_from_stick_by_uefi_keeps_changes() {
    keeps_changes(Firmware::Uefi, EXAMPLE, "/run/overlay/overlayfs", "ext4");
}

#[test]
fn checked_dmsquash_from_cd_by_uefi() {
    let mut machine = Machine::start(Firmware::Uefi, Drive::Cd, &media::built("dmsquash"), &[]);
    machine.log_in();
    assert_eq!(machine.run("findmnt -n -o SOURCE /run/initramfs/live"), "/dev/sr0");
    assert_eq!(machine.run("findmnt -n -o FSTYPE /run/rootfsbase"), "squashfs");
    let checked = machine.run("journalctl -b -o cat | grep -i 'media check'");
    assert!(checked.contains("Finished checkisomd5@"), "{checked}");
    looks_right(&mut machine);
}

/// Starts a medium from a stick twice: what was written stays, in a partition with a file system of this kind.
/// The machine as it is then.
fn keeps_changes(firmware: Firmware, job: &str, mount_point: &str, kind: &str) -> Machine {
    let dir = tempfile::tempdir_in(common::scratch()).unwrap();
    let stick = media::stick(&media::built(job), dir.path(), 1 << 30);
    let mut machine = Machine::start(firmware, Drive::WritableStick, &stick, &[]);
    machine.log_in();
    assert_eq!(machine.run(&format!("findmnt -n -o FSTYPE {mount_point}")), kind);
    looks_right(&mut machine);
    machine.run("echo kept >/root/kept && sync");
    machine.power_off();

    let mut machine = Machine::start(firmware, Drive::WritableStick, &stick, &[]);
    machine.log_in();
    assert_eq!(machine.run("cat /root/kept"), "kept");
    assert_eq!(machine.run(&format!("findmnt -n -o FSTYPE {mount_point}")), kind);
    machine
}

/// What must be so however the example was started.
fn looks_right(machine: &mut Machine) {
    assert_eq!(machine.run("cat /etc/hostname"), "debian-live");
    // Each layer is there, and what was deleted stays deleted.
    machine.run("test -x /usr/sbin/sshd && test ! -e /var/lib/apt/lists");
    assert_eq!(machine.run("stat -c '%a %U' /etc/shadow"), "640 root");
    machine.run("echo written >/etc/written && test -s /etc/written");
}
