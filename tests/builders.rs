//! The builders of the standard library: the same bytes for everybody, and in them what the target has, as other
//! programs see it.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "builders/containers.rs"]
mod containers;
#[path = "builders/disks.rs"]
mod disks;
#[path = "builders/pages.rs"]
mod pages;
#[path = "builders/parameters.rs"]
mod parameters;
#[path = "builders/parts.rs"]
mod parts;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::oci::{Layout, varied};
use common::trees::{layers, list, merged};
use common::{As, Project, scratch};

/// Targets without any program: an image of somebody else, names that are hard to write, and what disks need.
const TARGETS: &[(&str, &str)] = &[
    ("image.rapt", "FROM oci:img\n"),
    (
        "top.rapt",
        "FROM image\nMKDIR -p \"/srv/two  words/sub\"\nWRITE \"it's\\n\" \"/srv/two  words/a \\\"b\\\" $c\\\\d\"\n\
         WRITE \"x\\n\" \"/srv/-n\"\nWRITE --chown 1000:2000 --chmod 4711 \"\" \"/srv/*[x]?\"\n",
    ),
    (
        "boot.rapt",
        "FROM top\nMKDIR -p /boot/efi/Vendor\nMKDIR -p /usr/bin\nWRITE \"live\\n\" /usr/bin/live-boot\n\
         WRITE \"kernel 9\\n\" /boot/vmlinuz-6.1.0-9-amd64\nWRITE \"initrd 9\\n\" /boot/initrd.img-6.1.0-9-amd64\n\
         WRITE \"kernel 10\\n\" /boot/vmlinuz-6.1.0-10-amd64\nWRITE \"initrd 10\\n\" /boot/initrd.img-6.1.0-10-amd64\n\
         WRITE \"firmware\\n\" \"/boot/efi/Vendor/A long Name.txt\"\nWRITE \"tmpfs /tmp tmpfs defaults 0 0\\n\" /etc/fstab\n",
    ),
    // Without what XFS file systems cannot have here.
    ("plain.rapt", "FROM image\nWRITE \"it's\\n\" \"/etc/\\\"b\\\"$c\"\n"),
    // What builders make of one layer.
    (
        "erofs-layers.rapt",
        "FROM $std.lib.tools\nMOUNT --layers --each $std.erofs input /input\nMOUNT --simple output /output\n\
         CMD \"cp /input/* /output\"\n",
    ),
];

/// Name, builder, input, environment.
type Job = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The output of a job has its name.
const JOBS: &[Job] = &[
    ("tar", "tar", "top", &[]),
    ("tar.gz", "tar", "top", &[("COMPRESSION", "gzip")]),
    ("docker", "docker-image", "top\", \"boot", containers::DOCKER),
    ("oci", "docker-image", "top", containers::OCI),
    ("oci-zstd", "docker-image", "top", &[("FORMAT", "oci"), ("COMPRESSION", "zstd")]),
    ("ext4", "part-image", "top", &[("FREE_MB", "8"), ("LABEL", "some-label")]),
    ("btrfs", "part-image", "top", &[("ROOT_FS", "btrfs"), ("FREE_MB", "8")]),
    ("xfs", "part-image", "plain", &[("ROOT_FS", "xfs"), ("FREE_MB", "8"), ("LABEL", "x")]),
    ("squashfs", "part-image", "top", &[("ROOT_FS", "squashfs")]),
    ("erofs", "part-image", "top", &[("ROOT_FS", "erofs")]),
    ("disk.raw", "disk-image", "boot", disks::SMALL),
    ("disk.btrfs", "disk-image", "boot", &[("ROOT_FS", "btrfs"), ("BOOT_MB", "16"), ("FREE_MB", "8")]),
    ("disk.qcow2", "disk-image", "boot", disks::QCOW2),
    ("disk.vmdk", "disk-image", "boot", disks::VMDK),
    ("disk.vhd", "disk-image", "boot", disks::VHD),
    ("disk.vhdx", "disk-image", "boot", disks::VHDX),
    ("disk.vdi", "disk-image", "boot", disks::VDI),
    ("live-disk", "live-disk-image", "boot", disks::SMALL),
];

