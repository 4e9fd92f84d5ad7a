//! Export and import, and archives that are made to do harm.

use std::io::Write;
use std::process::Stdio;

use super::*;

#[test]
fn trees_travel_between_stores_of_root_and_users() {
    let from = project(As::Root);
    let top = realize(&from, "top");
    from.ok(&["store", "export", "-o", "one", "top"]);
    from.ok(&["store", "export", "-o", "two", &top]);
    let archive = fs::read(from.path("one")).unwrap();
    assert!(archive == fs::read(from.path("two")).unwrap(), "the same content gives the same bytes");
    for who in [As::Root, As::User] {
        let to = project(who);
        fs::write(to.path("archive"), &archive).unwrap();
        to.own();
        let done = json(&to, &["store", "import", "--json", "archive"]);
        assert_eq!((&done["new"], &done["realized"]), (&3.into(), &0.into()), "{done}");
        assert_eq!(to.ok(&["store", "cat", &top, "etc/layer"]), "top\n");
        verify(&to);
        let report = json(&to, &["build", "--json", "top"]);
        assert_eq!(report["built"], 2, "nobody vouches for what the archive says: {report}");
        let trusting = project(who);
        fs::write(trusting.path("archive"), &archive).unwrap();
        trusting.own();
        trusting.ok(&["store", "import", "--trust", "archive"]);
        let report = json(&trusting, &["build", "--json", "top"]);
        assert_eq!(report["built"], 0, "{report}");
        trusting.ok(&["store", "export", "-o", "back", "top"]);
        assert!(fs::read(trusting.path("back")).unwrap() == archive);
    }
}

/// Imports bytes; the exit status and what was said.
fn import(project: &Project, bytes: &[u8]) -> common::Ran {
    let mut command = project.command(&["store", "import", "--trust"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have seen enough before the end.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    common::ran(child.wait_with_output().unwrap())
}

fn refused(project: &Project, bytes: &[u8], what: &str) {
    let ran = import(project, bytes);
    assert_eq!(ran.status, Some(1), "{what}: {}", ran.stderr);
    assert!(ran.stderr.contains("archive") && !ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    assert_eq!(names(&project.store().join("info")), [""; 0], "{what}");
    assert_eq!(names(&project.store().join("trees")), [""; 0], "{what}");
    assert_eq!(names(&project.store().join("tmp")), [""; 0], "{what}");
}

#[test]
fn damaged_archives_leave_nothing() {
    let from = project(As::Root);
    realize(&from, "top");
    from.ok(&["store", "export", "-o", "archive", "top"]);
    let archive = fs::read(from.path("archive")).unwrap();
    let to = Project::new(&[]).with_empty_store();
    let step = archive.len() / 25;
    for at in (0..archive.len()).step_by(step) {
        refused(&to, &archive[..at], &format!("cut at {at}"));
        let mut flipped = archive.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&to, &flipped, &format!("flipped at {at}"));
    }
    refused(&to, &[&archive[..], b"more"].concat(), "more after the end");
    assert_eq!(import(&to, &archive).status, Some(0));
}

/// An archive with one tree of these entries, its hash a lie and its check right.
fn hostile(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"raptor-archive-1T".to_vec();
    bytes.extend([7; 32]);
    bytes.extend((entries.len() as u64).to_le_bytes());
    bytes.extend(entries.concat());
    bytes.push(b'E');
    let check = blake3::hash(&bytes);
    bytes.extend(check.as_bytes());
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn node(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let attributes = [0o755_u32, 0, 0].map(u32::to_le_bytes).concat();
    [&string(path)[..], &[kind], &attributes, &0_i64.to_le_bytes(), &0_u32.to_le_bytes(), content].concat()
}

#[test]
fn hostile_archives_are_refused() {
    let root = || node("", b'd', &[]);
    let link = |path, to| node(path, b'l', &string(to));
    let file = |path: &str| node(path, b'f', &[&2_u64.to_le_bytes()[..], b"hi"].concat());
    let far = [&u64::MAX.to_le_bytes()[..]].concat();
    let hard = |path: &str, to: &str| [string(path), vec![b'h'], string(to)].concat();
    let outside = Project::new(&[("victim/file", "safe\n")]);
    let victim = outside.path("victim");
    let victim = victim.to_str().unwrap();
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("dots", vec![root(), file("../evil")], "leads elsewhere"),
        ("absolute", vec![root(), file("/tmp/evil")], "leads elsewhere"),
        ("empty part", vec![root(), file("a//b")], "leads elsewhere"),
        ("through a link", vec![root(), link("a", victim), file("a/file")], "not in a directory"),
        ("over a link", vec![root(), link("a", victim), node("a", b'd', &[])], "not in order"),
        ("twice", vec![root(), file("a"), file("a")], "not in order"),
        ("below a file", vec![root(), file("a"), file("a/b")], "not in a directory"),
        ("no root", vec![file("a")], "not in order"),
        ("second root", vec![root(), root()], "not in order"),
        ("link to the host", vec![root(), hard("a", "../../../../etc/passwd")], "link to nothing"),
        ("link to a later file", vec![root(), hard("a", "b"), file("b")], "link to nothing"),
        ("nothing", vec![], "empty"),
        ("unknown kind", vec![root(), node("a", b'z', &[])], "no node of kind"),
        ("endless name", vec![root(), far.clone()], "bytes where"),
        ("endless file", vec![root(), node("a", b'f', &far)], "cut off"),
        ("lie", vec![root(), file("a")], "what it calls"),
    ];
    for who in [As::Root, As::User] {
        let to = Project::of(who, &[]).with_empty_store();
        to.own();
        for (what, entries, message) in &cases {
            let bytes = hostile(entries);
            refused(&to, &bytes, what);
            let said = import(&to, &bytes).stderr;
            assert!(said.contains(message), "{what}: {said}");
        }
        refused(&to, b"", "empty stream");
        refused(&to, b"something else entirely", "no archive");
    }
    assert_eq!(outside.read("victim/file"), "safe\n");
}
