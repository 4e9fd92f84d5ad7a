//! Events, estimates, the order of work, and the report at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};

use super::*;
use crate::common::server::Server;

#[test]
fn events_tell_everything_that_happens() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let (ran, events) = events(&project, &["-j", "2", "build", "top", "right"]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert_eq!((&events[0]["type"], &events[0]["total"]), (&"planned".into(), &5.into()));
        let done = of(&events, "done");
        assert_eq!(done.last().unwrap()["done"], 5);
        let mut names = texts(&done, "name");
        names.sort_unstable();
        assert_eq!(names, ["base", "busybox", "left", "right", "top"]);
        // Everything that begins ends, inputs before what needs them.
        assert_eq!(of(&events, "started").len(), 5);
        let place = |kind: &str, name: &str| {
            events.iter().position(|it| it["type"] == kind && it["name"] == name).unwrap()
        };
        assert!(place("done", "base") < place("started", "left"));
        assert!(place("done", "left") < place("started", "top"));
        let steps = of(&events, "step");
        assert_eq!(steps.len(), of(&events, "step-done").len());
        assert_eq!(steps.len(), 5 + 2 + 2 + 1);
        assert!(texts(&steps, "text").contains(&"RUN true"));
        // Nothing was built here before, so nobody knows how long it takes.
        assert!(of(&events, "estimate").is_empty());
        assert!(of(&events, "output").is_empty());
        let report = events.last().unwrap();
        assert_eq!(
            (&report["type"], &report["status"], &report["built"], &report["reused"]),
            (&"report".into(), &"done".into(), &5.into(), &0.into())
        );
        assert_eq!(report["slowest"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn output_is_told_to_who_wants_it_and_nothing_to_who_does_not() {
    let project = project(As::Root);
    let (_, told) = events(&project, &["-v", "build", "top"]);
    assert_eq!(texts(&of(&told, "output"), "text"), ["said by left", "said by top"]);
    let project = super::project(As::Root);
    for format in ["json", "human"] {
        let ran = project.run(&["-q", "--message-format", format, "build", "top"]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn downloads_are_told_of_and_counted() {
    let body = vec![b'x'; 3_000_000];
    let digest = format!("{:x}", Sha256::digest(&body));
    let server = Server::start(move |_| (200, String::new(), body.clone()));
    let file = format!("MKDIR /srv\nFETCH --sha256 {digest} {} /srv/a\n", server.url("/file"));
    let project = Project::new(&[("t.rapt", &file)]).with_empty_store();
    let (ran, events) = events(&project, &["build", "t"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let fetched = of(&events, "fetched");
    let bytes: Vec<u64> = fetched.iter().map(|it| it["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted() && bytes.last() == Some(&3_000_000), "{bytes:?}");
    assert!(fetched.iter().all(|it| it["files"] == 1));
    let report = events.last().unwrap();
    assert_eq!(report["fetched"], serde_json::json!({ "bytes": 3_000_000, "files": 1 }));
    // What is here is not fetched again.
    let (_, events) = super::events(&project, &["build", "t"]);
    assert_eq!(events.last().unwrap()["fetched"], serde_json::json!({ "bytes": 0, "files": 0 }));
}

#[test]
fn estimates_come_from_earlier_builds_and_survive_damage() {
    let project = project(As::Root);
    project.ok(&["build", "-q", "top", "right"]);
    let record = project.store().join("state/times.json");
    let times: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    let known = |name: &str| times["names"][name]["millis"][0].as_u64();
    assert!(known("layer top").unwrap() >= 200, "{times}");
    assert!(known("layer base").is_some() && known("source busybox").is_none(), "{times}");
    // What is left after `base`, which is reused: this much at most, one after the other.
    let most = known("layer left").unwrap() + known("layer top").unwrap() + known("layer right").unwrap();
    let change = |text: &str| {
        project.write("left.rapt", &format!("FROM base\nWRITE {text} /left\n"));
        project.write("right.rapt", &format!("FROM base\nWRITE {text} /right\n"));
    };
    change("second");
    let (_, told) = events(&project, &["-j", "1", "build", "top", "right"]);
    let estimates = of(&told, "estimate");
    let millis: Vec<u64> = estimates.iter().map(|it| it["millis"].as_u64().unwrap()).collect();
    assert!(
        !millis.is_empty() && millis[0] >= 200 && millis.iter().all(|it| *it <= most),
        "{millis:?} {most}"
    );
    assert!(estimates.iter().all(|it| it["at_least"] == false));
    // With something new, it is a lower bound.
    project.write("new.rapt", "FROM base\nWRITE new /new\n");
    change("third");
    let (_, told) = events(&project, &["-j", "1", "build", "top", "right", "new"]);
    assert!(of(&told, "estimate").iter().any(|it| it["at_least"] == true), "{told:?}");
    // A damaged record is as good as none, and is made anew.
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("layer", "laxer", 1)).unwrap();
    let verified = project.run(&["store", "verify"]);
    assert!(verified.stdout.contains("times.json"), "{}", verified.stdout);
    change("fourth");
    let (ran, told) = events(&project, &["build", "top", "right"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.stderr.contains("the times of earlier builds are not used"), "{}", ran.stderr);
    assert!(of(&told, "estimate").is_empty());
    assert_eq!(project.run(&["store", "verify"]).status, Some(0));
    change("fifth");
    let (ran, told) = events(&project, &["build", "top", "right"]);
    assert!(!ran.stderr.contains("not used") && !of(&told, "estimate").is_empty(), "{}", ran.stderr);
}

#[test]
fn what_takes_long_is_begun_first() {
    let project = Project::busybox(As::Root, &[]);
    project.ok(&["build", "-q", "base"]);
    // Four times, so that the order of ids alone would not do.
    for text in ["1", "2", "3", "4"] {
        for (slow, quick) in [("a", "z"), ("z", "a")] {
            for name in ["a", "z"] {
                project.write(&format!("{name}.rapt"), &format!("FROM base\nWRITE {text}{slow} /{name}\n"));
            }
            remember(&project, &[(&format!("layer {slow}"), 60_000), (&format!("layer {quick}"), 10)]);
            let (ran, events) = events(&project, &["-j", "1", "build", "a", "z"]);
            assert_eq!(ran.status, Some(0), "{}", ran.stderr);
            assert_eq!(texts(&of(&events, "started"), "name"), [slow, quick], "{text}");
        }
    }
    // A chain counts as a whole.
    for (chain, first) in [(59_000, "a"), (61_000, "z")] {
        for name in ["a", "z"] {
            project.write(&format!("{name}.rapt"), &format!("FROM base\nWRITE {chain} /{name}\n"));
        }
        project.write("chain.rapt", &format!("FROM z\nWRITE {chain} /chain\n"));
        remember(&project, &[("layer a", 60_000), ("layer z", 10), ("layer chain", chain)]);
        let (_, events) = events(&project, &["-j", "1", "build", "a", "chain"]);
        assert_eq!(texts(&of(&events, "started"), "name")[0], first);
    }
}

#[test]
fn the_report_is_a_few_lines() {
    let project = project(As::Root);
    let ran = project.run(&["build", "top"]);
    let report: Vec<&str> = ran.stderr.lines().rev().take(2).collect();
    assert!(
        report[1].starts_with("done: 4 built, 0 reused, ") && report[1].ends_with(" s in all"),
        "{report:?}"
    );
    assert!(report[0].starts_with("slowest: layer "), "{report:?}");
    assert_eq!(report[0].matches(" s").count() - report[0].matches(" slowest").count(), 3, "{report:?}");
    let ran = project.run(&["realize", "top"]);
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.starts_with("done: 0 built, 4 reused, "), "{last}");
    assert_eq!(ran.stdout.lines().count(), 1);
}

#[test]
fn failures_are_listed_again_with_their_logs() {
    let project = project(As::Root);
    project.write("left.rapt", "FROM base\nRUN sh -c \"echo it broke; exit 3\"\n");
    let ran = project.run(&["-k", "build", "top", "right"]);
    assert_eq!(ran.status, Some(1));
    let last = ran.stderr.lines().last().unwrap();
    let (what, command) = last.split_once("; its log: raptor ").unwrap();
    assert_eq!(what, "failed: layer left");
    assert!(project.ok(&command.split(' ').collect::<Vec<_>>()).contains("it broke\n"));
    assert!(ran.stderr.contains("\nfailed: 3 built, 0 reused, 1 failed, "), "{}", ran.stderr);
    let (_, told) = events(&project, &["-k", "build", "top", "right"]);
    assert_eq!(texts(&of(&told, "failed"), "name"), ["left"]);
    let report = told.last().unwrap();
    assert_eq!((&report["status"], &report["failed"][0]["name"]), (&"failed".into(), &"left".into()));
    assert!(report["failed"][0]["log"].as_str().unwrap().starts_with("raptor log "));
    // What fails before anything is planned has no report.
    let ran = project.run(&["build", "nothere"]);
    assert!(!ran.stderr.contains("in all"), "{}", ran.stderr);
}

#[test]
fn a_terminal_shows_what_goes_on_and_keeps_the_report() {
    let project = project(As::Root);
    project.ok(&["build", "-q", "top"]);
    remember(&project, &[("layer left", 60_000), ("layer top", 60_000)]);
    project.write("left.rapt", "FROM base\nRUN sh -c \"printf 'no \\\\033[31m colour'; sleep 1\"\n");
    project.write(
        "script.sh",
        &format!("stty cols 120 rows 30\nexec {} build -j 1 top\n", common::raptor().display()),
    );
    fs::set_permissions(project.path("script.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", "sh script.sh", "/dev/null"]);
    command.current_dir(project.path("")).env("RAPTOR_STORE", project.store()).env("TERM", "xterm");
    let ran = common::ran(command.output().unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stdout);
    for shown in ["left", "1/1 RUN sh -c printf", "2/4 done: 0 built, 2 reused", "ETA 2 minutes"] {
        assert!(ran.stdout.contains(shown), "no `{shown}` in {:?}", ran.stdout);
    }
    // The last thing is the report, and the live lines are gone.
    let last: Vec<&str> = ran.stdout.trim_end().lines().rev().take(2).collect();
    assert!(last[1].contains("done: 2 built, 2 reused, ") && last[0].starts_with("slowest: "), "{last:?}");
}
