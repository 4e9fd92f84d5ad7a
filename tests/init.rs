//! The projects that `raptor init` writes: they are right, and what they promise works.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{As, Project, shared_lock};
use serde_json::Value;

/// An empty directory in which `raptor init` was run for a template.
fn made(who: As, template: &str) -> Project {
    let project = Project::of(who, &[]);
    project.own();
    let ran = project.run(&["init", "--template", template]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("next:\n    raptor "), "{}", ran.stderr);
    project.write("Raptor.lock", &shared_lock());
    project
}

fn names(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_template_is_a_project_without_faults() {
    let listed = Project::new(&[]).ok(&["init", "--list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let templates: Vec<&str> =
        listed["templates"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(templates[0], "live");
    for template in &templates {
        let project = made(As::User, template);
        assert!(names(&project).contains(&".gitignore".to_owned()), "{:?}", names(&project));
        let checked = project.run(&["check"]);
        assert_eq!(
            (checked.status, checked.stderr.as_str()),
            (Some(0), "No errors detected.\n"),
            "{template}"
        );
        project.ok(&["fmt", "--check"]);
        // Its jobs have derivations, made of what the shared lock has.
        let manifest: toml_edit::DocumentMut = project.read("Raptor.toml").parse().unwrap();
        for (job, _) in manifest["run"].as_table().unwrap() {
            project.ok(&["eval", "--locked", job]);
        }
    }
    let text = Project::new(&[]).ok(&["init", "--list"]);
    assert_eq!(text.lines().map(|it| it.split(' ').next().unwrap()).collect::<Vec<_>>(), templates);
}

#[test]
fn the_container_runs() {
    let project = made(As::Root, "container");
    assert!(project.ok(&["run", "-q", "hello"]).contains("Hello world, from Debian 12."));
    assert!(project.ok(&["run", "-q", "hello", "you"]).contains("Hello you, from Debian 12."));
    project.ok(&["make", "image"]);
    assert!(project.path("hello.tar").is_file());
}

#[test]
fn nothing_is_overwritten() {
    let project = Project::new(&[("base.rapt", "mine")]);
    project.fails(&["init"], &[". has these files already: base.rapt\nhelp: choose another directory"]);
    assert_eq!(names(&project), ["base.rapt"]);

    project.ok(&["init", "-n", "sub/dir"]);
    assert!(!project.path("sub").exists());
    project.ok(&["init", "sub/dir"]);
    assert!(project.read("sub/dir/Raptor.toml").contains("[run.iso]"));
    project.fails(&["init", "sub/dir"], &["sub/dir has these files already: .gitignore, "]);

    let ran = project.run(&["init", "-t", "none"]);
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.stderr.contains("there is no template `none`; known are: live, disk, container"),
        "{}",
        ran.stderr
    );
}
