//! The golden vectors of `spec/vectors/`: ids and hashes that must never change by accident.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use raptor::derivation::{Derivation, DrvId, canonical_json};
use raptor::store::set_mtime;
use raptor::tree::{Owner, hash_tree};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;

fn vectors(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors").join(name);
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn derivations_keep_their_ids() {
    for vector in vectors("derivation.json") {
        let name = vector["name"].as_str().unwrap();
        let derivation: Derivation<DrvId> = serde_json::from_value(vector["derivation"].clone()).unwrap();
        assert_eq!(canonical_json(&derivation).unwrap(), vector["canonical"].as_str().unwrap(), "{name}");
        assert_eq!(derivation.id().to_string(), vector["id"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn trees_keep_their_hashes() {
    for vector in vectors("tree.json") {
        let name = vector["name"].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let nodes = vector["nodes"].as_array().unwrap();
        nodes.iter().for_each(|node| make(&root, node));
        // Making an entry changes the time of its directory, so times come last.
        nodes
            .iter()
            .rev()
            .for_each(|node| set_mtime(&path(&root, node), node["mtime"].as_i64().unwrap_or(0)).unwrap());
        let info = hash_tree(&root, Owner::AsSeen).unwrap();
        assert_eq!(info.hash.to_string(), vector["hash"].as_str().unwrap(), "{name}");
    }
}

fn path(root: &Path, node: &Value) -> PathBuf {
    match node["path"].as_str().unwrap() {
        "" => root.to_path_buf(),
        path => root.join(path),
    }
}

/// Makes one node; owners and devices need root, as all tests that make images do.
fn make(root: &Path, node: &Value) {
    let path = path(root, node);
    let text = |field: &str| node[field].as_str().unwrap();
    match text("type") {
        "dir" => fs::create_dir(&path).unwrap(),
        "file" => fs::write(&path, text("content")).unwrap(),
        "symlink" => symlink(text("target"), &path).unwrap(),
        "hardlink" => return fs::hard_link(root.join(text("target")), &path).unwrap(),
        "fifo" => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::empty(), 0).unwrap(),
        "whiteout" => {
            return rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }
        "char" => {
            let device = rustix::fs::makedev(u("major", node), u("minor", node));
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), device).unwrap();
        }
        other => panic!("unknown type {other}"),
    }
    lchown(&path, Some(u("uid", node)), Some(u("gid", node))).unwrap();
    if text("type") != "symlink" {
        let mode = u32::from_str_radix(text("mode"), 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, value) in node["xattrs"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().as_bytes();
        rustix::fs::lsetxattr(&path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
}

fn u(field: &str, node: &Value) -> u32 {
    u32::try_from(node[field].as_u64().unwrap_or(0)).unwrap()
}
