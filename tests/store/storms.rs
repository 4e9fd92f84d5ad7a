//! Many processes at once, and processes that are killed at any time.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Kills in one run; with a longer run in mind, set `RAPTOR_TEST_KILLS`.
const KILLS: usize = 60;

#[test]
fn many_processes_build_each_derivation_once_while_garbage_is_collected() {
    let project = project(As::Root);
    let mut all = 0;
    for idx in 0..8 {
        let from = if idx == 0 { String::new() } else { format!("FROM m{}\n", idx / 2) };
        project
            .write(&format!("m{idx}.rapt"), &format!("{from}COPY data /d{idx}\nWRITE \"{idx}\" /w{idx}\n"));
        all += 1;
    }
    let start = |idx: usize| {
        let targets: Vec<String> = (0..3).map(|n| format!("m{}", (idx * 3 + n * 5) % 8)).collect();
        let mut args = vec!["build", "-q", "--json"];
        args.extend(targets.iter().map(String::as_str));
        project.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..16).map(start).collect();
    let begin = Instant::now();
    while children.iter_mut().any(|it| it.try_wait().unwrap().is_none()) {
        project.ok(&["store", "gc", "-q"]);
        assert!(begin.elapsed() < Duration::from_secs(300), "they wait for each other");
    }
    let mut built = 0;
    for child in children {
        let ran = common::ran(child.wait_with_output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        built += report["built"].as_u64().unwrap();
    }
    // Whoever imports a project file counts it as built; derivations are one for each module.
    let realized = names(&project.store().join("realized")).len() as u64;
    assert_eq!(realized, all, "each has one result");
    let sources = built - all;
    assert!(sources <= 16, "{built} were built for {all}");
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
