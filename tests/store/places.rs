//! Other stores: newer, read-only, below another one, full.

use super::*;

#[test]
fn newer_stores_and_other_directories_are_refused() {
    let project = project(As::Root);
    realize(&project, "top");
    fs::write(project.store().join("version"), "2\n").unwrap();
    project.fails(&["build", "top"], &["format 2", "up to 1"]);
    project.fails(&["store", "ls"], &["format 2"]);
    fs::write(project.store().join("version"), "0\n").unwrap();
    project.fails(&["store", "ls"], &["version"]);
    project.fails(&["store", "ls", "--store", "data"], &["neither empty nor a raptor store"]);
    project.fails(&["build", "top", "--store-lower", "nothing"], &["there is no store nothing"]);
}

#[test]
fn read_only_stores_are_read() {
    let project = project(As::Root);
    let top = realize(&project, "top");
    let store = project.store().to_str().unwrap();
    mount(&["--bind", store], project.store());
    let _mounted = Mounted(project.store().to_path_buf());
    mount(&["-o", "remount,bind,ro"], project.store());
    assert_eq!(realize(&project, "top"), top);
    assert_eq!(project.ok(&["store", "cat", "top", "etc/layer"]), "top\n");
    verify(&project);
    project.write("top.rapt", "FROM base\nWRITE \"other\" /x\n");
    project.fails(&["build", "top"], &["can only be read", "--store-lower"]);
    project.fails(&["store", "gc"], &["can only be read"]);
    // Above it, builds go on; nothing that it has is copied.
    let above = ["--store", "above", "--store-lower", store];
    let report = json(&project, &[&["build", "--json", "top"][..], &above].concat());
    assert_eq!((&report["built"], &report["reused"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(names(&project.path("above/trees")).len(), 1);
}

#[test]
fn trees_of_lower_stores_are_used_in_place() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let base = realize(&project, "base");
        let lower = project.store().to_str().unwrap();
        let before = files(project.store());
        let above = ["--store", "above", "--store-lower", lower];
        let report = json(&project, &[&["build", "--json", "top"][..], &above].concat());
        assert_eq!(report["built"], 1, "{report}");
        assert_eq!(files(project.store()), before, "nothing is written to the lower store");
        let own = names(&project.path("above/trees"));
        assert!(own.len() == 1 && own[0] != base, "{own:?}");
        let path = project.ok(&[&["store", "path", &base][..], &above].concat());
        assert!(path.starts_with(lower), "{path}");
        let mut command = project.command(&["build", "--json", "top", "--store", "above"]);
        let ran = common::ran(command.env("RAPTOR_STORE_LOWER", lower).output().unwrap());
        assert!(ran.stdout.contains("\"built\":0"), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let project = project(As::Root);
    project.write("big", &"x".repeat(6 << 20));
    project.write("full.rapt", "FROM base\nCOPY big /big\n");
    fs::create_dir(project.store()).unwrap();
    fs::set_permissions(project.store(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"], project.store());
    let _mounted = Mounted(project.store().to_path_buf());
    let ran = project.fails(&["build", "full"], &["No space left on device", "store gc"]);
    assert!(!ran.stderr.contains("bug"), "{}", ran.stderr);
    verify(&project);
    assert_eq!(names(&project.store().join("tmp")), [""; 0]);
    assert_eq!(names(&project.store().join("trees")), trees(&project));
    mount(&["-o", "remount,size=64m"], project.store());
    let full = realize(&project, "full");
    assert_eq!(project.ok(&["store", "cat", &full, "big"]).len(), 6 << 20);
    verify(&project);
}
