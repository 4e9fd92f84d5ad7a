//! What users do wrong, and what raptor says: a clear message with the place, status 1, nothing left behind.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use common::{As, Project};

const BASE: &str = "FROM debian://bookworm\n";

/// Files of a project, and a target whose build must fail without anything having been started.
const MISTAKES: &[(&str, &[(&str, &str)])] = &[
    ("unknown instruction", &[("t.rapt", "FROM debian://bookworm\nRNU id\nrun id\n")]),
    ("unclosed string", &[("t.rapt", "FROM debian://bookworm\nRUN echo \"abc\nRUN id\n")]),
    ("undefined template variable", &[("t.rapt", "$ set name=1\nRUN echo {{ nmae }}\n")]),
    ("template that does not parse", &[("t.rapt", "RUN id\n{% if %}\n")]),
    (
        "undefined argument",
        &[("t.rapt", "$ set name=1\nINCLUDE i x=nam\n"), ("i.rinc", "RUN echo {{ x }}\n")],
    ),
    ("missing FROM", &[("t.rapt", "FROM nothere\n")]),
    ("missing INCLUDE", &[("t.rapt", "RUN id\nINCLUDE nothere\n")]),
    ("missing COPY source", &[("t.rapt", "RUN id\nCOPY nothere also /srv/\n")]),
    ("missing RENDER source", &[("t.rapt", "RENDER nothere /srv/x\n")]),
    ("unknown package", &[("t.rapt", "FROM $nothere.base\n")]),
    ("INCLUDE cycle", &[("t.rapt", "INCLUDE a\n"), ("a.rinc", "RUN id\nINCLUDE a\n")]),
    ("FROM cycle", &[("t.rapt", "FROM u\n"), ("u.rapt", "FROM t\n")]),
    (
        "mistake in an included file",
        &[("t.rapt", "INCLUDE a x=1\n"), ("a.rinc", "{% for i in [1] %}\nRUNN {{ i }}\n{% endfor %}\n")],
    ),
    ("bad name of an image", &[("t.rapt", "FROM docker://registry.example/App:1\n")]),
    ("bad reference of a base", &[("t.rapt", "FROM debian://bookworm?variant=huge\n")]),
];

