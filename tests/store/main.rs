//! The store as users meet it: `raptor store`, several stores, full disks, kills, as root and as an ordinary user.
//!
//! The images here have no base, so that they are built in milliseconds.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod crash;
mod damage;
mod faults;
mod garbage;
mod look;
mod origin;
mod places;
mod reflink;
mod repair;
mod storms;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::mount::{Mounted, mount};
use common::{As, Project};
use serde_json::Value;

/// Two layers and a project file.
const FILES: &[(&str, &str)] = &[
    (
        "base.rapt",
        "MKDIR /etc\nWRITE --chmod 600 --chown 7:8 \"base\\n\" /etc/layer\nMKDIR /srv\nCOPY data /srv/data\n",
    ),
    ("top.rapt", "FROM base\nWRITE \"top\\n\" /etc/layer\nWRITE \"more\\n\" /srv/more\n"),
    ("data/one", "1\n"),
    ("data/two", "2\n"),
];

fn project(who: As) -> Project {
    Project::of(who, FILES).with_empty_store()
}

fn json(project: &Project, args: &[&str]) -> Value {
    serde_json::from_str(&project.ok(args)).unwrap()
}

/// The hash of what a target is built to.
fn realize(project: &Project, target: &str) -> String {
    project.ok(&["realize", "-q", target]).trim().rsplit('/').next().unwrap().to_owned()
}

/// Hashes of all registered trees.
fn trees(project: &Project) -> Vec<String> {
    let list = json(project, &["store", "ls", "--json"]);
    list["trees"].as_array().unwrap().iter().map(|it| it["hash"].as_str().unwrap().to_owned()).collect()
}

/// Changes a file and leaves its owner: giving the whole project to somebody would give away the files of the store.
fn rewrite(project: &Project, path: &str, content: &str) {
    fs::write(project.path(path), content).unwrap();
}

/// Whether everything that is registered is right.
fn verify(project: &Project) {
    let ran = project.run(&["store", "verify"]);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
}

/// Unmounts an image, and waits for namespaces of others that began with a copy of the mount.
fn unmount(at: &Path, image: &Image) {
    assert!(Command::new("umount").arg(at).status().unwrap().success());
    let in_use = || {
        fs::read_dir("/sys/block").unwrap().flatten().any(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            file.trim_end() == image.path()
        })
    };
    let begin = std::time::Instant::now();
    while in_use() {
        assert!(begin.elapsed().as_secs() < 120, "somebody still uses {}", image.path());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A file with a file system in it.
struct Image(PathBuf);

impl Image {
    fn at(path: PathBuf, mkfs: &str, size: u64) -> Image {
        // Never the file of the last one, which may still be in use.
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        let made =
            Command::new(mkfs).arg("-q").arg(&path).output().expect("e2fsprogs, xfsprogs, btrfs-progs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Image(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// All files below a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => todo.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}
