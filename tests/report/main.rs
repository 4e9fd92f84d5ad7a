//! What raptor tells of builds: events, estimates, the order of work, reports, logs and the timings page.
//!
//! Needs chromium, which `.ci/setup` installs, for the page.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod builds;
mod page;
mod results;

use common::{As, Project, Ran};
use serde_json::Value;

/// Three layers on busybox, of which one needs another.
const FILES: &[(&str, &str)] = &[
    ("left.rapt", "FROM base\nRUN sh -c \"echo said by left\"\nWRITE left /left\n"),
    ("right.rapt", "FROM base\nRUN true\nWRITE right /right\n"),
    ("top.rapt", "FROM left\nRUN sh -c \"sleep 0.2; echo said by top\"\n"),
];

fn project(who: As) -> Project {
    Project::busybox(who, FILES)
}

/// Makes the store believe that building took so long, in milliseconds.
fn remember(project: &Project, times: &[(&str, u64)]) {
    let names: serde_json::Map<String, Value> = times
        .iter()
        .map(|(name, millis)| ((*name).to_owned(), serde_json::json!({ "made": 1, "millis": [millis] })))
        .collect();
    let object = serde_json::json!({ "names": names }).to_string();
    let check = blake3::hash(format!("times.json\0{object}").as_bytes());
    let record = format!("{},\"check\":\"{check}\"}}\n", object.strip_suffix('}').unwrap());
    std::fs::write(project.store().join("state/times.json"), record).unwrap();
}

/// Lines of stderr with `--message-format json`, each as a schema says.
fn lines(ran: &Ran) -> Vec<Value> {
    let (progress, diagnostic) =
        (common::schema::read("progress.json"), common::schema::read("diagnostic.json"));
    let mut lines = Vec::new();
    for line in ran.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let kind = line["type"].as_str().unwrap();
        let schema = if progress["$defs"].get(kind).is_some() { &progress } else { &diagnostic };
        common::schema::check(schema, kind, &line);
        common::schema::validate(schema, schema, &line).unwrap();
        lines.push(line);
    }
    lines
}

/// Runs a command with events.
fn events(project: &Project, args: &[&str]) -> (Ran, Vec<Value>) {
    let ran = project.run(&[&["--message-format", "json"], args].concat());
    let lines = lines(&ran);
    (ran, lines)
}

/// Events of one type.
fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|it| it["type"] == kind).collect()
}

/// One field of each, as texts.
fn texts<'a>(events: &[&'a Value], field: &str) -> Vec<&'a str> {
    events.iter().map(|it| it[field].as_str().unwrap()).collect()
}
