//! Sandboxes from the outside. The root of all tests is the host's static busybox (package busybox-static).
//!
//! As root, everything runs a second time as the ordinary user `raptor-test`, who is added if missing.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
mod layers;
mod programs;
mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use layers::varied;
use world::{World, launcher};

const USER: &str = "raptor-test";

#[test]
fn as_ordinary_user() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let user = fs::read_to_string("/etc/passwd").unwrap().contains(&format!("{USER}:"));
    if !user {
        assert!(Command::new("useradd").args(["-m", USER]).status().unwrap().success());
    }
    // The build directory may be private to root.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (tests, exe) = (dir.path().join("tests"), dir.path().join("raptor"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(launcher().exe, &exe).unwrap();
    let hash = dir.path().join("hash");
    let output = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--init-groups"])
        .arg(&tests)
        .env("RAPTOR_TEST_EXE", &exe)
        .env("RAPTOR_TEST_HASH", &hash)
        .env_remove("TMPDIR")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read_to_string(hash).unwrap(), varied(&World::new()).to_string());
}
