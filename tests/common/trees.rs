//! Trees of layers as a test sees them: in the store, on one another, and as another tool unpacks them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Project;

/// Paths in the store of all layers of a target, bottom first.
pub fn layers(project: &Project, target: &str) -> Vec<PathBuf> {
    let shown: serde_json::Value = serde_json::from_str(&project.ok(&["show", "--json", target])).unwrap();
    project.ok(&["build", target]);
    let ids = shown["targets"][0]["layers"].as_array().unwrap().iter();
    let ids: Vec<String> = ids.map(|it| it["derivation"].as_str().unwrap().to_owned()).collect();
    let args: Vec<&str> = ["realize"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    project.ok(&args).lines().map(PathBuf::from).collect()
}

/// Everything of a tree, by path; hard links are told by the first of their names.
pub fn list(root: &Path) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut paths = vec![root.to_path_buf()];
    let mut todo = paths.clone();
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut inodes = BTreeMap::new();
    for path in paths {
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let what = match kind {
            kind if kind.is_symlink() => format!("link to {}", fs::read_link(&path).unwrap().display()),
            kind if kind.is_dir() => "directory".into(),
            kind if kind.is_fifo() => "fifo".into(),
            _ => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
        };
        let first = inodes.entry((stat.dev(), stat.ino())).or_insert_with(|| name.clone()).clone();
        let mode = if kind.is_symlink() { 0 } else { stat.mode() & 0o7777 };
        let xattrs = raptor::tree::xattrs(&path, raptor::tree::xattr_counts).unwrap();
        let owner = (stat.uid(), stat.gid());
        let mut line = format!("{mode:o} {owner:?} {} {what} {xattrs:?}", stat.mtime());
        if !kind.is_dir() && first != name {
            line += &format!(" = {first}");
        }
        entries.insert(name, line);
    }
    entries
}

/// The merged view of layers, as long as `look` looks at it.
pub fn merged<T>(layers: &[PathBuf], look: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let (empty, merged) = (dir.path().join("empty"), dir.path().join("merged"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&merged).unwrap();
    let lower: Vec<_> = layers.iter().rev().chain([&empty]).map(|it| it.display().to_string()).collect();
    let mount = ["-t", "overlay", "none", "-o"].map(String::from).into_iter();
    let mount = mount.chain([format!("lowerdir={}", lower.join(":")), merged.display().to_string()]);
    assert!(Command::new("mount").args(mount).status().unwrap().success());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&merged)));
    assert!(Command::new("umount").arg(&merged).status().unwrap().success());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The root of an image in a layout of the project (`NAME:TAG`), as umoci unpacks it.
pub fn umoci(project: &Project, image: &str) -> PathBuf {
    let bundle = project.path("bundle");
    let umoci = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(project.path(image))
        .arg(&bundle)
        .output()
        .expect("package umoci is needed");
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    bundle.join("rootfs")
}
