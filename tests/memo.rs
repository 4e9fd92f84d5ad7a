//! Remembered evaluations: whatever changes, commands say what they would say without memory.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::{Project, Ran, ran};

const FILES: &[(&str, &str)] = &[
    ("Raptor.toml", "[raptor.link]\nlib = \"libs/one\"\n[run.job]\ntarget = \"t\"\nwith = { n = 1 }\n"),
    (
        "t.rapt",
        "FROM base\nINCLUDE inc x=1\nINCLUDE $lib.more\nCOPY dir /dir\nCOPY --exclude *.o out /out\nCOPY glob/*.txt /glob/\n\
         COPY link /link\nCOPY tool /tool\nRENDER page.j2 /page n=n\nWRITE \"{{ path('flag').exists() }}\" /flag\n\
         WRITE \"{{ load_yaml('data.yaml').key }}\" /data\n{% include 'part.j2' %}\nRUN net\n",
    ),
    ("base.rapt", "WRITE base /base\n"),
    ("inc.rinc", "WRITE \"{{ x }}\" /inc\n"),
    ("libs/one/more.rinc", "WRITE one /more\n"),
    ("libs/two/more.rinc", "WRITE two /more\n"),
    ("dir/sub/deep/file", "deep\n"),
    ("dir/a", "a\n"),
    ("out/kept", "kept\n"),
    ("out/gone.o", "gone\n"),
    ("glob/a.txt", "a\n"),
    ("target-a", "a\n"),
    ("target-b", "b\n"),
    ("tool", "tool\n"),
    ("page.j2", "page {{ n }}\n"),
    ("data.yaml", "key: value\n"),
    ("part.j2", "WRITE part /part\n"),
    ("Raptor.lock", "version = 1\n"),
];

const COMMANDS: &[&[&str]] =
    &[&["check"], &["check", "t", "--with", "n=1"], &["eval", "--closure", "t", "--with", "n=1"]];

fn project() -> Project {
    let project = Project::new(FILES);
    symlink("target-a", project.path("link")).unwrap();
    project
}

fn run(project: &Project, args: &[&str], remembers: bool) -> Ran {
    let mut command = project.command(args);
    command.env("XDG_CACHE_HOME", project.path("cache"));
    if !remembers {
        command.env("RAPTOR_NO_EVAL_CACHE", "1");
    }
    ran(command.output().unwrap())
}

/// Runs all commands; what they print is what they print without memory.
fn same(project: &Project, when: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for args in COMMANDS {
        let (got, fresh) = (run(project, args, true), run(project, args, false));
        assert_eq!(got.status, fresh.status, "{when}: {args:?}\n{}", got.stderr);
        assert_eq!((&got.stdout, &got.stderr), (&fresh.stdout, &fresh.stderr), "{when}: {args:?}");
        shown.push(got.stdout + &got.stderr);
    }
    shown
}

/// The records with their inode numbers: a record that is written anew is another file.
fn records(project: &Project) -> Vec<(PathBuf, u64)> {
    let dir = fs::read_dir(project.path("cache/raptor/eval")).unwrap();
    let mut records: Vec<_> =
        dir.map(|it| it.unwrap()).map(|it| (it.path(), it.metadata().unwrap().ino())).collect();
    records.sort();
    records
}

/// Sets the time of the last change back to what it was.
fn keep_mtime(project: &Project, path: &str, edit: impl FnOnce()) {
    let file = project.path(path);
    let before = fs::metadata(&file).unwrap();
    edit();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), before.len());
}

