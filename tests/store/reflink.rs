//! Sharing on file systems where files can have the same blocks.

use super::*;

/// Equal files in two trees, and free space before and after `raptor store optimise`.
fn shares_blocks(mkfs: &str) {
    let text: String = (0..150_000).map(|it| format!("{it}\\n")).collect();
    let module = |name: &str| format!("WRITE \"{text}\" /same\nWRITE --chmod 600 \"{text}\" /{name}\n");
    let project =
        Project::of(As::Root, &[("a.rapt", &module("a")), ("b.rapt", &module("b"))]).with_empty_store();
    let image = Image::at(project.path("image"), mkfs, 400 << 20);
    fs::create_dir(project.store()).unwrap();
    mount(&["-o", "loop", image.path()], project.store());
    let _mounted = Mounted(project.store().to_path_buf());
    let (a, b) = (realize(&project, "a"), realize(&project, "b"));
    let free = || {
        assert!(Command::new("sync").arg("-f").arg(project.store()).status().unwrap().success());
        let stat = rustix::fs::statvfs(project.store()).unwrap();
        stat.f_bfree * stat.f_frsize
    };
    let (size, before) =
        (fs::metadata(project.store().join("trees").join(&a).join("same")).unwrap().len(), free());
    let done = json(&project, &["store", "optimise", "--json"]);
    // Mode and name do not matter to blocks.
    assert_eq!((&done["reflinked"], &done["linked"]), (&3.into(), &0.into()), "{done}");
    assert_eq!(done["saved"], 3 * size);
    assert!(free() >= before + 2 * size, "{before} bytes were free, now {}", free());
    verify(&project);
    for file in files(&project.store().join("trees")) {
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&file).unwrap()), 1);
    }
    assert_eq!((realize(&project, "a"), realize(&project, "b")), (a.clone(), b.clone()));
    // A copy shares as well, and writing to it changes no tree.
    let copy = project.path("own-store/copy");
    assert!(
        Command::new("cp")
            .arg("--reflink=always")
            .arg(project.store().join("trees").join(&a).join("same"))
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    fs::write(&copy, "other").unwrap();
    fs::remove_file(&copy).unwrap();
    verify(&project);
}

#[test]
fn xfs_shares_blocks() {
    shares_blocks("mkfs.xfs");
}

#[test]
fn btrfs_shares_blocks() {
    shares_blocks("mkfs.btrfs");
}
