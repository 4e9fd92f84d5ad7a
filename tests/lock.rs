//! `raptor lock` and `raptor update`, end to end, and what `--locked`, `--offline` and `--frozen` allow.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::internet::{Answer, Internet};
use common::{As, Project, Ran, ran, schema};
use serde_json::{Value, json};

/// Nobody has this address; busybox knows no names.
const URL: &str = "http://192.0.2.1";

/// Every path has a body that says which and what day it is.
fn day(day: &'static str) -> impl Fn(&str, usize) -> Answer + Send + Sync {
    move |url, _| match url.ends_with("/gone") {
        true => Answer::Status(404, ""),
        false => Answer::Ok(format!("{url} on {day}\n").into_bytes()),
    }
}

fn wget(path: &str) -> String {
    format!("RUN wget -q -O /srv/{} {URL}/{path}\n", path.replace('/', "-"))
}

fn with(project: &Project, internet: &Internet, args: &[&str]) -> Ran {
    ran(internet.serves(&mut project.command(args)).output().unwrap())
}

fn ok(project: &Project, internet: &Internet, args: &[&str]) -> String {
    let ran = with(project, internet, args);
    assert_eq!(ran.status, Some(0), "raptor {} failed:\n{}{}", args.join(" "), ran.stdout, ran.stderr);
    ran.stdout
}

