//! Building, end to end: projects on a real Debian base in a real sandbox, as root and as an ordinary user.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{As, Project};

const BASE: &str = "FROM debian://bookworm\n";

/// A perl one-liner that ends with 0 only if the connection is made.
fn connect(proto: &str, to: &str) -> String {
    format!(
        "RUN perl -MIO::Socket::INET -e \"exit(IO::Socket::INET->new(PeerAddr => '{to}', Proto => '{proto}', \
         Timeout => 3) ? 0 : 7)\"\n"
    )
}

#[test]
fn every_file_instruction_leaves_what_it_says() {
    let project = Project::debian(
        As::Root,
        &[
            (
                "base.rapt",
                "FROM debian://bookworm\n\
                 MKDIR -p --chmod 700 /srv/a/b\n\
                 WORKDIR /srv\n\
                 WRITE --chmod 600 --chown www-data:adm \"text\\n\" a/w\n\
                 COPY one two a/\n\
                 COPY tree /srv/tree\n\
                 COPY --chmod 755 one /srv/run\n\
                 RENDER tmpl /srv/rendered name=\"raptor\" n=3\n\
                 ENV GREETING=hello\n\
                 RUN sh -c \"echo $GREETING from $PWD > /srv/env\"\n\
                 INCLUDE more what=\"included\"\n",
            ),
            ("more.rinc", "WRITE \"{{ what }}\\n\" /srv/included\n"),
            ("one", "1\n"),
            ("two", "2\n"),
            ("tree/deep/file", "3\n"),
            ("tmpl", "{{ name }} {% for i in [1, 2] %}{{ i }}{% endfor %} {{ n }}\n"),
        ],
    );
    let path = project.ok(&["realize", "base"]);
    let tree = std::path::Path::new(path.trim());
    let text = |file: &str| fs::read_to_string(tree.join(file)).unwrap();
    let mode = |file: &str| {
        use std::os::unix::fs::MetadataExt;
        let stat = fs::metadata(tree.join(file)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid())
    };
    assert_eq!(mode("srv/a/b"), (0o700, 0, 0));
    assert_eq!((text("srv/a/w").as_str(), mode("srv/a/w")), ("text\n", (0o600, 33, 4)));
    assert_eq!((text("srv/a/one"), text("srv/a/two")), ("1\n".into(), "2\n".into()));
    assert_eq!((text("srv/tree/deep/file").as_str(), mode("srv/tree/deep/file")), ("3\n", (0o644, 0, 0)));
    assert_eq!(mode("srv/run"), (0o755, 0, 0));
    assert_eq!(text("srv/rendered"), "raptor 12 3\n");
    assert_eq!(text("srv/env"), "hello from /srv\n");
    assert_eq!(text("srv/included"), "included\n");
}

#[test]
fn copy_takes_patterns_and_leaves_out() {
    let files = [
        (
            "base.rapt",
            "FROM debian://bookworm\nMKDIR /srv/etc\nCOPY conf/*.conf conf/on[!e] /srv/etc\n\
             COPY --exclude *.o --exclude build/ --exclude /top --exclude a/**/c src /srv/src\n",
        ),
        ("conf/b.conf", "b"),
        ("conf/a.conf", "a"),
        ("conf/.hidden.conf", ""),
        ("conf/one", ""),
        ("conf/onx/inner", ""),
        ("src/x.o", ""),
        ("src/build/x", ""),
        ("src/a/build", ""),
        ("src/a/b/c/x", ""),
        ("src/a/top", ""),
        ("src/top", ""),
        ("src/.git/x.o", ""),
    ];
    let project = Project::debian(As::Root, &files);
    let path = project.ok(&["realize", "base"]);
    let srv = std::path::Path::new(path.trim()).join("srv");
    assert_eq!(files_below(&srv), ["etc/a.conf", "etc/b.conf", "etc/inner", "src/a/build", "src/a/top"]);
    assert!(srv.join("src/.git").is_dir());
    // What is left out is no input.
    project.write("src/y.o", "new");
    project.write("src/build/x", "changed");
    assert_eq!(project.ok(&["realize", "base"]), path);
    let report: serde_json::Value = serde_json::from_str(&project.ok(&["build", "--json", "base"])).unwrap();
    assert_eq!(report["built"], 0);
    project.write("src/a/top", "changed");
    assert_ne!(project.ok(&["realize", "base"]), path);
    project.write("base.rapt", "COPY --exclude * src /srv\n");
    let ran = project.run(&["check", "base"]);
    assert!(ran.stderr.contains("warning[W0501]: --exclude leaves nothing of src"), "{}", ran.stderr);
}

/// Paths of all files below a directory, sorted.
fn files_below(dir: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => todo.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path())),
            false => files.push(path.strip_prefix(dir).unwrap().display().to_string()),
        }
    }
    files.sort();
    files
}

