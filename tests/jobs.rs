//! Jobs of Raptor.toml and containers of `raptor run`: mounts, commands, states, links.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{As, Project};

/// A base with two layers above it, and a tool that reports what it sees.
const FILES: &[(&str, &str)] = &[
    ("base.rapt", "FROM debian://bookworm\nWRITE \"base\\n\" /etc/layer\nWRITE \"old\\n\" /etc/gone\n"),
    ("top.rapt", "FROM base\nWRITE \"top\\n\" /etc/layer\nRUN rm /etc/gone\n"),
    (
        "tool.rapt",
        "FROM debian://bookworm\n\
         MOUNT --simple  --optional cache  /cache\n\
         MOUNT --layers             input  /input\n\
         MOUNT --file               output /output/report\n\
         CMD \"cd /input && { cat raptor.json; cat */etc/layer; test -c top-*/etc/gone && echo deleted; } > /output/report\"\n",
    ),
];

fn project(more: &[(&str, &str)]) -> Project {
    let files: Vec<_> = FILES.iter().chain(more).copied().collect();
    Project::debian(As::Root, &files)
}

#[test]
fn layers_are_seen_one_by_one_with_what_they_delete() {
    let toml = "[run.report]\ntarget = \"tool\"\ninput = [\"top\", \"base\"]\noutput = \"out/report\"\n";
    let project = project(&[("Raptor.toml", toml)]);
    project.ok(&["make"]);
    let report = project.read("out/report");
    let (json, rest) = report.split_at(report.find("\n}\n").map(|at| at + 3).expect("raptor.json"));
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["targets"], serde_json::json!(["top", "base"]));
    let names: Vec<&str> =
        json["layers"]["top"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let stems: Vec<&str> = names.iter().map(|it| it.rsplit_once('-').unwrap().0).collect();
    assert_eq!(stems, ["debian-bookworm", "base", "top"]);
    assert_eq!(rest, "base\ntop\ndeleted\n");
}

#[test]
fn overlays_files_and_directories() {
    let tool = "FROM debian://bookworm\n\
                MOUNT --overlay            input  /input\n\
                MOUNT --simple --readonly  data   /data\n\
                MOUNT --simple             output /output\n\
                CMD \"cat /input/etc/layer > /output/a; test -e /input/etc/gone || echo gone > /output/b; mkdir /output/d; \
                cp -r /input/etc/passwd /output/d\"\n";
    let toml = "[run.all]\ntarget = \"see\"\ninput = \"top\"\noutput = \"seen\"\n";
    let tool = tool.replace("MOUNT --simple --readonly  data   /data\n", "");
    let project = project(&[("see.rapt", &tool), ("Raptor.toml", toml)]);
    project.ok(&["make", "all"]);
    assert_eq!((project.read("seen/a"), project.read("seen/b")), ("top\n".into(), "gone\n".into()));
    assert!(project.read("seen/d/passwd").contains("root:"));
    // A directory that raptor made is replaced as a whole; one that it did not make stays.
    project.write("seen/stray", "x");
    project.ok(&["make", "all"]);
    assert!(!project.path("seen/stray").exists());
    fs::rename(project.path("seen"), project.path("kept")).unwrap();
    project.write("seen/precious", "x");
    project.fails(&["make", "all"], &["seen is a directory that raptor did not make"]);
    assert_eq!(project.read("seen/precious"), "x");
}

#[test]
fn read_only_inputs_of_the_host_are_imported() {
    let tool = "FROM debian://bookworm\n\
                MOUNT --simple --readonly input /input\nMOUNT --file output /output/x\n\
                CMD \"cat /input/sub/file > /output/x\"\n";
    let toml = "[run.x]\ntarget = \"see\"\ninput = \"data\"\noutput = \"x\"\n";
    let project = project(&[("see.rapt", tool), ("Raptor.toml", toml), ("data/sub/file", "one\n")]);
    project.ok(&["make", "x"]);
    assert_eq!(project.read("x"), "one\n");
    project.write("data/sub/file", "two\n");
    project.ok(&["make", "x"]);
    assert_eq!(project.read("x"), "two\n");
    fs::remove_file(project.path("x")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&project.ok(&["make", "--json", "x"])).unwrap();
    assert_eq!(report["built"], 0, "a lost copy is made again without building: {report}");
    assert_eq!(project.read("x"), "two\n");
}