fn fails(project: &Project, internet: &Internet, args: &[&str], status: i32, messages: &[&str]) -> Ran {
    let ran = with(project, internet, args);
    assert_eq!(ran.status, Some(status), "raptor {}:\n{}{}", args.join(" "), ran.stdout, ran.stderr);
    for message in messages {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
    ran
}

const MANIFEST: &str =
    "[group.all]\nbuild = [\"top\"]\n[run.job]\ntarget = \"tool\"\ninput = [\"other\"]\noutput = \"out\"\n";

/// A project with a file of FETCH, recorded requests in two layers, and a job.
fn project(who: As) -> Project {
    let project = Project::busybox(who, &[("Raptor.toml", MANIFEST)]);
    project.write("mid.rapt", &format!("FROM base\nMKDIR /srv\nFETCH {URL}/tool /srv/\n{}", wget("mid")));
    project.write("top.rapt", &format!("FROM mid\n{}{}", wget("a"), wget("pool/jq_1.6_amd64.deb")));
    project.write("other.rapt", &format!("FROM base\nMKDIR /srv\n{}", wget("other")));
    project.write(
        "tool.rapt",
        "FROM base\nMOUNT --layers input /input\nMOUNT --file output /output/out\nCMD \"ls /input > /output/out\"\n",
    );
    project
}

#[test]
fn locks_what_is_missing_and_drops_what_is_not_used() {
    let internet = Internet::start(day("monday"));
    let project = project(As::User);
    let ran = fails(&project, &internet, &["lock", "--check"], 1, &["raptor lock"]);
    assert_eq!(ran.stdout, format!("missing {URL}/tool\n"));
    assert!(!project.path("Raptor.lock").exists() && internet.seen().is_empty());

    let told: Value = serde_json::from_str(&ok(&project, &internet, &["lock", "--json"])).unwrap();
    schema::check(&schema::read("results.json"), "lock", &told);
    let names: Vec<&str> =
        told["changes"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, [&*format!("{URL}/tool"), "mid", "other", "top"]);
    let lock = project.read("Raptor.lock");
    assert!(lock.contains("/pool/jq_1.6_amd64.deb") && lock.contains("[layers.other]"), "{lock}");
    assert!(!project.path("out").exists(), "jobs do not run");
    valid(&lock);

    // Nothing is left to do, or to ask.
    let asked = internet.seen();
    assert_eq!(ok(&project, &internet, &["lock", "--check"]), "");
    assert_eq!(ok(&project, &internet, &["lock"]), "");
    ok(&project, &internet, &["--frozen", "make", "job", "%all"]);
    assert_eq!((internet.seen(), project.read("Raptor.lock")), (asked, lock.clone()));

    // What was pinned stays, whatever the world does; what is new is added.
    internet.becomes(day("tuesday"));
    project.write("top.rapt", &format!("FROM mid\n{}{}", wget("a"), wget("b")));
    let added = ok(&project, &internet, &["lock", "top"]);
    let url = format!("{URL}/b");
    assert!(added.starts_with("changed layer top\n  jq") || added.contains("- jq 1.6"), "{added}");
    assert!(added.contains(&format!("+ {url}")), "{added}");
    assert_eq!(internet.seen().keys().map(String::as_str).collect::<Vec<_>>(), [&*url]);
    valid(&project.read("Raptor.lock"));

    // A target alone tells nothing of what others use.
    project.write("Raptor.toml", "[group.all]\nbuild = [\"top\"]\n");
    ok(&project, &internet, &["lock", "--check", "top"]);
    let ran = fails(&project, &internet, &["lock", "--check"], 1, &[]);
    assert_eq!(ran.stdout, "superfluous other\n");
    let before = project.read("Raptor.lock");
    ok(&project, &internet, &["lock", "top"]);
    assert_eq!(project.read("Raptor.lock"), before);
    assert_eq!(ok(&project, &internet, &["lock"]), "removed layer other\n");
    ok(&project, &internet, &["lock", "--check"]);
    assert!(!project.read("Raptor.lock").contains("other"));
}

#[test]
fn what_no_run_asks_for_any_more_leaves_the_lock() {
    let internet = Internet::start(day("monday"));
    let project = project(As::Root);
    ok(&project, &internet, &["build", "top"]);
    assert!(project.read("Raptor.lock").contains("jq_1.6"));
    project.write("top.rapt", &format!("FROM mid\n{}", wget("a")));
    ok(&project, &internet, &["build", "top"]);
    let lock = project.read("Raptor.lock");
    assert!(lock.contains(&format!("{URL}/a")) && !lock.contains("jq_1.6"), "{lock}");
    // The last RUN of a layer takes its entry with it, but not where the lock may not change.
    project.write("top.rapt", "FROM mid\nWRITE \"x\" /x\n");
    ok(&project, &internet, &["--locked", "build", "top"]);
    assert_eq!(project.read("Raptor.lock"), lock);
    ok(&project, &internet, &["build", "top"]);
    let lock = project.read("Raptor.lock");
    assert!(lock.contains("[layers.mid]") && !lock.contains("[layers.top]"), "{lock}");
}

#[test]
fn updates_and_tells_what_changed() {
    let internet = Internet::start(day("monday"));
    let project = project(As::User);
    ok(&project, &internet, &["lock"]);
    let monday = project.read("Raptor.lock");
    let tree = ok(&project, &internet, &["realize", "top"]);

    // Nothing has changed, and so nothing does.
    let ran = with(&project, &internet, &["update"]);
    assert_eq!((ran.status, &*ran.stdout), (Some(0), ""), "{}", ran.stderr);
    assert_eq!(project.read("Raptor.lock"), monday);

    internet.becomes(day("tuesday"));
    let would = ok(&project, &internet, &["-n", "update", "mid", &format!("{URL}/tool")]);
    assert_eq!(would, format!("would pin {URL}/tool anew\nwould record the requests of layer mid anew\n"));
    let would: Value = serde_json::from_str(&ok(&project, &internet, &["-n", "update", "--json"])).unwrap();
    schema::check(&schema::read("results.json"), "would-update", &would);
    assert_eq!(would["inputs"].as_array().unwrap().len(), 4);
    assert!(internet.seen().is_empty() && project.read("Raptor.lock") == monday);

    // One layer, and only that.
    let told = ok(&project, &internet, &["update", "mid"]);
    assert!(told.starts_with(&format!("changed layer mid\n  {URL}/mid ")) && told.contains(" → "), "{told}");
    assert_eq!(internet.seen().into_keys().collect::<Vec<_>>(), [format!("{URL}/mid")]);
    let moved = project.read("Raptor.lock");
    let others =
        |lock: &str| lock.lines().filter(|it| !it.contains("/mid\"")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(others(&moved), others(&monday));
    assert_ne!(moved, monday);

    // The rest of it, with a package in another version.
    project.write("top.rapt", &format!("FROM mid\n{}{}", wget("a"), wget("pool/jq_1.7_amd64.deb")));
    let told: Value = serde_json::from_str(&ok(&project, &internet, &["update", "--json"])).unwrap();
    schema::check(&schema::read("results.json"), "lock", &told);
    let changes = told["changes"].as_array().unwrap();
    let of = |name: &str| changes.iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(of("top")["packages"], json!([{ "of": "jq", "old": "1.6", "new": "1.7" }]));
    assert_eq!(of(&format!("{URL}/tool"))["section"], "fetch");
    assert!(changes.iter().all(|it| it["name"] != "mid"), "{told}");
    valid(&project.read("Raptor.lock"));
    // It is what a build from nothing would have seen.
    assert_ne!(ok(&project, &internet, &["--frozen", "realize", "top"]), tree);
    fs::remove_file(project.path("Raptor.lock")).unwrap();
    let updated = ok(&project, &internet, &["realize", "top"]);
    project.fails(&["update", "tpo"], &["has no `tpo`", "did you mean `top`?"]);
    assert_eq!(ok(&project, &internet, &["--frozen", "realize", "top"]), updated);
}

#[test]
fn a_failed_update_leaves_what_failed_as_it_was() {
    let internet = Internet::start(day("monday"));
    let project = project(As::Root);
    ok(&project, &internet, &["lock"]);
    let monday = project.read("Raptor.lock");
    internet.becomes(|url, before| match url.ends_with("/a") || url.ends_with("/tool") {
        true => Answer::Status(404, ""),
        false => day("tuesday")(url, before),
    });
    let ran =
        fails(&project, &internet, &["update"], 1, &["top: step 1 failed", "top stays as it was", "404"]);
    assert!(ran.stdout.contains("changed layer other\n") && ran.stdout.contains("changed layer mid\n"));
    let lock = project.read("Raptor.lock");
    let section = |lock: &str, name: &str| {
        let part = lock.split("\n[").find(|it| it.starts_with(name)).unwrap();
        part.trim_end().to_owned()
    };
    for (name, same) in
        [("fetch.", true), ("layers.top", true), ("layers.mid", false), ("layers.other", false)]
    {
        assert_eq!(section(&lock, name) == section(&monday, name), same, "{name}:\n{lock}");
    }
    assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0);
    for args in [&["--locked", "update"][..], &["update", "--offline"], &["update", "--frozen", "top"]] {
        fails(&project, &internet, args, 2, &["forbid"]);
    }
}

/// What the options allow: `--locked` no change of the lock, `--offline` no network, `--frozen` neither.
#[test]
fn options_forbid_what_they_say() {
    let free = ["", "--locked", "--offline", "--frozen"];
    // Status with each of these options: 0 fine, 1 refused.
    let table: &[(&str, &str, &[&str], [i32; 4])] = &[
        // What is known, command, statuses.
        ("nothing", "a file is not pinned", &["build", "file"], [0, 1, 1, 1]),
        ("nothing", "a request is not recorded", &["build", "run"], [0, 1, 1, 1]),
        ("nothing", "a job needs it", &["make", "job"], [0, 1, 1, 1]),
        ("nothing", "eval pins", &["eval", "file"], [0, 1, 1, 1]),
        ("nothing", "realize", &["realize", "run"], [0, 1, 1, 1]),
        ("nothing", "lock", &["lock", "file", "run"], [0, 1, 1, 1]),
        ("nothing", "run", &["run", "--network", "none", "file", "true"], [0, 1, 1, 1]),
        ("nothing", "check pins nothing", &["check", "file", "run"], [0, 0, 0, 0]),
        ("nothing", "dump", &["dump", "run"], [0, 0, 0, 0]),
        ("nothing", "no network at all", &["build", "base"], [0, 0, 0, 0]),
        ("lock", "a file is fetched again", &["build", "file"], [0, 0, 1, 1]),
        ("lock", "a body is fetched again", &["build", "run"], [0, 0, 1, 1]),
        ("lock", "eval", &["eval", "file"], [0, 0, 0, 0]),
        ("lock", "lock", &["lock", "file", "run"], [0, 0, 1, 1]),
        ("lock", "make", &["make"], [0, 0, 1, 1]),
        ("store", "build", &["build", "file", "run"], [0, 0, 0, 0]),
        ("store", "make", &["make"], [0, 0, 0, 0]),
        ("store", "realize", &["realize", "run"], [0, 0, 0, 0]),
        ("store", "lock", &["lock"], [0, 0, 0, 0]),
        ("store", "check of the lock", &["lock", "--check"], [0, 0, 0, 0]),
        ("store", "update", &["update"], [0, 2, 2, 2]),
        ("edited", "what is left out", &["build", "less"], [0, 0, 0, 0]),
        ("edited", "what is new", &["build", "more"], [0, 1, 1, 1]),
    ];
    let internet = Internet::start(day("monday"));
    let manifest = "[run.job]\ntarget = \"tool\"\noutput = \"out\"\n[group.all]\nbuild = [\"run\", \"less\", \"more\"]\n";
    let world = || {
        let project = Project::busybox(As::Root, &[("Raptor.toml", manifest)]);
        project.write("file.rapt", &format!("FROM base\nMKDIR /srv\nFETCH {URL}/tool /srv/\n"));
        for name in ["run", "less", "more"] {
            project.write(&format!("{name}.rapt"), &format!("FROM file\n{}{}", wget("a"), wget("b")));
        }
        project.write(
            "tool.rapt",
            "FROM file\nMOUNT --file output /output/out\nCMD \"cp /srv/tool /output/out\"\n",
        );
        project
    };
    let locked = world();
    ok(&locked, &internet, &["lock"]);
    ok(&locked, &internet, &["make", "job"]);
    let lock = locked.read("Raptor.lock");
    for (known, what, args, statuses) in table {
        let own = world();
        let project = if matches!(*known, "store" | "edited") { &locked } else { &own };
        if *known == "edited" {
            project.write("less.rapt", &format!("FROM file\n{}", wget("a")));
            project.write("more.rapt", &format!("FROM file\n{}{}{}", wget("a"), wget("b"), wget("c")));
        }
        // What forbids most goes first, for it leaves the least behind.
        for (option, expected) in free.iter().zip(statuses).rev() {
            if *known != "nothing" {
                project.write("Raptor.lock", &lock);
            }
            let args: Vec<&str> =
                Some(*option).filter(|it| !it.is_empty()).into_iter().chain(args.to_vec()).collect();
            let before = internet.seen();
            let ran = with(project, &internet, &args);
            let place = format!("{what}: raptor {}:\n{}", args.join(" "), ran.stderr);
            assert_eq!(ran.status, Some(*expected), "{place}");
            let text = fs::read_to_string(project.path("Raptor.lock")).unwrap_or_default();
            let old = if *known == "nothing" { "" } else { &lock };
            assert!(option.is_empty() || text == old, "the lock changed: {place}");
            assert!(
                !matches!(*option, "--offline" | "--frozen") || internet.seen() == before,
                "asked: {place}"
            );
        }
    }
}

/// A base moves forward with the layers that stand on it, or not at all.
#[test]
fn a_base_moves_with_its_layers() {
    let shared = common::shared_lock();
    let version = |lock: &str, name: &str| {
        let line = lock.lines().find(|it| it.contains(&format!("name = \"{name}\","))).unwrap();
        line.split("version = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let (tzdata, apt) = (version(&shared, "tzdata"), version(&shared, "apt"));
    let old: String = shared
        .lines()
        .filter(|it| !it.contains("name = \"apt\","))
        .map(|it| it.replace(&format!("version = \"{tzdata}\""), "version = \"1-0old\"") + "\n")
        .collect();
    let zeros = "0".repeat(64);
    let old = format!(
        "{old}\n[layers.top]\nrequests = [\n  {{ url = \"debian:/pool/t/thing_1_all.deb\", sha256 = \"{zeros}\", \
         size = 3 }},\n]\n"
    );
    let files = [("Raptor.lock", &*old), ("top.rapt", "FROM debian://bookworm\nRUN false\n")];
    let project = Project::new(&files);
    let ran = project.fails(&["update", "bookworm"], &["top: step 1 failed", "stays as it was"]);
    assert_eq!(ran.stdout, "");
    assert_eq!(project.read("Raptor.lock"), old);

    project.write("top.rapt", "FROM debian://bookworm\nRUN apt-get update\n");
    let told = project.ok(&["update", "debian://bookworm"]);
    let base = format!("changed debian://bookworm\n  + apt {apt}\n  tzdata 1-0old → {tzdata}\n");
    assert!(told.starts_with(&base), "{told}");
    assert!(told.contains("changed layer top\n  - thing 1\n  + debian:/dists/bookworm/InRelease "), "{told}");
    valid(&project.read("Raptor.lock"));
    project.ok(&["--locked", "build", "top"]);
}

/// A lock is as its schema says, and written again it is the same.
fn valid(text: &str) {
    let document: toml_edit::DocumentMut = text.parse().unwrap();
    let value: Value = toml_edit::de::from_document(document).unwrap();
    let schema = schema::read("lock.json");
    schema::validate(&schema, &schema, &value).unwrap();
}

/// What no build of these tests writes.
const EVERYTHING: &str = r#"version = 1

[debian."trixie?include=jq"]
mirror = "http://mirror.example/debian"
date = 1700000000
components = ["main"]
keyring = "DIGEST"
repositories = [
  { suite = "trixie-updates", date = 1700000000 },
  { name = "tools", url = "https://tools.example/apt", suite = "./", components = [], date = 1, key = "DIGEST" },
]
packages = [
  { name = "apt", version = "2", arch = "amd64", path = "pool/a.deb", sha256 = "DIGEST", size = 1, essential = true },
]
included = [
  { name = "jq", version = "1", arch = "all", path = "j.deb", sha256 = "DIGEST", size = 1, from = "tools", wanted = true },
]

[docker."registry.example/app:1.0"]
digest = "sha256:DIGEST"

[docker."registry.example/app:1.0".platforms."linux/amd64"]
manifest = "sha256:DIGEST"
config = "sha256:DIGEST"
config-size = 1469
date = 1700000000
command = ["/bin/app"]
layers = [
  { digest = "sha256:DIGEST", size = 3, diff-id = "sha256:DIGEST", packing = "tar+gzip" },
]

[link.archive]
url = "https://origin.example/a.tar.gz"
path = "lib"
sha256 = "DIGEST"
size = 3
strip = 1
tree = "DIGEST"

[link.git]
git = "https://origin.example/lib.git"
branch = "main"
rev = "COMMIT"
tree = "DIGEST"

[layers.top]
requests = [
  { method = "POST", url = "http://origin.example/a", accept = "text/html", body = "DIGEST", status = 404 },
]
"#;

#[test]
fn the_schema_knows_every_section() {
    let commit = "2c26b46b68ffc68ff99b453c1d30413413422d70";
    let text = EVERYTHING.replace("DIGEST", &format!("{commit}{}", "0".repeat(24))).replace("COMMIT", commit);
    let lock = raptor::lock::Lock::parse(std::path::Path::new("Raptor.lock"), &text).unwrap();
    valid(&lock.render());
    let schema = schema::read("lock.json");
    for broken in [
        ("version = 1", "version = 2"),
        ("config-size", "config_size"),
        ("tar+gzip", "zip"),
        ("branch = \"main\"", "sha256 = \"main\""),
        (commit, "COMMIT"),
        ("size = 1,", "size = \"1\","),
        ("suite = \"./\", ", ""),
        ("status = 404", "status = 100"),
    ] {
        let text = text.replace(broken.0, broken.1);
        let value: Value = toml_edit::de::from_str(&text).unwrap();
        assert!(schema::validate(&schema, &schema, &value).is_err(), "{broken:?} passes");
    }
}