#[test]
fn root_and_ordinary_users_build_the_same_layers() {
    let files = [(
        "base.rapt",
        "FROM debian://bookworm\n\
         RUN useradd -m someone\n\
         RUN sh -c \"mkdir /srv/x; ln /etc/passwd /srv/x/link; rm /etc/fstab; touch /srv/now; chown 1000:33 /srv/x\"\n\
         RUN perl -e \"mkdir '/srv/setgid'; chmod 02775, '/srv/setgid'\"\n",
    )];
    let hashes = [As::Root, As::User].map(|who| {
        let project = Project::debian(who, &files);
        let path = project.ok(&["realize", "base"]);
        path.trim().rsplit('/').next().unwrap().to_owned()
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn what_is_recorded_replays_from_an_empty_store() {
    let base =
        "FROM debian://bookworm\nRUN apt-get update\nRUN apt-get install -y --no-install-recommends jq\n";
    let project = Project::debian(As::Root, &[("base.rapt", base)]);
    let first = project.ok(&["realize", "base"]);
    let lock = project.read("Raptor.lock");
    assert!(lock.contains("InRelease") && lock.contains("/jq_"), "{lock}");
    let again = Project::new(&[("base.rapt", base), ("Raptor.lock", &lock)]).with_empty_store();
    let second = again.ok(&["realize", "--locked", "base"]);
    assert_eq!(first.trim().rsplit('/').next(), second.trim().rsplit('/').next());
    assert_eq!(again.read("Raptor.lock"), lock, "--locked must not change the lock");
}

#[test]
fn locked_builds_refuse_what_is_not_recorded() {
    let project =
        Project::debian(As::Root, &[("base.rapt", &format!("{BASE}RUN true\nRUN apt-get update\n"))]);
    let ran = project.fails(&["build", "--locked", "base"], &["base", "InRelease", "RUN apt-get update"]);
    assert!(ran.stderr.contains("base.rapt:3"), "no place in:\n{}", ran.stderr);
}

#[test]
fn without_a_pin_locked_builds_say_which_base() {
    let project = Project::new(&[("base.rapt", BASE)]);
    project.fails(&["build", "--locked", "base"], &["debian://bookworm", "Raptor.lock"]);
}

#[test]
fn run_steps_have_no_way_out() {
    for (proto, to) in [("tcp", "192.0.2.1:22"), ("tcp", "127.0.0.1:22"), ("tcp", "[2001:db8::1]:80")] {
        let project = Project::debian(As::Root, &[("base.rapt", &format!("{BASE}{}", connect(proto, to)))]);
        project.fails(&["build", "base"], &["step 1 failed"]);
    }
    // A datagram socket connects to anything that has a route; nothing must come back, not even an error later.
    let udp = "RUN perl -MIO::Socket::INET -e \"my $s = IO::Socket::INET->new(PeerAddr => '192.0.2.1:9', Proto => \
               'udp') or exit 7; send($s, 'x', 0) or exit 8; my $r = ''; vec($r, fileno($s), 1) = 1; \
               exit(select($r, undef, undef, 1) && sysread($s, my $b, 1) ? 0 : 9)\"\n";
    let project = Project::debian(As::Root, &[("base.rapt", &format!("{BASE}{udp}"))]);
    project.fails(&["build", "base"], &["step 1 failed"]);
}

#[test]
fn a_second_build_does_nothing_and_quickly() {
    let project = Project::debian(As::Root, &[("base.rapt", &format!("{BASE}RUN true\n"))]);
    project.ok(&["build", "base"]);
    let report: serde_json::Value = serde_json::from_str(&project.ok(&["build", "--json", "base"])).unwrap();
    assert_eq!((&report["built"], &report["reused"]), (&0.into(), &2.into()));
}

#[test]
fn a_killed_build_completes_later_with_the_same_result() {
    let base =
        format!("{BASE}RUN sh -c \"for i in 1 2 3 4 5 6 7 8; do echo $i > /srv/$i; sleep 0.2; done\"\n");
    let whole = Project::debian(As::Root, &[("base.rapt", &base)]);
    let expected = whole.ok(&["realize", "base"]);
    let expected = expected.trim().rsplit('/').next().unwrap();
    let cut = Project::debian(As::Root, &[("base.rapt", &base)]).with_empty_store();
    for millis in [300, 2500, 6000, 9000] {
        let mut child = cut.start(&["build", "base"]);
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        no_process_below(&cut);
    }
    let path = cut.ok(&["realize", "base"]);
    assert!(path.trim().ends_with(expected), "{path} instead of {expected}");
    assert_eq!(fs::read_dir(cut.store().join("tmp")).unwrap().count(), 0, "work directories are left");
}

/// Waits until no process has its root or its files in a project: killing raptor must end its sandboxes.
fn no_process_below(project: &Project) {
    let begin = Instant::now();
    loop {
        let store = project.store().to_str().unwrap();
        let mounts = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let mounts = fs::read_to_string(entry.ok()?.path().join("mountinfo")).ok()?;
            mounts.contains(store).then_some(())
        });
        if mounts.count() == 0 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "a sandbox outlives raptor");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn interrupting_ends_the_build_at_once() {
    let project = Project::debian(As::Root, &[("base.rapt", &format!("{BASE}RUN sleep 3607\n"))]);
    let mut child = project.start(&["build", "base"]);
    let begin = Instant::now();
    while !fs::read_dir("/proc").unwrap().any(|entry| {
        let command = entry.ok().and_then(|it| fs::read(it.path().join("cmdline")).ok());
        command.is_some_and(|it| it == b"sleep\x003607\0")
    }) {
        assert!(begin.elapsed() < Duration::from_secs(120), "the step never began");
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupted = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(interrupted.elapsed() < Duration::from_secs(10));
}
