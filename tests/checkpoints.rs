//! Checkpoints: steps that have not changed are not done again, and nothing in the result tells.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::UnshareFlags;

use common::server::Server;
use common::{As, Project, Ran};

/// What the parents have.
const LOW: &str = "\
FROM base
MKDIR /low
RUN sh -c \"cd /low; mkdir -p dir/sub full/deep; echo a > dir/a; echo b > dir/sub/b; echo c > full/deep/c; echo d > full/d\"
RUN sh -c \"cd /low; echo 1 > gone; echo 2 > one; ln one two; mkfifo pipe; ln -s one link; chown 5:6 full\"
";

/// One step a line; the last shows everything that it can see.
const STEPS: [&str; 7] = [
    "RUN state make",
    "RUN sh -c \"cd /low; mv dir moved; rm -r full gone; mkdir full; echo new > full/d; echo more >> one\"",
    "RUN sh -c \"printf bbbb | dd of=/w/inplace conv=notrunc; echo more >> /w/sub/second; cp /tmp/z /w/from-memory\"",
    "WRITE \"written\" /w/written",
    "RUN sh -c \"printf cccc | dd of=/w/inplace conv=notrunc; mv /w/large /w/renamed; rm /w/third; rm -r /low/moved/sub\"",
    "RUN sh -c \"ln /low/moved/a /low/linked; mkdir /low/moved/sub; echo x > /low/moved/sub/b; rm /dev/shm/c\"",
    "RUN sh -c \"state list /w /low /tmp /run /dev > /list; cat /w/inplace /w/first >> /list\"",
];

/// The program of `checkpoints/state.c`.
fn state() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoints/state.c");
    let program = common::scratch().join(format!("state-{}", blake3::hash(&fs::read(source).unwrap())));
    if !program.exists() {
        let made = tempfile::Builder::new().tempfile_in(common::scratch()).unwrap().into_temp_path();
        let compiled = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&made).arg(source).status();
        assert!(compiled.unwrap().success());
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        made.persist(&program).unwrap();
    }
    program
}

/// A project whose `main` is these lines on [`LOW`], with the program `state`.
fn project(who: As, lines: &[&str]) -> Project {
    let project = Project::busybox(who, &[("low.rapt", LOW)]);
    fs::copy(state(), project.path("state")).unwrap();
    set(&project, lines);
    project
}

