//! What is removed, and what is not.

use super::*;

fn gc(project: &Project, args: &[&str]) -> Vec<String> {
    let done = json(project, &[&["store", "gc", "--json"], args].concat());
    let removed = done["result"]["removed"].as_array().unwrap();
    removed.iter().map(|it| it["hash"].as_str().unwrap().to_owned()).collect()
}

/// As if nobody had used anything for some days.
fn unused_for(project: &Project, days: u32) {
    for file in files(&project.store().join("info")) {
        let status =
            Command::new("touch").args(["-d", &format!("{days} days ago")]).arg(file).status().unwrap();
        assert!(status.success());
    }
}

#[test]
fn what_the_last_result_needs_stays() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let old = realize(&project, "top");
        rewrite(&project, "top.rapt", "FROM base\nWRITE \"new\\n\" /etc/layer\n");
        let new = realize(&project, "top");
        assert_eq!(gc(&project, &["--keep-last", "2"]), [""; 0]);
        assert_eq!(gc(&project, &["--dry-run"]), std::slice::from_ref(&old));
        assert!(trees(&project).contains(&old), "a dry run removes nothing");
        assert_eq!(gc(&project, &[]), std::slice::from_ref(&old));
        assert!(!project.store().join("trees").join(&old).exists());
        assert!(trees(&project).contains(&new));
        let report = json(&project, &["build", "--json", "top"]);
        assert_eq!(report["built"], 0, "{report}");
        verify(&project);
        assert_eq!(names(&project.store().join("tmp")), [""; 0]);
    }
}

#[test]
fn roots_end_with_their_project_and_their_result() {
    let project = project(As::Root);
    project.write("elsewhere/x.rapt", "WRITE \"x\" /x\n");
    let mut other = project.command(&["realize", "-q", "x"]);
    assert!(other.current_dir(project.path("elsewhere")).status().unwrap().success());
    realize(&project, "top");
    assert_eq!(gc(&project, &[]), [""; 0]);
    fs::remove_dir_all(project.path("elsewhere")).unwrap();
    let done = json(&project, &["store", "gc", "--json"]);
    assert_eq!(done["result"]["removed"].as_array().unwrap().len(), 1, "{done}");
    assert!(done["result"]["dropped_roots"][0].as_str().unwrap().ends_with("elsewhere: x"), "{done}");
    assert_eq!(trees(&project).len(), 3);
}

#[test]
fn age_and_size_bound_what_is_removed() {
    let project = project(As::Root);
    realize(&project, "top");
    fs::remove_dir_all(project.store().join("roots")).unwrap();
    assert_eq!(gc(&project, &["--older-than", "1d"]), [""; 0]);
    unused_for(&project, 3);
    assert_eq!(gc(&project, &["--older-than", "4d", "--dry-run"]), [""; 0]);
    assert_eq!(gc(&project, &["--max-size", "1M"]), [""; 0]);
    // Using one of them makes it young again: it goes last.
    let base = realize(&project, "base");
    fs::remove_dir_all(project.store().join("roots")).unwrap();
    let removed = gc(&project, &["--max-size", "13"]);
    assert!(!removed.is_empty() && !removed.contains(&base), "{removed:?}");
    let rest = gc(&project, &[]);
    assert!(rest.contains(&base), "{rest:?}");
    assert_eq!(trees(&project), [""; 0]);
    assert_eq!(project.run(&["store", "gc", "--max-size", "much"]).status, Some(2));
}

#[test]
fn what_a_running_process_uses_stays() {
    let project = project(As::Root);
    let top = realize(&project, "top");
    fs::remove_dir_all(project.store().join("roots")).unwrap();
    let store = raptor::store::Store::open(project.store()).unwrap();
    assert!(store.info(&top.parse().unwrap()).unwrap().is_some());
    assert_eq!(gc(&project, &[]).len(), 2);
    assert_eq!(trees(&project), std::slice::from_ref(&top));
    drop(store);
    assert_eq!(gc(&project, &[]), [top]);
    assert_eq!(names(&project.store().join("uses")), [""; 0]);
}

#[test]
fn leftovers_go() {
    let project = project(As::Root);
    let top = realize(&project, "top");
    let store = project.store();
    fs::create_dir_all(store.join("trees").join("5".repeat(64)).join("half")).unwrap();
    fs::write(store.join("trees/stray"), "").unwrap();
    fs::write(store.join("tmp/record-old"), "").unwrap();
    let held = fs::File::create(store.join("tmp/record-new")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    fs::create_dir_all(store.join("tmp/work-gone/sandbox")).unwrap();
    fs::write(store.join("tmp/work-gone.lock"), "").unwrap();
    fs::write(store.join("uses/process-gone"), format!("{}\n", "6".repeat(64))).unwrap();
    let touched = Command::new("touch").args(["-d", "1 hour ago"]).arg(store.join("tmp/record-old")).status();
    assert!(touched.unwrap().success());
    assert_eq!(gc(&project, &[]), [""; 0]);
    assert_eq!(names(&store.join("tmp")), ["record-new"]);
    assert_eq!(names(&store.join("trees")), trees(&project));
    assert_eq!(names(&store.join("uses")), [""; 0]);
    assert_eq!(names(&store.join("locks")), ["gc"]);
    assert_eq!(realize(&project, "top"), top);
}

#[test]
fn a_damaged_root_stops_the_collection() {
    let project = project(As::Root);
    realize(&project, "top");
    let root = files(&project.store().join("roots")).remove(0);
    fs::write(&root, "{}").unwrap();
    project.fails(&["store", "gc"], &["roots/", "damaged"]);
    assert_eq!(trees(&project).len(), 3);
    project.fails(&["store", "verify"], &["1 bad"]);
    assert_eq!(project.run(&["store", "repair"]).status, Some(1), "what it kept is lost");
    project.ok(&["store", "gc"]);
}
