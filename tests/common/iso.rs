//! The ISO of examples/live, and disks of the same systems, built once for all tests.

use std::fs;
use std::path::{Path, PathBuf};

use super::{As, Project, scratch};

/// A copy of examples/live.
pub fn project(who: As) -> Project {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/live");
    let project = Project::of(who, &[]);
    for entry in fs::read_dir(example).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if matches!(path.extension().and_then(|it| it.to_str()), Some("lock" | "iso")) {
            continue;
        }
        project.write(name, &fs::read_to_string(&path).unwrap());
    }
    project
}

/// Where the built ISO and its lock are kept.
pub fn dir() -> PathBuf {
    scratch().join("iso")
}

/// The ISO, built as root in the shared store; its lock lies beside it.
pub fn built() -> PathBuf {
    let iso = dir().join("debian-live.iso");
    let guard = fs::File::create(scratch().join("iso-lock")).unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !iso.exists() {
        let project = project(As::Root);
        project.write("Raptor.lock", &super::shared_lock());
        project.ok(&["make", "debian-live"]);
        fs::create_dir_all(dir()).unwrap();
        fs::copy(project.path("Raptor.lock"), dir().join("Raptor.lock")).unwrap();
        let temp = dir().join("new.iso");
        fs::copy(project.path("debian-live.iso"), &temp).unwrap();
        fs::rename(temp, &iso).unwrap();
    }
    iso
}

/// Jobs for disks of what the ISO has. The same disk in two formats, so that each is started once.
const DISKS: &str = r#"
[run."disk.raw"]
target = "$std.disk-image"
input = "live"
output = "disks/disk.raw"
env = { BOOT_MB = "96", FREE_MB = "64", GRUB_TIMEOUT = "1" }

[run."disk.qcow2"]
target = "$std.disk-image"
input = "live"
output = "disks/disk.qcow2"
env = { BOOT_MB = "96", FREE_MB = "64", GRUB_TIMEOUT = "1", OUTPUT_FORMAT = "qcow2" }

[run."live.raw"]
target = "$std.live-disk-image"
input = ["live"]
output = "disks/live.raw"
env = { BOOT_MB = "96", FREE_MB = "64", GRUB_TIMEOUT = "1" }
"#;

/// A directory with the disks, built as root in the shared store.
pub fn disks() -> PathBuf {
    built();
    let dir = scratch().join("disks");
    let guard = fs::File::create(scratch().join("disks-lock")).unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !dir.exists() {
        let project = project(As::Root);
        project.write("Raptor.toml", DISKS);
        project.write("Raptor.lock", &fs::read_to_string(self::dir().join("Raptor.lock")).unwrap());
        project.ok(&["make"]);
        fs::rename(project.path("disks"), &dir).unwrap();
    }
    dir
}
