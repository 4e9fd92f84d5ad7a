//! Flipped bits and lost files: verification finds them, builds do not use them, repair mends them.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// Flips one bit of a file and leaves its time as it was.
pub fn flip(file: &Path, bit: usize) {
    let mut bytes = fs::read(file).unwrap();
    let bits = bytes.len() * 8;
    bytes[bit % bits / 8] ^= 1 << (bit % 8);
    let time = fs::metadata(file).unwrap().modified().unwrap();
    fs::write(file, bytes).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

#[test]
fn every_flipped_bit_is_found_and_mended() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let top = realize(&project, "top");
        let all: Vec<PathBuf> = ["trees", "info", "realized", "drv", "roots"]
            .iter()
            .flat_map(|dir| files(&project.store().join(dir)))
            .collect();
        assert!(all.len() > 12);
        for (idx, file) in all.iter().enumerate() {
            flip(file, 7 * idx + 3);
            let ran = project.run(&["store", "verify"]);
            assert_eq!(ran.status, Some(1), "{} was not found:\n{}", file.display(), ran.stderr);
            let part = file.strip_prefix(project.store()).unwrap().components().nth(1).unwrap();
            let name = Path::new(part.as_os_str()).file_stem().unwrap().to_str().unwrap();
            assert!(ran.stdout.contains(name), "{name} is not in:\n{}", ran.stdout);
            let ran = project.run(&["store", "repair"]);
            let is_root = file.starts_with(project.store().join("roots"));
            assert_eq!(
                ran.status,
                Some(i32::from(is_root)),
                "{}:\n{}{}",
                file.display(),
                ran.stdout,
                ran.stderr
            );
            assert_eq!(realize(&project, "top"), top, "{}", file.display());
            verify(&project);
        }
    }
}

#[test]
fn changed_metadata_is_found() {
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let changes: &[Change] = &[
        ("mode", &|tree| {
            fs::set_permissions(tree.join("srv/more"), fs::Permissions::from_mode(0o755)).unwrap()
        }),
        ("owner", &|tree| std::os::unix::fs::chown(tree.join("etc"), Some(1), None).unwrap()),
        ("time", &|tree| raptor::store::set_mtime(&tree.join("etc/layer"), 5).unwrap()),
        ("name", &|tree| fs::rename(tree.join("srv/more"), tree.join("srv/less")).unwrap()),
        ("kind", &|tree| {
            fs::remove_file(tree.join("srv/more")).unwrap();
            symlink("x", tree.join("srv/more")).unwrap();
        }),
        ("all", &|tree| fs::remove_dir_all(tree).unwrap()),
    ];
    let project = project(As::Root);
    let top = realize(&project, "top");
    let tree = project.store().join("trees").join(&top);
    for (what, change) in changes {
        change(&tree);
        let found = project.run(&["store", "verify", "--json"]);
        assert_eq!(found.status, Some(1), "{what}");
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!(found["bad"][0]["hash"], top.as_str(), "{what}: {found}");
        // A build does not use it, and makes it again.
        let report = json(&project, &["build", "--json", "top"]);
        assert_eq!(report["built"], 1, "{what}: {report}");
        assert_eq!(realize(&project, "top"), top);
        verify(&project);
    }
}

#[test]
fn what_nobody_can_make_is_lost() {
    let project = project(As::Root);
    let top = realize(&project, "top");
    project.ok(&["store", "export", "--only", "-o", "archive", "top"]);
    let other = Project::new(&[]).with_empty_store();
    other.ok(&["store", "import", project.path("archive").to_str().unwrap()]);
    fs::write(other.store().join("trees").join(&top).join("etc/layer"), "bad\n").unwrap();
    let ran = other.run(&["store", "repair"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains(&format!("lost {top}: nobody knows what made it")), "{}", ran.stdout);
    other.fails(&["store", "cat", &top, "etc/layer"], &["neither a tree nor a result"]);
}

#[test]
fn a_source_comes_back_from_its_file_unless_that_changed() {
    let project = project(As::Root);
    realize(&project, "top");
    let trees = project.store().join("trees");
    let depth = |file: &Path| file.strip_prefix(&trees).unwrap().components().count();
    let source = files(&trees).into_iter().find(|it| it.ends_with("one") && depth(it) == 2).unwrap();
    flip(&source, 1);
    let ran = project.run(&["store", "repair"]);
    assert!(
        ran.status == Some(0) && ran.stdout.contains("imported from its project again"),
        "{}",
        ran.stderr
    );
    flip(&source, 1);
    project.write("data/one", "changed\n");
    let ran = project.run(&["store", "repair"]);
    assert!(ran.status == Some(1) && ran.stdout.contains("its file changed or is gone"), "{}", ran.stdout);
}
