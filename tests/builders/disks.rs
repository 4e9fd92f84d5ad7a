//! Disks: partitions, what is in them, and how they are started.

use super::parts::mounted;
use super::*;
use serde_json::Value;

pub const SMALL: &[(&str, &str)] =
    &[("BOOT_MB", "16"), ("FREE_MB", "8"), ("GRUB_TIMEOUT", "1"), ("KERNEL_ARGS", "quiet")];
pub const QCOW2: &[(&str, &str)] = &[("OUTPUT_FORMAT", "qcow2"), SMALL[0], SMALL[1], SMALL[2], SMALL[3]];
pub const VMDK: &[(&str, &str)] = &[("OUTPUT_FORMAT", "vmdk"), SMALL[0], SMALL[1], SMALL[2], SMALL[3]];
pub const VHD: &[(&str, &str)] = &[("OUTPUT_FORMAT", "vhd"), SMALL[0], SMALL[1], SMALL[2], SMALL[3]];
pub const VHDX: &[(&str, &str)] = &[("OUTPUT_FORMAT", "vhdx"), SMALL[0], SMALL[1], SMALL[2], SMALL[3]];
pub const VDI: &[(&str, &str)] = &[("OUTPUT_FORMAT", "vdi"), SMALL[0], SMALL[1], SMALL[2], SMALL[3]];

/// What sfdisk says about a disk: its table must be right.
fn table(disk: &Path) -> Vec<Value> {
    let disk = disk.to_str().unwrap();
    let verified = run("/sbin/sfdisk", &["--verify", disk]);
    assert!(verified.contains("No errors detected."), "{verified}");
    let table: Value = serde_json::from_str(&run("/sbin/sfdisk", &["--json", disk])).unwrap();
    assert_eq!(table["partitiontable"]["label"], "gpt");
    table["partitiontable"]["partitions"].as_array().unwrap().clone()
}

fn offset(partition: &Value) -> u64 {
    partition["start"].as_u64().unwrap() * 512
}

/// A partition as a file of its own.
fn part(disk: &Path, partition: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(scratch()).unwrap();
    let count = |key: &str| partition[key].as_u64().unwrap() / 2048;
    let args = [
        format!("if={}", disk.display()),
        format!("of={}", file.path().display()),
        "bs=1M".into(),
        "conv=sparse".into(),
        format!("skip={}", count("start")),
        format!("count={}", count("size")),
    ];
    run("dd", &args.iter().map(String::as_str).collect::<Vec<_>>());
    file
}

