//! The example's ISO: built as root and as an ordinary user from empty stores, compared, and rebuilt after a change.
//! The boot tests start what is built here.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{As, iso};

#[test]
fn root_and_an_ordinary_user_make_the_same_iso() {
    let of_root = iso::built();
    // Another user, another store, another time zone, another mask, one job at a time.
    let project = iso::project(As::User).with_empty_store();
    project.write("Raptor.lock", &fs::read_to_string(of_root.with_file_name("Raptor.lock")).unwrap());
    let mut command = project.command(&["make", "--locked", "-j1", "debian-live"]);
    let output = command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").output().unwrap();
    let ran = common::ran(output);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_same(&of_root, &project.path("debian-live.iso"));
}

#[test]
fn after_a_change_only_what_it_touches_is_built() {
    iso::built();
    let project = iso::project(As::Root);
    project.write("Raptor.lock", &fs::read_to_string(iso::dir().join("Raptor.lock")).unwrap());
    project.ok(&["make", "--locked"]);

    let begin = Instant::now();
    let report: serde_json::Value =
        serde_json::from_str(&project.ok(&["make", "--locked", "--json"])).unwrap();
    let elapsed = begin.elapsed();
    assert_eq!(report["built"], 0, "{report}");
    println!("nothing changed: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "a build of nothing took {elapsed:?}");

    let ssh = project.read("ssh.rapt");
    project.write("ssh.rapt", &format!("{ssh}WRITE \"changed\\n\" /etc/changed\n"));
    let begin = Instant::now();
    let ran = project.run(&["make", "--locked"]);
    println!("one layer changed: {:?}", begin.elapsed());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let built: Vec<&str> =
        ran.stderr.lines().filter_map(|line| line.split_once("] built ")?.1.split(' ').next()).collect();
    // `live` has the same steps on another parent; its own tree, and so its squashfs, stays the same.
    assert_eq!(sorted(built), ["debian-live", "live", "squashfs-ssh", "ssh"], "{}", ran.stderr);
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

fn assert_same(a: &Path, b: &Path) {
    let read = |path: &Path| -> (PathBuf, Vec<u8>) { (path.to_path_buf(), fs::read(path).unwrap()) };
    let ((_, a), (_, b)) = (read(a), read(b));
    let differs = a.iter().zip(&b).position(|(a, b)| a != b);
    assert!(
        a.len() == b.len() && differs.is_none(),
        "{} and {} bytes, first difference at {differs:?}",
        a.len(),
        b.len()
    );
}