#[test]
fn jobs_that_fail_leave_no_output() {
    let tool =
        "FROM debian://bookworm\nMOUNT --file output /output/x\nCMD \"echo half > /output/x; exit 5\"\n";
    let empty = "FROM debian://bookworm\nMOUNT --file output /output/x\nCMD true\n";
    let toml = "[run.x]\ntarget = \"bad\"\noutput = \"x\"\n[run.y]\ntarget = \"empty\"\noutput = \"y\"\n";
    let project = project(&[("bad.rapt", tool), ("empty.rapt", empty), ("Raptor.toml", toml)]);
    project.fails(&["make", "x"], &["x: step 1 failed", "exit status 5"]);
    project.fails(&["make", "y"], &["not written"]);
    assert!(!project.path("x").exists() && !project.path("y").exists());
}

#[test]
fn jobs_without_output_always_run() {
    let tool = "FROM debian://bookworm\nENTRYPOINT /bin/echo\nCMD hello\n";
    let toml = "[run.say]\ntarget = \"say\"\n[run.more]\ntarget = \"say\"\nargs = [\"a\", \"b c\"]\n\
                [group.all]\nrun = [\"say\", \"more\"]\nbuild = [\"top\"]\n";
    let project = project(&[("say.rapt", tool), ("Raptor.toml", toml)]);
    for _ in 0..2 {
        assert_eq!(project.ok(&["make", "-q", "say"]), "hello\n");
    }
    assert_eq!(project.ok(&["make", "-q", "%all"]), "hello\na b c\n");
    assert_eq!(project.run(&["make", "-n"]).status, Some(0));
    project.fails(&["make", "nothere"], &["nothere", "more, say"]);
    project.fails(&["make", "%nothere"], &["nothere", "all"]);
}

#[test]
fn missing_mounts_and_commands_are_errors() {
    let toml = "[run.a]\ntarget = \"tool\"\noutput = \"x\"\n[run.b]\ntarget = \"base\"\noutput = \"x\"\n\
                [run.c]\ntarget = \"tool\"\ninput = \"nomodule\"\noutput = \"x\"\n";
    let project = project(&[("Raptor.toml", toml)]);
    project.fails(&["make", "a"], &["required mount [input] not specified", "tool.rapt:3:1"]);
    project.fails(&["make", "b"], &["neither CMD nor arguments"]);
    project.fails(&["make", "c"], &["`nomodule` is not a module"]);
}

#[test]
fn run_gives_the_status_of_what_ran() {
    for who in [As::Root, As::User] {
        let project = Project::debian(who, FILES);
        let ran = project.run(&["run", "-q", "top", "cat /etc/layer; echo $X; exit 9", "-e", "X=1"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(9), "top\n1\n"), "{}", ran.stderr);
    }
}

#[test]
fn run_keeps_a_state_and_mounts_host_paths() {
    let tool = "FROM base\nMOUNT --simple input /in\nMOUNT --file output /out/f\nENTRYPOINT /bin/sh\n";
    for who in [As::Root, As::User] {
        let project = Project::debian(who, FILES);
        project.write("t.rapt", tool);
        project.write("in/x", "from host\n");
        let args = ["run", "-q", "-s", "state", "-I", "in", "-O", "out", "t", "--", "-c"];
        let script = "cat /in/x > /out/f; echo back > /in/y; echo kept >> /srv/kept";
        project.ok(&[&args[..], &[script]].concat());
        assert_eq!((project.read("out"), project.read("in/y")), ("from host\n".into(), "back\n".into()));
        let shown = project.ok(&[&args[..], &["cat /srv/kept"]].concat());
        assert_eq!(shown, "kept\n", "{who:?}");
    }
}

#[test]
fn packages_are_linked_on_the_command_line_and_in_the_manifest() {
    let project = Project::new(&[
        ("t.rapt", "FROM $lib.sub.base\nCMD true\n"),
        ("libs/one/sub/base.rapt", "INCLUDE more n=3\n"),
        ("libs/one/sub/more.rinc", "WRITE \"{{ n }}\" /n\n"),
    ]);
    project.fails(&["check", "t"], &["package not found: $lib"]);
    project.ok(&["check", "-L", "lib", "libs/one", "t"]);
    project.write("Raptor.toml", "[raptor.link]\nlib = \"libs/one\"\n[run.r]\ntarget = \"t\"\n");
    project.ok(&["check", "t"]);
    project.ok(&["check"]);
    assert_eq!(project.ok(&["dump", "$lib.sub.base"]), "WRITE \"3\" /n\n\n");
}

#[test]
fn instances_are_built_apart() {
    let project = Project::debian(
        As::Root,
        &[("x@.rapt", "FROM debian://bookworm\nWRITE \"{{ instance }}\\n\" /srv/i\n")],
    );
    let paths = project.ok(&["realize", "x@1", "x@2"]);
    let texts: Vec<String> =
        paths.lines().map(|path| fs::read_to_string(format!("{path}/srv/i")).unwrap()).collect();
    assert_eq!(texts, ["1\n", "2\n"]);
}