type Edit = (&'static str, fn(&Project), bool);

/// What is done, and whether the derivation of `t` changes by it.
const EDITS: &[Edit] = &[
    ("nothing", |_| {}, false),
    ("edit", |p| p.write("t.rapt", "WRITE other /x\n"), true),
    ("touch", |p| fs::File::open(p.path("t.rapt")).unwrap().set_modified(SystemTime::now()).unwrap(), false),
    ("overwrite with the same size and time", |p| keep_mtime(p, "dir/a", || p.write("dir/a", "b\n")), true),
    (
        "replace by a file of the same size and time",
        |p| {
            keep_mtime(p, "inc.rinc", || {
                p.write("new", "WRITE \"{{ x }}\" /new\n");
                fs::rename(p.path("new"), p.path("inc.rinc")).unwrap();
            });
        },
        true,
    ),
    ("add a file to a directory", |p| p.write("dir/sub/deep/new", ""), true),
    ("remove a file of a directory", |p| fs::remove_file(p.path("dir/sub/deep/file")).unwrap(), true),
    ("rename in a directory", |p| fs::rename(p.path("dir/a"), p.path("dir/z")).unwrap(), true),
    ("add an empty directory", |p| fs::create_dir(p.path("dir/empty")).unwrap(), true),
    (
        "replace a file by a link",
        |p| {
            fs::remove_file(p.path("dir/a")).unwrap();
            symlink("sub", p.path("dir/a")).unwrap();
        },
        true,
    ),
    ("add an excluded file", |p| p.write("out/more.o", "x"), false),
    ("edit an excluded file", |p| p.write("out/gone.o", "changed"), false),
    ("add a file that a pattern finds", |p| p.write("glob/b.txt", ""), true),
    ("add a file that no pattern finds", |p| p.write("glob/b.md", ""), false),
    (
        "turn a link",
        |p| {
            fs::remove_file(p.path("link")).unwrap();
            symlink("target-b", p.path("link")).unwrap();
        },
        true,
    ),
    ("edit behind a link", |p| p.write("target-a", "z\n"), true),
    (
        "make executable",
        |p| fs::set_permissions(p.path("tool"), fs::Permissions::from_mode(0o755)).unwrap(),
        true,
    ),
    (
        "change other permissions",
        |p| fs::set_permissions(p.path("tool"), fs::Permissions::from_mode(0o600)).unwrap(),
        false,
    ),
    ("edit a template", |p| p.write("page.j2", "changed\n"), true),
    ("edit data", |p| p.write("data.yaml", "key: other\n"), true),
    ("edit an included template", |p| p.write("part.j2", "WRITE other /part\n"), true),
    ("create what a template asks for", |p| p.write("flag", ""), true),
    ("edit the base", |p| p.write("base.rapt", "WRITE bass /base\n"), true),
    ("remove the base", |p| fs::remove_file(p.path("base.rapt")).unwrap(), true),
    (
        "make the base a directory",
        |p| {
            fs::remove_file(p.path("base.rapt")).unwrap();
            fs::create_dir(p.path("base.rapt")).unwrap();
        },
        true,
    ),
    (
        "link another package",
        |p| {
            p.write("Raptor.toml", &FILES[0].1.replace("libs/one", "libs/two"));
        },
        true,
    ),
    (
        "edit the lock",
        |p| {
            p.write(
                "Raptor.lock",
                "version = 1\n[layers.\"t?n=1\"]\nrequests = [ { url = \"http://origin.example/\", sha256 = \
             \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", size = 1 } ]\n",
            );
        },
        true,
    ),
    ("break a file", |p| p.write("inc.rinc", "FOO\n"), true),
    (
        "tear the records",
        |p| {
            for (path, _) in records(p) {
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }
        },
        false,
    ),
    (
        "flip a byte of the records",
        |p| {
            for (path, _) in records(p) {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        },
        false,
    ),
    (
        "exchange the records",
        |p| {
            let paths: Vec<_> = records(p).into_iter().map(|(path, _)| path).collect();
            fs::rename(&paths[0], p.path("x")).unwrap();
            fs::rename(&paths[1], &paths[0]).unwrap();
            fs::rename(p.path("x"), &paths[1]).unwrap();
        },
        false,
    ),
];

#[test]
fn every_change_is_seen() {
    let projects: Vec<_> = EDITS.iter().map(|edit| (project(), edit)).collect();
    // Younger files are read again whatever their stamps say, and it is the stamps that are tried here.
    std::thread::sleep(Duration::from_millis(2_200));
    for (project, (what, edit, changes)) in &projects {
        let before = same(project, "at first");
        let written = records(project);
        assert_eq!(written.len(), COMMANDS.len());
        edit(project);
        let after = same(project, what);
        // The path of the project is no part of what is compared: every project is compared to itself.
        assert_eq!(before[2] != after[2], *changes, "{what}: {}", after[2]);
        if *what == "nothing" {
            assert_eq!(records(project), written, "nothing changed, and the records were not used");
        }
        same(project, "the second time");
    }
}

#[test]
fn quick_edits_are_seen() {
    let project =
        Project::new(&[("t.rapt", "WRITE {{ load_json('n.json') }} /n\nCOPY d /d\n"), ("d/f", "0")]);
    for n in 0..30 {
        // In place, of the same size, and as quickly as possible.
        fs::write(project.path("n.json"), format!("\"n{}\"", n % 10)).unwrap();
        fs::write(project.path("d/f"), format!("{}", n % 7)).unwrap();
        let args = ["eval", "--closure", "t"];
        let got = run(&project, &args, true);
        assert_eq!(got.status, Some(0), "{}", got.stderr);
        assert_eq!(got.stdout, run(&project, &args, false).stdout, "edit {n}");
        assert!(got.stdout.contains(&format!("\"n{}\"", n % 10)), "edit {n}: {}", got.stdout);
    }
}

#[test]
fn records_are_used_again_and_few() {
    let project = project();
    run(&project, COMMANDS[0], true);
    let young = records(&project);
    std::thread::sleep(Duration::from_millis(2_200));
    run(&project, COMMANDS[0], true);
    let old = records(&project);
    assert_ne!(young, old, "young files were read again, and need not be a third time");
    run(&project, COMMANDS[0], true);
    assert_eq!(records(&project), old);
    for n in 0..70 {
        run(&project, &["check", "t", "--with", &format!("n={n}")], true);
    }
    assert_eq!(records(&project).len(), 64);
    // A place that others may write to is not trusted.
    let dir = project.path("cache/raptor/eval");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let before = records(&project);
    project.write("t.rapt", "FOO\n");
    assert_eq!(run(&project, COMMANDS[0], true).status, Some(1));
    assert_eq!(records(&project), before);
}