#[test]
fn partitions_are_discoverable_and_sound() {
    let types = |root: &str| {
        let all = [
            "21686148-6449-6E6F-744E-656564454649",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            "BC13C2FF-59E6-4262-A352-B275FD6F7172",
            root,
        ];
        all.map(str::to_owned)
    };
    for (name, root) in [
        ("disk.raw", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
        ("live-disk", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
    ] {
        let disk = output(name);
        let table = table(&disk);
        let found: Vec<_> = table.iter().map(|it| it["type"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found, types(root), "{name}");
        let esp = part(&disk, &table[1]);
        run("/sbin/fsck.vfat", &["-n", esp.path().to_str().unwrap()]);
        for partition in &table[2..] {
            let file = part(&disk, partition);
            run("/sbin/e2fsck", &["-f", "-n", file.path().to_str().unwrap()]);
        }
    }
}

#[test]
fn systemd_discovers_the_partitions() {
    let shown = run("systemd-dissect", &["--json=short", output("disk.raw").to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mounts = shown["mounts"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        mounts.map(|it| (it["designator"].as_str().unwrap(), it["fstype"].as_str().unwrap())).collect();
    found.sort_unstable();
    assert_eq!(found, [("esp", "vfat"), ("root", "ext4"), ("xbootldr", "ext4")]);
}

#[test]
fn disks_have_the_target_split_into_partitions() {
    for (name, kind) in [("disk.raw", "ext4"), ("disk.btrfs", "btrfs")] {
        let disk = output(name);
        let table = table(&disk);
        let mut target = expected("boot");
        let mut root = mounted(&disk, kind, offset(&table[3]));
        let mut boot = mounted(&disk, "ext4", offset(&table[2]));

        // Directories in which something was written, or from which something was moved, have another time.
        for name in ["", "boot", "etc"] {
            assert!(root.remove(name).is_some() && target.remove(name).is_some());
        }
        target.remove("etc/fstab");
        let fstab = root.remove("etc/fstab").unwrap();
        for (number, place) in [(3, "/"), (2, "/boot"), (1, "/boot/efi")] {
            let id = table[number]["uuid"].as_str().unwrap().to_lowercase();
            assert!(fstab.contains(&format!("PARTUUID={id} {place} ")), "{fstab}");
        }
        assert!(fstab.contains("tmpfs /tmp tmpfs"), "{fstab}");

        let menu = boot.remove("grub/grub.cfg").unwrap();
        let id = table[3]["uuid"].as_str().unwrap().to_lowercase();
        let kernel = format!("linux  /vmlinuz-6.1.0-10-amd64 root=PARTUUID={id} ro ");
        assert!(menu.find(&kernel).unwrap() < menu.find("vmlinuz-6.1.0-9-amd64").unwrap(), "{menu}");
        boot.remove("grub");
        boot.remove("");
        boot.remove("efi");
        let (boot_files, root_files): (BTreeMap<_, _>, BTreeMap<_, _>) =
            target.into_iter().partition(|(name, _)| name.starts_with("boot/"));
        assert_same(name, &root, &root_files);
        let boot_files = boot_files
            .into_iter()
            .filter(|(name, _)| !name.starts_with("boot/efi"))
            .map(|(name, line)| (name["boot/".len()..].to_owned(), line))
            .collect();
        assert_same(name, &boot, &boot_files);

        let esp = part(&disk, &table[1]);
        let shown = |file: &str| run("mtype", &["-i", esp.path().to_str().unwrap(), file]);
        assert_eq!(shown("::Vendor/A long Name.txt"), "firmware\n");
        let loader = Command::new("mtype")
            .args(["-i", esp.path().to_str().unwrap(), "::EFI/BOOT/BOOTX64.EFI"])
            .output()
            .unwrap();
        assert!(loader.stdout.starts_with(b"MZ"));
    }
}

#[test]
fn every_format_has_the_same_disk() {
    for (name, format) in [
        ("disk.qcow2", "qcow2"),
        ("disk.vmdk", "vmdk"),
        ("disk.vhd", "vpc"),
        ("disk.vhdx", "vhdx"),
        ("disk.vdi", "vdi"),
    ] {
        let (raw, other) = (output("disk.raw"), output(name));
        let files = [raw.to_str().unwrap(), other.to_str().unwrap()];
        run("qemu-img", &["compare", "-f", "raw", "-F", format, files[0], files[1]]);
        if ["qcow2", "vdi", "vmdk", "vhdx"].contains(&format) {
            run("qemu-img", &["check", "-f", format, files[1]]);
        }
        let info: Value =
            serde_json::from_str(&run("qemu-img", &["info", "--output=json", files[1]])).unwrap();
        assert_eq!(
            (&info["format"], &info["virtual-size"]),
            (&format.into(), &fs::metadata(&raw).unwrap().len().into())
        );
    }
}

#[test]
fn live_disks_have_what_live_media_have() {
    let disk = output("live-disk");
    let table = table(&disk);
    let boot = mounted(&disk, "ext4", offset(&table[2]));
    let live = mounted(&disk, "ext4", offset(&table[3]));
    assert!(live["live/boot.module"].contains(".squashfs\n"), "{:?}", live["live/boot.module"]);
    let sums = &live["md5sum.txt"];
    assert!(sums.contains("  ./live/boot.module\n") && !sums.contains("./boot/"), "{sums}");
    let id = live[".disk/live-uuid"].split(' ').nth(4).unwrap().trim();
    assert!(live.contains_key(&format!(".disk/{id}")), "{id} in {:?}", live.keys());
    assert!(boot["grub/grub.cfg"].contains("boot=live module=boot "), "{}", boot["grub/grub.cfg"]);
    // What the menu names is there, through a link as on a medium of one partition.
    assert!(boot["boot"].contains("link to ."), "{}", boot["boot"]);
    assert!(boot.keys().any(|it| it.ends_with("/vmlinuz-6.1.0-10-amd64")), "{:?}", boot.keys());
}
