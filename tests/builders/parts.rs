//! Tar files and file systems of a target.

use std::path::Path;

use super::*;
use common::mount::{Mounted, mount};

/// What the kernel finds in a file system, at an offset of a file.
pub fn mounted(image: &Path, kind: &str, offset: u64) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    // A journal that is to be replayed would be an error.
    let options = match kind {
        "ext4" => ",noload",
        "xfs" => ",norecovery",
        _ => "",
    };
    let options = format!("loop,ro,offset={offset}{options}");
    mount(&["-t", kind, "-o", &options, image.to_str().unwrap()], dir.path());
    let mounted = Mounted(dir.path().to_path_buf());
    let mut found = list(dir.path());
    drop(mounted);
    found.remove("lost+found");
    found
}

#[test]
fn tar_files_have_the_target() {
    let expected = expected("top");
    for name in ["tar", "tar.gz"] {
        let dir = tempfile::tempdir().unwrap();
        let args =
            ["--extract", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*", "--file"];
        run(
            "tar",
            &[&args[..], &[output(name).to_str().unwrap(), "-C", dir.path().to_str().unwrap()]].concat(),
        );
        assert_same(name, &list(dir.path()), &expected);
    }
}

#[test]
fn file_systems_have_the_target() {
    let expected = expected("top");
    assert!(expected["usr/bin/ping"].contains("security.capability"), "{}", expected["usr/bin/ping"]);
    for kind in ["ext4", "btrfs", "squashfs", "erofs"] {
        let mut found = mounted(&output(kind), kind, 0);
        if kind == "btrfs" {
            // mkfs.btrfs makes its top directory by itself.
            let root = found.insert(String::new(), expected[""].clone()).unwrap();
            assert!(root.starts_with("755 (0, 0) "), "{root}");
        }
        assert_same(kind, &found, &expected);
    }
}

#[test]
fn xfs_has_the_target_but_for_hard_links() {
    let mut expected = expected("plain");
    assert!(expected["usr/bin/ping6"].ends_with(" = usr/bin/ping"), "{expected:?}");
    for line in expected.values_mut() {
        *line = line.split(" = ").next().unwrap().to_owned();
    }
    assert_same("xfs", &mounted(&output("xfs"), "xfs", 0), &expected);
}

#[test]
fn file_systems_are_sound() {
    let path = |name: &str| output(name).to_str().unwrap().to_owned();
    run("/sbin/e2fsck", &["-f", "-n", &path("ext4")]);
    run("/sbin/xfs_repair", &["-n", &path("xfs")]);
    run("btrfs", &["check", "--readonly", &path("btrfs")]);
    run("fsck.erofs", &["--extract", &path("erofs")]);
    run("unsquashfs", &["-lln", &path("squashfs")]);

    let header = run("/sbin/dumpe2fs", &["-h", &path("ext4")]);
    assert!(header.contains("Filesystem volume name:   some-label\n"), "{header}");
    // Free space is as asked for, and a little more.
    let number = |name: &str| -> u64 {
        let line = header.lines().find(|it| it.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let free = (number("Free blocks:") - number("Reserved block count:")) * number("Block size:");
    assert!((8 << 20..80 << 20).contains(&free), "{free}");
}

#[test]
fn layers_as_erofs_have_whiteouts() {
    let dir = output("erofs-layers");
    let found: Vec<BTreeMap<String, String>> = layers_of(&dir)
        .iter()
        .map(|name| {
            let file = dir.join(name);
            run("fsck.erofs", &["--extract", file.to_str().unwrap()]);
            let list = run("dump.erofs", &["--path=/etc/gone", file.to_str().unwrap()]);
            BTreeMap::from([(name.clone(), list)])
        })
        .collect();
    // The image has a layer that deletes /etc/gone, and one that brings it back.
    let whiteouts = found
        .iter()
        .flat_map(BTreeMap::values)
        .filter(|it| it.contains("char dev") && it.contains("Links: 1 "))
        .count();
    assert_eq!(whiteouts, 1, "{found:#?}");
}

/// Names of the files of layers in a directory.
fn layers_of(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|it| it != "raptor.json").collect();
    names.sort();
    names
}