#[test]
fn mistakes_in_files_are_explained() {
    let mut shown = String::new();
    for (name, files) in MISTAKES {
        let project = Project::new(files);
        let ran = project.fails(&["build", "t"], &[]);
        shown += &format!("--- {name}\n{}\n", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let project = Project::new(&[("t.rapt", "RNU id\nWRITE \"x /a\nCOPY nothere /x\nINCLUDE nothere\n")]);
    let ran = project.fails(&["check", "t"], &["4 errors"]);
    assert_eq!(ran.stderr.matches("error[").count(), 4, "{}", ran.stderr);
}

#[test]
fn a_failing_step_tells_status_output_and_place() {
    let project = Project::debian(
        As::Root,
        &[
            ("t.rapt", &format!("{BASE}WRITE x /srv/x\nINCLUDE inner\n")),
            ("inner.rinc", "RUN sh -c \"echo first; echo second >&2; exit 3\"\n"),
        ],
    );
    let ran = project
        .fails(&["build", "t"], &["exit status 3", "| first", "| second", "inner.rinc:1:1", "t.rapt:3:1"]);
    let id = ran.stderr.rsplit("raptor log ").next().unwrap().trim().to_owned();
    let log = project.ok(&["log", &id]);
    assert!(log.contains("first\nsecond\n"), "{log}");
    nothing_left(&project);
}

#[test]
fn killed_and_unknown_programs_are_told_apart() {
    for (step, message) in [
        ("RUN sh -c \"kill -9 $$\"", "killed by signal 9"),
        ("RUN nosuchprogram", "nosuchprogram"),
        ("WORKDIR /nowhere", "/nowhere"),
        ("WRITE x /no/dir/x", "/no/dir/x"),
    ] {
        let project = Project::debian(As::Root, &[("t.rapt", &format!("{BASE}{step}\n"))]);
        project.fails(&["build", "t"], &[message, "t.rapt:2:1"]);
        nothing_left(&project);
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let project = Project::debian(As::Root, &[("t.rapt", BASE)]).with_empty_store();
    let store = project.store();
    fs::create_dir(store).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m,mode=700", "none"])
        .arg(store)
        .status()
        .unwrap();
    assert!(mounted.success());
    let ran = project.run(&["build", "t"]);
    let unmounted = Command::new("umount").arg(store).status().unwrap();
    assert!(unmounted.success(), "something still uses the store");
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    // Either the kernel says so, or the watchdog has looked just before.
    let told = ["No space left on device", "free on the disk of the store"];
    assert!(told.iter().any(|text| ran.stderr.contains(text)), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn a_package_with_a_wrong_digest_is_refused() {
    let lock = common::shared_lock();
    let mirror = mirror_of(&lock);
    // Everything this server has is zeros of the right size.
    let fake = serve(|path| {
        let size = lock_size(&common::shared_lock(), path);
        vec![0; size.unwrap_or(0)]
    });
    let project =
        Project::new(&[("t.rapt", BASE), ("Raptor.lock", &lock.replace(&mirror, &fake))]).with_empty_store();
    let ran = ran_with_mirror(&project, &fake, &["build", "--locked", "t"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    for message in [".deb", "sha256", &fake] {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
    nothing_left(&project);
}

#[test]
fn a_forged_release_file_is_refused() {
    let mirror = mirror_of(&common::shared_lock());
    let curl =
        Command::new("curl").args(["-fsS", &format!("{mirror}/dists/bookworm/InRelease")]).output().unwrap();
    assert!(curl.status.success());
    let genuine = String::from_utf8(curl.stdout).unwrap();
    let forged = genuine.replacen("Suite: ", "Suite: x", 1);
    assert_ne!(forged, genuine);
    let fake =
        serve(move |path| if path.ends_with("InRelease") { forged.clone().into_bytes() } else { Vec::new() });
    let project = Project::new(&[("t.rapt", BASE)]).with_empty_store();
    let ran = ran_with_mirror(&project, &fake, &["build", "t"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    for message in ["InRelease", "signature", &fake] {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
    assert!(!project.path("Raptor.lock").exists(), "nothing of a forged mirror may be pinned");
    nothing_left(&project);
}

#[test]
fn a_user_without_sub_ids_is_told_the_remedy() {
    let project = Project::debian(As::Root, &[("t.rapt", BASE)]);
    // `nobody` never has sub-ids.
    let store = project.path("nobodys");
    fs::create_dir(&store).unwrap();
    let owned = Command::new("chown").arg("nobody").arg(&store).status().unwrap();
    assert!(owned.success());
    let output = Command::new("setpriv")
        .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"])
        .arg(common::raptor())
        .args(["build", "--locked", "--store"])
        .arg(&store)
        .arg("t")
        .current_dir(project.path(""))
        .output()
        .unwrap();
    let ran = common::ran(output);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    for message in ["nobody", "/etc/subuid", "usermod --add-subuids"] {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
}

#[test]
fn sources_that_cannot_be_read_to_an_end_are_refused() {
    let project = Project::new(&[("t.rapt", "COPY deep /deep\n"), ("u.rapt", "RENDER pipe /x\n")]);
    let mut deep = project.path("deep");
    for _ in 0..600 {
        deep.push("d");
    }
    fs::create_dir_all(deep).unwrap();
    project.fails(&["build", "t"], &["t.rapt:1:6", "directories deep"]);
    let made = Command::new("mkfifo").arg(project.path("pipe")).status().unwrap();
    assert!(made.success());
    project.fails(&["check", "u"], &["u.rapt:1:8", "not a regular file"]);
}

#[test]
fn an_unreadable_manifest_names_itself() {
    for (content, message) in [
        (&b"[run.a\n"[..], "error[E0401]"),
        (b"[run.a]\ntarget = 1\n", "error[E0402]"),
        (b"\xff\xfe", "not UTF-8"),
    ] {
        let project = Project::new(&[]);
        fs::write(project.path("Raptor.toml"), content).unwrap();
        project.fails(&["make"], &["Raptor.toml", message]);
    }
    let project = Project::new(&[]);
    project.fails(&["make"], &["Raptor.toml", "No such file"]);
    fs::create_dir(project.path("Raptor.toml")).unwrap();
    project.fails(&["make"], &["Raptor.toml", "directory"]);
}

#[test]
fn wrong_usage_has_status_2() {
    let project = Project::new(&[]);
    for args in [&["nonsense"][..], &["build"], &["parse", "--json", "--tree", "x"], &["check"]] {
        let ran = project.run(args);
        assert_eq!(ran.status, Some(2), "raptor {}: {}", args.join(" "), ran.stderr);
    }
}

/// The store keeps no work directory of a failed build.
fn nothing_left(project: &Project) {
    // The shared store has work directories of tests that run now; only those of dead processes count.
    let Ok(entries) = fs::read_dir(project.store().join("tmp")) else { return };
    let left = entries.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        let Ok(file) = fs::File::open(&path) else { return false };
        path.extension().is_some_and(|it| it == "lock")
            && rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    assert_eq!(left.count(), 0, "work directories are left");
}

/// The mirror that a lock names.
fn mirror_of(lock: &str) -> String {
    let line = lock.lines().find_map(|line| line.strip_prefix("mirror = \"")).expect("a mirror in the lock");
    line.trim_end_matches('"').to_owned()
}

/// Size that the lock has for a package.
fn lock_size(lock: &str, path: &str) -> Option<usize> {
    let name = path.split_once("/pool/").map(|(_, rest)| format!("\"pool/{}\"", rest))?;
    let line = lock.lines().find(|line| line.contains(&name))?;
    line.split("size = ").nth(1)?.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn ran_with_mirror(project: &Project, mirror: &str, args: &[&str]) -> common::Ran {
    common::ran(project.command(args).env("RAPTOR_DEBIAN_MIRROR", mirror).output().unwrap())
}

/// A web server on loopback that lives as long as the test; gives its URL.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let mut request = String::new();
                    if reader.read_line(&mut request).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut line = String::new();
                    while reader.read_line(&mut line).unwrap_or(0) > 2 {
                        line.clear();
                    }
                    let body = answer(request.split(' ').nth(1).unwrap_or("/"));
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let out = reader.get_mut();
                    if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}
