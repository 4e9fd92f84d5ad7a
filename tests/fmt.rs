//! `raptor fmt`, end to end: what it changes, what it prints, and its status.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;

use common::{As, Project};

const UGLY: &str = "RUN   a\n";
const TIDY: &str = "RUN a\n";

#[test]
fn standard_library_and_examples_are_formatted() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Project::new(&[]).command(&["fmt", "--check", "stdlib", "examples"]);
    let ran = common::ran(command.current_dir(root).output().unwrap());
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
}

#[test]
fn all_source_files_of_a_project_are_formatted() {
    let project = Project::new(&[
        ("b.rapt", UGLY),
        ("a/c.rinc", UGLY),
        ("a/tidy.rapt", TIDY),
        ("a/other.txt", UGLY),
        (".git/x.rapt", UGLY),
    ])
    .with_empty_store();
    fs::create_dir(project.store()).unwrap();
    fs::write(project.store().join("x.rapt"), UGLY).unwrap();
    fs::create_dir(project.path("linked")).unwrap();
    symlink("a", project.path("linked/dir")).unwrap();
    symlink("../a/other.txt", project.path("linked/file.rapt")).unwrap();

    let ran = project.run(&["-n", "fmt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("Would format b.rapt\nWould format a/c.rinc\n"), "{}", ran.stderr);
    assert_eq!(project.read("b.rapt"), UGLY);

    let ran = project.run(&["fmt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("Formatted b.rapt\nFormatted a/c.rinc\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("tidy"), "{}", ran.stderr);
    assert_eq!(project.read("b.rapt"), TIDY);
    assert_eq!(project.read("a/c.rinc"), TIDY);
    for untouched in ["a/other.txt", ".git/x.rapt", "own-store/x.rapt"] {
        assert_eq!(project.read(untouched), UGLY, "{untouched}");
    }
    assert_eq!(project.run(&["fmt"]).stderr, "");
}

#[test]
fn check_and_diff_change_nothing() {
    let project = Project::new(&[("a.rapt", UGLY), ("b.rapt", TIDY)]);
    let ran = project.run(&["fmt", "--check"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(1), "a.rapt\n", ""));
    let diff = "--- a/a.rapt\n+++ b/a.rapt\n@@ -1 +1 @@\n-RUN   a\n+RUN a\n";
    assert_eq!(project.ok(&["fmt", "--diff"]), diff);
    let ran = project.run(&["fmt", "--diff", "--check", "a.rapt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), diff));
    let ran = project.run(&["fmt", "--check", "b.rapt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(project.read("a.rapt"), UGLY);
}

#[test]
fn standard_input_is_formatted_to_standard_output() {
    let project = Project::new(&[]);
    let run = |args: &[&str], input: &[u8]| {
        let mut command = project.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(run(&["fmt", "-"], UGLY.as_bytes()), (Some(0), TIDY.into(), String::new()));
    assert_eq!(run(&["fmt", "-"], b""), (Some(0), String::new(), String::new()));
    assert_eq!(run(&["fmt", "--check", "-"], UGLY.as_bytes()), (Some(1), "<stdin>\n".into(), String::new()));
    assert_eq!(run(&["fmt", "--check", "-"], TIDY.as_bytes()), (Some(0), String::new(), String::new()));
    let (status, out, err) = run(&["fmt", "-"], b"RUN \xff\n");
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("<stdin>: not UTF-8 (first bad byte at offset 4)"), "{err}");
    assert_eq!(run(&["fmt", "-", "a.rapt"], b"").0, Some(2));
}

#[test]
fn lines_with_errors_stay_and_are_told() {
    let project =
        Project::new(&[("a.rapt", "RUN   a\nRNU   b\nRUN   c\n"), ("b.rapt", "{{ x }} <<EOF\nRUN   a\n")]);
    let ran = project.run(&["fmt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("a.rapt:2: left as it is: unknown instruction `RNU`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("b.rapt:1: left as it is: a template may"), "{}", ran.stderr);
    assert_eq!(project.read("a.rapt"), "RUN a\nRNU   b\nRUN c\n");
    assert_eq!(project.read("b.rapt"), "{{ x }} <<EOF\nRUN   a\n");
}

#[test]
fn mode_owner_and_links_stay() {
    let project = Project::new(&[("a.rapt", UGLY)]);
    let file = project.path("a.rapt");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
    symlink("a.rapt", project.path("link.rapt")).unwrap();
    project.ok(&["fmt", "link.rapt"]);
    let meta = fs::symlink_metadata(&file).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 1234, 2345));
    assert!(fs::symlink_metadata(project.path("link.rapt")).unwrap().is_symlink());
    assert_eq!(project.read("a.rapt"), TIDY);
    let names: Vec<_> = fs::read_dir(project.path("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "something was left behind: {names:?}");
}

#[test]
fn files_that_cannot_be_formatted_do_not_stop_the_others() {
    let project = Project::new(&[("a.rapt", UGLY), ("read-only.rapt", UGLY), ("z.rapt", UGLY)]);
    fs::set_permissions(project.path("read-only.rapt"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::write(project.path("bytes.rapt"), b"RUN  \xff\n").unwrap();
    let ran = project.fails(
        &["fmt", "missing.rapt", "."],
        &["missing.rapt", "read-only.rapt: it is read-only", "bytes.rapt: not UTF-8", "3 files could not"],
    );
    assert_eq!(ran.stdout, "");
    assert_eq!(project.read("a.rapt"), TIDY);
    assert_eq!(project.read("z.rapt"), TIDY);
    assert_eq!(project.read("read-only.rapt"), UGLY);
}

#[test]
fn a_file_of_somebody_else_is_not_written() {
    let project = Project::of(As::User, &[("a.rapt", UGLY)]);
    std::os::unix::fs::chown(project.path(""), Some(0), Some(0)).unwrap();
    project.fails(&["fmt"], &["cannot write"]);
    assert_eq!(project.read("a.rapt"), UGLY);
}
