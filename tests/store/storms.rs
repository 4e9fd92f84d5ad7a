//! Many processes at once, and processes that are killed at any time.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::origin::{Origin, URL};
use super::*;

/// Kills in one run; with a longer run in mind, set `RAPTOR_TEST_KILLS`.
const KILLS: usize = 60;

/// Modules in the graph that many processes build; each is on another one.
const MODULES: usize = 8;

#[test]
fn many_processes_build_each_derivation_once() {
    build_at_once(As::Root, &mut |_| {});
    build_at_once(As::User, &mut |_| {});
}

/// What is built is needed all the time: by processes that run, then by the roots that they make before they end.
#[test]
fn many_processes_build_each_derivation_once_while_garbage_is_collected() {
    build_at_once(As::Root, &mut |project| drop(project.ok(&["store", "gc", "-q"])));
    build_at_once(As::User, &mut |project| drop(project.ok(&["store", "gc", "-q"])));
}

/// 16 processes build parts of one graph, of which nothing is in the lock yet.
fn build_at_once(who: As, meanwhile: &mut dyn FnMut(&Project)) {
    let origin = Origin::start();
    let project = Project::busybox(who, &[("data/one", "1\n")]);
    for idx in 0..MODULES {
        let from = if idx == 0 { "base".to_owned() } else { format!("m{}", idx / 2) };
        let first = if idx == 0 { format!("MKDIR /srv\nFETCH {URL}/pinned /srv/\n") } else { String::new() };
        let text = format!(
            "FROM {from}\n{first}COPY data /d{idx}\nRUN /bin/busybox wget -q -O /srv/w{idx} {URL}/asked-{idx}\n"
        );
        project.write(&format!("m{idx}.rapt"), &text);
    }
    let start = |idx: usize| {
        let targets: Vec<String> = (0..3).map(|n| format!("m{}", (idx * 3 + n * 5) % MODULES)).collect();
        let mut args = vec!["build", "--json"];
        args.extend(targets.iter().map(String::as_str));
        let mut command = project.command(&args);
        origin.serves(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..16).map(start).collect();
    let begin = Instant::now();
    while children.iter_mut().any(|it| it.try_wait().unwrap().is_none()) {
        meanwhile(&project);
        assert!(begin.elapsed() < Duration::from_secs(300), "they wait for each other");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut built, mut told) = (0, String::new());
    for child in children {
        let ran = common::ran(child.wait_with_output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        built += report["built"].as_u64().unwrap();
        told += &format!("--\n{}", ran.stderr);
    }
    // Each once: the modules, the base, two project files, the file of the network.
    assert_eq!(built, MODULES as u64 + 4, "{told}");
    let mut asked: Vec<(String, usize)> = (0..MODULES).map(|idx| (format!("/asked-{idx}"), 1)).collect();
    asked.push(("/pinned".to_owned(), 1));
    assert_eq!(origin.seen().into_iter().collect::<Vec<_>>(), asked, "{told}");
    verify(&project);
}

#[test]
fn whatever_is_killed_what_is_registered_is_right() {
    let kills = std::env::var("RAPTOR_TEST_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let project = project(As::Root);
    let expected = realize(&project, "top");
    project.ok(&["store", "export", "-o", "archive", "top"]);
    let commands: &[&[&str]] = &[
        &["build", "-q", "top"],
        &["build", "-q", "extra"],
        &["store", "import", "-q", "--trust", "archive"],
        &["store", "gc", "-q"],
        &["store", "gc", "-q", "--max-size", "10"],
        &["store", "optimise"],
        &["store", "verify"],
    ];
    for kill in 0..kills {
        project.write("extra.rapt", &format!("FROM base\nWRITE \"{kill}\" /n\nCOPY data /srv/more\n"));
        // Nothing is needed, so that all of it comes and goes.
        if random.gen_bool(0.5) {
            let _ = fs::remove_dir_all(project.store().join("roots"));
        }
        let args = commands[random.gen_range(0..commands.len())];
        let mut child = project.start(args);
        std::thread::sleep(Duration::from_micros(random.gen_range(500..60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let ran = project.run(&["store", "verify"]);
        assert_eq!(
            ran.status,
            Some(0),
            "seed {seed}, kill {kill} of {args:?}:\n{}{}",
            ran.stdout,
            ran.stderr
        );
        if kill % 10 == 9 {
            assert_eq!(realize(&project, "top"), expected, "seed {seed}, kill {kill}");
        }
    }
    project.ok(&["store", "gc"]);
    let store = project.store();
    let left: Vec<String> = names(&store.join("tmp"));
    // Records in the making have no lock; they go when they are older.
    assert!(left.iter().all(|it| it.starts_with("record-")), "{left:?}");
    assert_eq!(names(&store.join("trees")), trees(&project));
    assert_eq!(names(&store.join("uses")), [""; 0]);
    assert_eq!(realize(&project, "top"), expected);
}