fn set(project: &Project, lines: &[&str]) {
    let head = "FROM low\nCOPY --chmod 755 state /bin/state\n";
    let file = project.path("main.rapt");
    // Not by `Project::write`, which makes everything the user's, in the store too.
    fs::write(&file, format!("{head}{}\n", lines.join("\n"))).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

/// Hash of `main`, and which of its steps ran.
fn build(project: &Project, args: &[&str]) -> (String, Vec<usize>) {
    let ran = project.run(&[&["realize", "main"], args].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    (hash(&ran), steps(&ran))
}

fn hash(ran: &Ran) -> String {
    ran.stdout.trim().rsplit('/').next().unwrap().to_owned()
}

/// Numbers of the steps of `main` that ran.
fn steps(ran: &Ran) -> Vec<usize> {
    let lines = ran.stderr.lines().filter_map(|line| line.strip_prefix("main: "));
    lines.filter_map(|line| line.split_once('/')?.0.parse().ok()).collect()
}

/// Hash of `main` from an empty store, in one go.
fn in_one_go(project: &Project) -> String {
    let store = project.path("store-of-its-own");
    let _ = Command::new("rm").arg("-rf").arg(&store).status();
    let args = ["--no-checkpoints", "--store", "store-of-its-own"];
    let (hash, steps) = build(project, &args);
    assert_eq!(steps[0], 1);
    assert_eq!(fs::read_dir(store.join("checkpoints")).unwrap().count(), 0);
    hash
}

/// Files of all checkpoints.
fn files(store: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in fs::read_dir(store.join("checkpoints")).unwrap() {
        files.extend(fs::read_dir(dir.unwrap().path()).unwrap().map(|it| it.unwrap().path()));
    }
    files.sort();
    files
}

fn a_build_that_resumes_gives_the_same(who: As) {
    let project = project(who, &STEPS);
    let (first, steps) = build(&project, &[]);
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(first, in_one_go(&project));
    // Changing step N (counted without the COPY) is resumed after the RUN before it.
    let mut lines = STEPS.map(str::to_owned);
    for (changed, resumed) in [(6, 8), (5, 7), (4, 5), (3, 5), (2, 4), (1, 3)] {
        match lines[changed].starts_with("RUN sh") {
            true => lines[changed] = lines[changed].replacen("-c \"", &format!("-c \"echo {who:?}; "), 1),
            false => lines[changed] = lines[changed].replace("written\"", "changed\""),
        }
        set(&project, &lines.each_ref().map(String::as_str));
        let (hash, steps) = build(&project, &[]);
        assert_eq!(steps, (resumed..=8).collect::<Vec<_>>(), "step {changed}");
        assert_eq!(hash, in_one_go(&project), "{}", differences(&project, &hash));
    }
    assert_eq!(build(&project, &[]).1, [0; 0]);
    project.ok(&["store", "verify"]);
}

/// What differs between the layer in the store of a project and the one in the other store.
fn differences(project: &Project, hash: &str) -> String {
    let list = |store: PathBuf| fs::read_to_string(store.join("trees").join(hash).join("list"));
    format!("{:#?}", list(project.store().to_path_buf()))
}

#[test]
fn a_build_that_resumes_gives_the_same_as_root() {
    a_build_that_resumes_gives_the_same(As::Root);
}

#[test]
fn a_build_that_resumes_gives_the_same_as_user() {
    a_build_that_resumes_gives_the_same(As::User);
}

#[test]
fn a_failed_step_keeps_those_before_it() {
    for who in [As::Root, As::User] {
        let good = ["RUN sh -c \"echo one > /tmp/one\"", "RUN sh -c \"echo two\"", "RUN cp /tmp/one /done"];
        let project = project(who, &[good[0], good[1], "RUN sh -c \"echo half > /half; exit 3\"", good[2]]);
        let failed = project.fails(&["realize", "main"], &["step 4 failed", "exit status 3"]);
        assert_eq!(steps(&failed), [1, 2, 3, 4]);
        let again = project.fails(&["realize", "main"], &["step 4 failed"]);
        assert_eq!(steps(&again), [4]);
        assert!(again.stderr.contains("main: resumed at step 4 of 5"), "{}", again.stderr);
        set(&project, &good);
        let (hash, steps) = build(&project, &[]);
        assert_eq!(steps, [4]);
        assert_eq!(hash, in_one_go(&project));
        // The log tells of all steps.
        let log = project.ok(&["log", "main"]);
        for line in ["==> 2: RUN", "\ntwo\n", "==> steps 1 to 3: from a checkpoint", "==> 4: RUN"] {
            assert!(log.contains(line), "no `{line}` in {log}");
        }
    }
}

#[test]
fn what_a_step_sees_decides() {
    let project = project(As::Root, &[]);
    project.write("file", "1");
    let lines = |env: &str, dir: &str| {
        format!(
            "ENV A={env}\nRUN true\nWORKDIR {dir}\nRUN sh -c \"echo $A\"\nCOPY file /file\nRUN cat /file\nRUN sh -c pwd"
        )
    };
    let change = |env, dir| {
        set(&project, &[&lines(env, dir)]);
        build(&project, &[]).1
    };
    // COPY state, RUN, WORKDIR, RUN, COPY, RUN, RUN
    assert_eq!(change("1", "/low"), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(change("1", "/bin"), [3, 4, 5, 6, 7]);
    assert_eq!(change("2", "/bin"), [1, 2, 3, 4, 5, 6, 7]);
    project.write("file", "2");
    assert_eq!(change("2", "/bin"), [5, 6, 7]);
    // Parents, too.
    project.write("low.rapt", &LOW.replace("echo 1", "echo 9"));
    assert_eq!(change("2", "/bin"), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(build(&project, &[]).0, in_one_go(&project));
}

#[test]
fn what_nobody_can_copy_is_not_lost() {
    let lines = [
        "RUN true",
        "RUN state shm",
        "RUN state queue",
        "RUN state has-shm",
        "RUN state has-queue",
        "RUN true",
    ];
    let project = project(As::User, &lines);
    assert_eq!(build(&project, &[]).1, [1, 2, 3, 4, 5, 6, 7]);
    let log = project.ok(&["log", "main"]);
    assert!(log.contains("==> no checkpoint after step 3: a step left System V IPC (shm) behind"), "{log}");
    set(&project, &[&lines[..5], &["RUN sh -c true"]].concat());
    assert_eq!(build(&project, &[]).1, [3, 4, 5, 6, 7]);
}

#[test]
fn only_the_last_build_is_kept() {
    let lines =
        ["RUN sh -c \"echo 1 > /1\"", "RUN sh -c \"echo 2 > /2\"", "RUN sh -c \"echo 3 > /3\"", "RUN true"];
    let project = project(As::Root, &lines);
    build(&project, &[]);
    let number = files(project.store()).len();
    for n in 0..4 {
        set(&project, &[lines[0], &format!("RUN sh -c \"echo {n} > /2\""), lines[2], lines[3]]);
        build(&project, &[]);
        assert_eq!(files(project.store()).len(), number);
    }
    // A build that fails leaves what it has, and what the last good one had, for the file may be changed back.
    set(&project, &[lines[0], "RUN sh -c \"echo bad > /2\"", "RUN false", lines[3]]);
    project.fails(&["build", "main"], &["step 4 failed"]);
    set(&project, &[lines[0], "RUN sh -c \"echo 3 > /2\"", lines[2], "RUN sh -c true"]);
    assert_eq!(build(&project, &[]).1, [5]);
    assert_eq!(files(project.store()).len(), number);
}

#[test]
fn damaged_checkpoints_are_not_used() {
    let lines = ["RUN sh -c \"seq 100000 > /numbers; echo a > /a\"", "RUN sh -c \"echo b > /b\"", "RUN true"];
    let project = project(As::Root, &lines);
    build(&project, &[]);
    let du: serde_json::Value = serde_json::from_str(&project.ok(&["store", "du", "--json"])).unwrap();
    let of_main = du["checkpoints"].as_array().unwrap().iter().find(|it| it["layer"] == "main").unwrap();
    let dir = of_main["key"].as_str().unwrap().to_owned();
    let mut tries = 0;
    for (extension, seen) in [("manifest", true), ("json", true), ("pack", false), ("log", false)] {
        let of_main = |it: &&PathBuf| {
            let kind = it.extension().is_some_and(|it| it == extension);
            // Of the packs, the one that everything needs.
            let content = extension != "pack" || fs::metadata(it).unwrap().len() > 100_000;
            it.parent().unwrap().ends_with(&dir) && kind && content
        };
        for damage in ["flip", "cut", "empty", "gone"] {
            for file in files(project.store()).iter().filter(of_main) {
                let mut bytes = fs::read(file).unwrap();
                match damage {
                    "flip" => {
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                        fs::write(file, &bytes).unwrap();
                    }
                    "cut" => fs::write(file, &bytes[..bytes.len() - 1]).unwrap(),
                    "empty" => fs::write(file, "").unwrap(),
                    _ => fs::remove_file(file).unwrap(),
                }
            }
            let good = project.run(&["store", "verify"]).status == Some(0);
            assert_eq!(
                good,
                !seen && damage == "flip" || extension == "log" || (extension, damage) == ("json", "gone")
            );
            tries += 1;
            set(&project, &[lines[0], lines[1], &format!("RUN sh -c \"echo {tries} > /c\"")]);
            let (hash, _) = build(&project, &[]);
            assert_eq!(hash, in_one_go(&project), "{extension} {damage}");
            assert_eq!(project.run(&["store", "verify"]).status, Some(0));
        }
    }
}

#[test]
fn a_kill_at_any_time_leaves_nothing_wrong() {
    let many = "RUN sh -c \"mkdir -p /many; for i in $(seq 300); do seq $i > /many/$i; done; dd if=/dev/zero of=/zero bs=1M count=20\"";
    for who in [As::Root, As::User] {
        let lines = [
            many,
            "RUN sh -c \"echo 1 > /many/1; cp /zero /zero2\"",
            "RUN sh -c \"rm /many/2\"",
            "RUN sh -c \"echo x > /x\"",
        ];
        let project = project(who, &lines);
        let expected = in_one_go(&project);
        project.ok(&["build", "low"]);
        let begin = std::time::Instant::now();
        let (whole, _) = build(&project, &[]);
        let length = begin.elapsed();
        assert_eq!(whole, expected);
        for n in 0..8 {
            set(
                &project,
                &lines
                    .map(|it| it.replacen("-c \"", &format!("-c \"true {n}; "), 1))
                    .each_ref()
                    .map(String::as_str),
            );
            let mut child = project.start(&["realize", "main"]);
            std::thread::sleep(length * n / 8);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(project.run(&["store", "verify"]).status, Some(0));
            assert_eq!(build(&project, &[]).0, expected);
        }
    }
}

#[test]
fn garbage_collection_knows_checkpoints() {
    let lines = ["RUN sh -c \"echo 1 > /1\"", "RUN sh -c \"echo 2 > /2\"", "RUN true"];
    for who in [As::Root, As::User] {
        let project = project(who, &lines);
        let built = build(&project, &[]).0;
        let du: serde_json::Value = serde_json::from_str(&project.ok(&["store", "du", "--json"])).unwrap();
        let of_main =
            du["checkpoints"].as_array().unwrap().iter().find(|it| it["layer"] == "main").unwrap().clone();
        assert_eq!(of_main["steps"], serde_json::json!([2, 3]));
        assert!(of_main["bytes"].as_u64().unwrap() > 0);
        assert!(project.ok(&["store", "du"]).contains("checkpoints of main"));
        let gc = |args: &[&str]| -> Vec<String> {
            let done = project.ok(&[&["store", "gc", "--json"], args].concat());
            let done: serde_json::Value = serde_json::from_str(&done).unwrap();
            let layers = done["result"]["checkpoints"].as_array().unwrap().iter();
            let mut layers: Vec<String> = layers.map(|it| it["layer"].as_str().unwrap().to_owned()).collect();
            layers.sort();
            layers
        };
        assert_eq!(gc(&[]), [""; 0]);
        assert_eq!(gc(&["--older-than", "1h"]), [""; 0]);
        assert_eq!(gc(&["--max-size", "1", "--dry-run"]), ["base", "low", "main"]);
        // Those of `main` were last used eight days ago.
        let dir = project.store().join("checkpoints").join(of_main["key"].as_str().unwrap());
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 24 * 3600);
        fs::File::open(&dir).unwrap().set_modified(then).unwrap();
        assert_eq!(gc(&["--older-than", "9d"]), [""; 0]);
        assert_eq!(gc(&[]), ["main"]);
        assert!(!dir.exists());
        assert_eq!(gc(&["--max-size", "1"]), ["base", "low"]);
        assert!(files(project.store()).is_empty());
        // Trees that are needed are there.
        assert_eq!(build(&project, &[]), (built, vec![]));
    }
}

#[test]
fn a_store_that_is_only_read_is_left_alone() {
    let lines = ["RUN sh -c \"echo 1 > /1\"", "RUN sh -c \"echo 2 > /2\"", "RUN true"];
    let project = project(As::Root, &lines);
    build(&project, &[]);
    let before = files(project.store());
    set(&project, &[lines[0], lines[1], "RUN sh -c true"]);
    let lower = project.store().to_str().unwrap().to_owned();
    let above = ["--store", "above", "--store-lower", &lower];
    assert_eq!(build(&project, &above).1, [1, 2, 3, 4]);
    set(&project, &[lines[0], lines[1], "RUN sh -c false || true"]);
    set(&project, &[lines[0], lines[1], "RUN sh -c \"true 2\""]);
    assert_eq!(build(&project, &above).1, [4]);
    assert_eq!(files(project.store()), before);
}

/// Does something in namespaces of its own, after these commands.
fn apart(flags: UnshareFlags, commands: &[&str], it: impl FnOnce() + Send + 'static) {
    let commands: Vec<String> = commands.iter().map(|it| (*it).to_owned()).collect();
    let thread = std::thread::spawn(move || {
        // SAFETY: descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
        for command in commands {
            let done = Command::new("sh").args(["-ec", &command]).status().unwrap();
            assert!(done.success(), "{command}");
        }
        it();
    });
    thread.join().unwrap();
}

#[test]
fn the_network_of_steps_is_remembered() {
    // A network where 203.0.113.7 is this machine.
    let network = ["busybox ip link set lo up", "busybox ip address add 203.0.113.7/32 dev lo"];
    for who in [As::Root, As::User] {
        apart(UnshareFlags::NEWNET, &network, move || the_network_is_remembered(who));
    }
}

fn the_network_is_remembered(who: As) {
    let answer = |path: &str| match path {
        "/missing" => (404, String::new(), b"no".to_vec()),
        _ => (200, "ETag: \"1\"\r\n".to_owned(), path.as_bytes().to_vec()),
    };
    let server = Server::at("203.0.113.7:80", answer);
    let get = |name: &str| format!("RUN sh -c \"wget -q -O - http://203.0.113.7/{name} >> /got || true\"");
    let (z, a, m, missing) = (get("z"), get("a"), get("m"), get("missing"));
    let asked = || {
        let mut seen = server.seen();
        seen.sort();
        seen
    };
    let project = project(who, &[&z, &missing, "RUN false", &a, &z]);
    project.fails(&["realize", "main"], &["step 4 failed"]);
    assert!(!project.path("Raptor.lock").exists());
    assert_eq!(asked(), ["/missing", "/z"]);
    // What the steps before had seen is in the lock, as in a build in one go.
    set(&project, &[&z, &missing, "RUN true", &a, &z]);
    let (resumed, steps) = build(&project, &[]);
    assert_eq!(steps, [4, 5, 6]);
    assert_eq!(asked(), ["/a", "/missing", "/z"]);
    let lock = project.read("Raptor.lock");
    assert_eq!((in_one_go(&project), project.read("Raptor.lock")), (resumed.clone(), lock.clone()));
    fs::remove_file(project.path("Raptor.lock")).unwrap();
    assert_eq!((in_one_go(&project), project.read("Raptor.lock")), (resumed, lock.clone()));
    // With the lock, a locked build may resume, but not ask for more.
    let before = asked().len();
    set(&project, &[&z, &missing, "RUN true", &a, "RUN sh -c true", &z]);
    assert_eq!(build(&project, &["--locked"]).1, [6, 7]);
    set(&project, &[&z, &missing, "RUN true", &a, "RUN sh -c true", &m]);
    let refused = project.run(&["realize", "main", "--locked"]);
    assert_eq!((refused.status, self::steps(&refused)), (Some(1), vec![7]), "{}", refused.stderr);
    assert_eq!(asked().len(), before);
    // Whoever takes a request out of the lock wants it anew.
    let is_other = |line: &&str| !line.contains("203.0.113.7/a");
    let without: String = lock.lines().filter(is_other).map(|it| format!("{it}\n")).collect();
    assert_ne!(without, lock);
    fs::write(project.path("Raptor.lock"), without).unwrap();
    assert_eq!(build(&project, &[]).1, [5, 6, 7]);
    assert_eq!(asked().len(), before + 2, "{:?}", asked());
    // Another answer in the lock is another build.
    set(&project, &[&z, &missing, "RUN true", &a, "RUN sh -c true", "RUN sh -c \"true 2\""]);
    let other = project.read("Raptor.lock").replace("\\\"1\\\"", "\\\"2\\\"").replace("'\"1\"'", "'\"2\"'");
    assert_ne!(other, project.read("Raptor.lock"));
    fs::write(project.path("Raptor.lock"), other).unwrap();
    assert_eq!(build(&project, &[]).1, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn large_files_share_their_blocks() {
    const SIZE: u64 = 96 << 20;
    let step = |n: u8| format!("RUN sh -c \"printf {n} | dd of=/large conv=notrunc\"");
    let large = format!("RUN dd if=/dev/zero of=/large bs=1M count={}", SIZE >> 20);
    let project = project(As::Root, &[&large, &step(1), "RUN true"]);
    let (store, image) = (project.store().to_path_buf(), project.path("image"));
    fs::create_dir(&store).unwrap();
    fs::File::create(&image).unwrap().set_len(3 << 30).unwrap();
    let (image, dir) = (image.display(), store.display());
    let mount = [
        format!("mkfs.xfs -q {image}"),
        "mount --make-rprivate /".into(),
        format!("mount -o loop {image} {dir}"),
    ];
    apart(UnshareFlags::NEWNS, &mount.each_ref().map(String::as_str), move || {
        let used = || {
            let now = rustix::fs::statvfs(project.store()).unwrap();
            (now.f_blocks - now.f_bfree) * now.f_frsize
        };
        let before = used();
        build(&project, &[]);
        set(&project, &[&large, &step(2), "RUN true"]);
        let (hash, steps) = build(&project, &[]);
        assert_eq!(steps, [3, 4]);
        // Two layers and the packs of two checkpoints have the same blocks.
        let grown = used() - before;
        assert!(grown < SIZE * 3 / 2, "{grown} bytes for a file of {SIZE}");
        let there = fs::read(project.store().join("trees").join(&hash).join("large")).unwrap();
        assert_eq!((there.len() as u64, there[0]), (SIZE, b'2'));
        assert!(there[1..].iter().all(|it| *it == 0));
        assert!(Command::new("umount").arg(project.store()).status().unwrap().success());
    });
}