fn manifest() -> String {
    let mut text = String::from(
        "[run.erofs-layers]\ntarget = \"erofs-layers\"\ninput = [\"top\"]\noutput = \"erofs-layers\"\n",
    );
    for (name, builder, input, env) in JOBS {
        let input = if builder.ends_with("-image") && !matches!(*builder, "part-image" | "disk-image") {
            format!("[\"{input}\"]")
        } else {
            format!("\"{input}\"")
        };
        text += &format!(
            "[run.\"{name}\"]\ntarget = \"$std.{builder}\"\ninput = {input}\noutput = \"out/{name}\"\n"
        );
        for (key, value) in *env {
            text += &format!("env.{key} = {value:?}\n");
        }
    }
    text
}

/// A project with the targets.
fn project(who: As) -> Project {
    let project = Project::debian(who, TARGETS);
    Layout::new(&project.path("img")).only(&varied());
    project.own();
    project
}

/// The directory with what all jobs make, made once for all tests.
fn made(who: As) -> PathBuf {
    let dir = scratch().join(format!("builders-{who:?}"));
    let guard = fs::File::create(scratch().join(format!("builders-{who:?}-lock"))).unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !dir.exists() {
        let project = project(who);
        project.write("Raptor.toml", &manifest());
        let mut command = match who {
            As::Root => project.command(&["make", "--keep-going"]),
            // Nothing that differs between them may be seen.
            As::User => {
                project
                    .write("Raptor.lock", &fs::read_to_string(made(As::Root).join("Raptor.lock")).unwrap());
                let mut command = project.command(&["make", "--locked", "-j1"]);
                command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8");
                command
            }
        };
        let ran = common::ran(command.output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        fs::rename(project.path("erofs-layers"), project.path("out/erofs-layers")).unwrap();
        fs::rename(project.path("Raptor.lock"), project.path("out/Raptor.lock")).unwrap();
        fs::rename(project.path("out"), &dir).unwrap();
    }
    dir
}

/// Something that root's jobs made.
fn output(name: &str) -> PathBuf {
    made(As::Root).join(name)
}

/// What a target has.
fn expected(target: &str) -> BTreeMap<String, String> {
    merged(&layers(&project(As::Root), target), list)
}

/// Compares what is found with what has to be there, entry by entry.
fn assert_same(what: &str, found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    for (name, line) in expected {
        assert_eq!(found.get(name), Some(line), "{what}: /{name}");
    }
    let more: Vec<_> = found.keys().filter(|it| !expected.contains_key(*it)).collect();
    assert!(more.is_empty(), "{what}: {more:?}");
}

/// Runs a program that must succeed; its standard output.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|err| panic!("{program}: {err}"));
    let ran = common::ran(output);
    assert_eq!(ran.status, Some(0), "{program} {args:?}:\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

#[test]
fn root_and_an_ordinary_user_make_the_same() {
    let (root, user) = (made(As::Root), made(As::User));
    let layers: Vec<PathBuf> = fs::read_dir(root.join("erofs-layers"))
        .unwrap()
        .map(|it| it.unwrap().path().strip_prefix(&root).unwrap().to_path_buf())
        .filter(|it| it.file_name().unwrap() != "raptor.json")
        .collect();
    assert_eq!(layers.len(), 5, "{layers:?}");
    for name in JOBS.iter().map(|it| PathBuf::from(it.0)).chain(layers) {
        same_bytes(&root.join(&name), &user.join(&name));
    }
}

/// Fails with the first byte that differs. Neither file is held in memory.
fn same_bytes(a: &Path, b: &Path) {
    let open = |path: &Path| std::io::BufReader::with_capacity(1 << 20, fs::File::open(path).unwrap());
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(length(a), length(b), "{} and {} differ in length", a.display(), b.display());
    let (mut left, mut right) = (open(a), open(b));
    let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < length(a) {
        let n = usize::try_from((length(a) - at).min(1 << 20)).unwrap();
        left.read_exact(&mut one[..n]).unwrap();
        right.read_exact(&mut two[..n]).unwrap();
        if let Some(differs) = one[..n].iter().zip(&two[..n]).position(|(a, b)| a != b) {
            panic!("{} and {} differ at byte {}", a.display(), b.display(), at as usize + differs);
        }
        at += n as u64;
    }
}
