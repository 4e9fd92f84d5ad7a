//! Debian bases of several suites, with included packages, with repositories of others; and distributions that are not
//! Debian, on servers of these tests.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::apt::{Files, Key, Suite, find, package, plain, serve};
use common::internet::{Answer, Internet};
use common::{As, Project, Ran};
use raptor::fetch::debian::packages::{self, Package};
use raptor::fetch::debian::{self, MirrorKind};
use raptor::fetch::{Client, Settings};

/// What must hold in a root with included packages.
const CHECK: &str = "set -ex
test -z \"$(dpkg --audit)\"
apt-get check
apt-mark showmanual | grep -x less
if apt-mark showmanual | grep -x libtinfo6; then exit 1; fi
test \"$(apt-get autoremove --dry-run | grep -c ^Remv)\" = 0
test ! -e /usr/sbin/policy-rc.d
grep -x 'Suites: bookworm bookworm-updates' /etc/apt/sources.list.d/debian.sources
grep -x 'Suites: bookworm-security' /etc/apt/sources.list.d/debian.sources
test \"$(ls /etc/apt/sources.list.d)\" = debian.sources
";

#[test]
fn security_updates_and_included_packages() {
    let module = "FROM debian://bookworm?include=ca-certificates,less&suites=updates,security&variant=apt\n\
                  COPY check.sh /check.sh\nRUN sh -x /check.sh\nRUN apt-get update\n\
                  RUN apt-get install -y --no-install-recommends file\nRUN file /bin/sh\n";
    let files = [("t.rapt", module), ("check.sh", CHECK)];
    let root = Project::of(As::Root, &files).with_empty_store();
    let made = root.ok(&["realize", "t"]);
    let lock = root.read("Raptor.lock");
    for expected in [
        "[debian.\"bookworm?include=ca-certificates,less&suites=security,updates&variant=apt\"]",
        "suite = \"bookworm-security\"",
        "  { suite = \"bookworm-updates\", date = ",
        "url = \"debian:/dists/bookworm-updates/InRelease\"",
        "url = \"debian:bookworm-security/dists/bookworm-security/InRelease\"",
    ] {
        assert!(lock.contains(expected), "no {expected} in\n{lock}");
    }

    // The same for another user with nothing but the lock.
    let user = Project::of(As::User, &files).with_empty_store();
    user.write("Raptor.lock", &lock);
    let again = user.ok(&["realize", "--locked", "t"]);
    let hash = |path: &str| Path::new(path.trim()).file_name().map(|it| it.to_owned());
    assert_eq!(hash(&again), hash(&made));
    assert_eq!(user.read("Raptor.lock"), lock);
}

/// Paragraphs of all that the base of this variant consists of, from the real index, as another distribution has them.
fn real_packages(client: &Client, url: &str) -> String {
    let index = format!("{url}/dists/bookworm/main/binary-amd64/Packages.xz");
    let bytes = client.get_bytes(&index, 1 << 28).unwrap();
    let text = packages::decompress(&bytes, packages::Compression::Xz).unwrap();
    let listed: Vec<Package> = packages::parse(&text).unwrap();
    let chosen = debian::closure::closure(&listed, debian::Variant::Apt, &[]).unwrap();
    let names: Vec<&str> = chosen.iter().map(|it| it.package.name).collect();
    let is_chosen = |it: &&str| names.iter().any(|name| it.starts_with(&format!("Package: {name}\n")));
    text.split("\n\n").filter(is_chosen).map(|it| format!("{it}\n\n")).collect()
}

#[test]
fn another_distribution_with_repositories() {
    let env = std::env::var("RAPTOR_DEBIAN_MIRROR").ok();
    let mirror = debian::discover(MirrorKind::Main, None, env.as_deref()).unwrap();
    let client = Client::new(Settings::from_env()).unwrap();
    let (base_key, tools_key, flat_key) = (Key::new(), Key::new(), Key::new());
    let mut files = Files::new();

    let hello = package("hello-other", "Version: 1\nDepends: made-flat\n", "os.example", &mut files);
    let base = real_packages(&client, &mirror.url) + &hello;
    let suite = Suite { root: "os.example", name: "robust", component: "core", fields: "", packages: &base };
    suite.publish(&base_key, &mut files);
    let newer = package("hello-update", "Version: 2\nProvides: hello-virtual\n", "os.example", &mut files);
    Suite { name: "robust-updates", packages: &newer, ..suite }.publish(&base_key, &mut files);
    let tool = package("made-tool", "Version: 1\n", "tools.example", &mut files);
    Suite { root: "tools.example", name: "any", component: "edge", fields: "", packages: &tool }
        .publish(&tools_key, &mut files);
    let flat = package("made-flat", "Version: 1\n", "flat.example", &mut files);
    Suite { root: "flat.example", name: "./", component: "", fields: "", packages: &flat }
        .publish(&flat_key, &mut files);
    let internet = Internet::start(move |url, _| {
        let path = plain(url.trim_start_matches("http://"));
        match (find(&files, &path), path.strip_prefix("os.example/")) {
            (Some(bytes), _) => Answer::Ok(bytes),
            // Packages that are Debian's are where they always are.
            (None, Some(path)) if path.starts_with("pool/") => {
                Answer::Ok(client.get_bytes(&mirror.file(path), 1 << 28).unwrap())
            }
            _ => Answer::Status(404, ""),
        }
    });
    let manifest = "[debian.other]\nsuite = \"robust\"\nmirror = \"http://os.example\"\n\
                    suites = [\"updates\"]\ncomponents = [\"core\"]\nkeyring = \"keys/other.gpg\"\n\
                    [[debian.other.repository]]\nname = \"tools\"\nurl = \"http://tools.example\"\n\
                    suites = [\"any\"]\ncomponents = [\"edge\"]\nkey = \"keys/tools.asc\"\n\
                    [[debian.other.repository]]\nname = \"flat\"\nurl = \"http://flat.example\"\n\
                    suites = [\"./\"]\nkey = \"keys/flat.asc\"\n";
    let module = "FROM debian://other?variant=apt&include=hello-other,hello-virtual\n\
                  RUN hello-other\nRUN hello-update\nRUN made-flat\nRUN apt-get update\n\
                  RUN apt-get install -y made-tool\nRUN made-tool\n\
                  RUN sh -c \"cd /etc/apt && ls sources.list.d keyrings | sort | tr '\\n' ' ' > /list\"\n";
    let project = Project::of(As::User, &[("Raptor.toml", manifest), ("t.rapt", module)]).with_empty_store();
    project.write("keys/tools.asc", &tools_key.armored());
    project.write("keys/flat.asc", &flat_key.armored());
    std::fs::write(project.path("keys/other.gpg"), base_key.binary()).unwrap();
    project.own();
    project.ok(&["check", "t"]);
    let path = ok(&project, &internet, &["realize", "t"]);
    let list = std::fs::read_to_string(Path::new(path.trim()).join("list")).unwrap();
    assert_eq!(
        list.split_whitespace().collect::<Vec<_>>(),
        [
            "flat.asc",
            "flat.sources",
            "keyrings:",
            "other.gpg",
            "other.sources",
            "sources.list.d:",
            "tools.asc",
            "tools.sources"
        ]
    );
    let lock = project.read("Raptor.lock");
    for expected in [
        "keyring = \"",
        "{ suite = \"robust-updates\", date = ",
        "name = \"tools\", url = \"http://tools.example\"",
        "from = \"flat\" },",
        "from = \"robust-updates\", wanted = true },",
        "url = \"debian:/dists/robust/InRelease\"",
        "url = \"debian:tools/pool/made-tool.deb\"",
        "url = \"debian:flat/",
    ] {
        assert!(lock.contains(expected), "no {expected} in\n{lock}");
    }

    // What is pinned stays as Raptor.toml described it.
    project.ok(&["realize", "--locked", "t"]);
    project.write("keys/flat.asc", &format!("{}{}", flat_key.armored(), tools_key.armored()));
    let ran = with(&project, &internet, &["eval", "--locked", "t"]);
    assert_eq!(ran.status, Some(1));
    for message in ["E0309", "not as Raptor.toml describes it", "t.rapt:1:"] {
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
    ok(&project, &internet, &["eval", "t"]);
    assert_ne!(project.read("Raptor.lock"), lock);
}

fn with(project: &Project, internet: &Internet, args: &[&str]) -> Ran {
    common::ran(internet.serves(&mut project.command(args)).output().unwrap())
}

fn ok(project: &Project, internet: &Internet, args: &[&str]) -> String {
    let ran = with(project, internet, args);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout
}

/// A base too small to be built, which pinning does not mind.
struct Tiny {
    files: Files,
    key: Key,
    packages: String,
}

impl Tiny {
    fn new() -> Tiny {
        let mut files = Files::new();
        let mut packages = String::new();
        for (name, fields) in [
            ("apt", "Version: 1\n"),
            ("dpkg", "Version: 1\nEssential: yes\n"),
            ("editor", "Version: 1\nDepends: speller\n"),
            ("speller", "Version: 1\nConflicts: viewer (<< 2)\n"),
            ("viewer", "Version: 1\n"),
            ("ed", "Version: 1\nProvides: text-editor\n"),
            ("vi", "Version: 1\nProvides: text-editor\n"),
        ] {
            packages += &package(name, fields, "/os", &mut files);
        }
        let mut tiny = Tiny { files, key: Key::new(), packages };
        tiny.publish("small", "");
        tiny
    }

    fn publish(&mut self, name: &str, fields: &str) {
        let packages = &self.packages;
        Suite { root: "/os", name, component: "core", fields, packages }.publish(&self.key, &mut self.files);
    }
}

#[test]
fn what_cannot_be_pinned_is_told_at_its_place() {
    let mut tiny = Tiny::new();
    tiny.publish("small-stale", "Valid-Until: Sat, 19 Sep 2020 07:55:41 UTC\n");
    let other = Key::new();
    let server = serve(tiny.files);
    let manifest = format!(
        "[debian.small]\nmirror = \"{}\"\ncomponents = [\"core\"]\nkeyring = \"keys/small.asc\"\n",
        server.url("/os")
    );
    let project = Project::of(As::Root, &[("Raptor.toml", &manifest)]);
    project.write("keys/small.asc", &tiny.key.armored());
    project.write("keys/other.asc", &other.armored());
    let repository = format!(
        "[[debian.small.repository]]\nurl = \"{}\"\nname = \"more\"\nsuites = [\"small\"]\ncomponents = [\"core\"]\n",
        server.url("/os")
    );
    for (parameters, more, expected) in [
        (
            "?include=speler",
            "",
            &["E0311", "there is no package `speler`", "did you mean `speller`?", "t.rapt:1:"][..],
        ),
        (
            "?include=text-editor",
            "",
            &[
                "E0311",
                "`text-editor` is provided by several packages: ed, vi",
                "name one of them",
                "t.rapt:1:",
            ],
        ),
        (
            "?include=editor,viewer",
            "",
            &[
                "E0311",
                "these packages cannot be installed together",
                "speller 1 (editor → speller) excludes viewer 1: Conflicts: viewer (<< 2)",
                "t.rapt:1:",
            ],
        ),
        ("?include=vi/nowhere", "", &["E0311", "there is no package `vi` in nowhere"]),
        (
            "?components=corps",
            "",
            &["E0602", "it has no component `corps`; there are core", "Raptor.toml:2:"],
        ),
        ("?suites=updates", "", &["E0602", "has no suite `small-updates`", "t.rapt:1:"]),
        ("", "suites = [\"updates\"]\n", &["E0602", "has no suite `small-updates`", "Raptor.toml:5:"]),
        (
            "",
            &(repository.clone() + "key = \"keys/other.asc\"\n"),
            &[
                "E0602",
                "is signed only by keys that are not in `keys/other.asc`",
                "Raptor.toml:8:",
                "wanted here",
            ],
        ),
        (
            "",
            &(repository.clone() + "key = \"keys/none.asc\"\n"),
            &["E0301", "keys/none.asc", "Raptor.toml:10:"],
        ),
        (
            "",
            &(repository.clone() + "key = \"t.rapt\"\n"),
            &["E0402", "no file of OpenPGP public keys", "Raptor.toml:10:"],
        ),
        ("?arch=arm64", "", &["E0306", "amd64 is the only one"]),
    ] {
        project.write("Raptor.toml", &format!("{manifest}{more}"));
        project.write("t.rapt", &format!("FROM debian://small{parameters}\n"));
        let _ = std::fs::remove_file(project.path("Raptor.lock"));
        project.fails(&["eval", "t"], expected);
        assert!(!project.path("Raptor.lock").exists());
    }
    // Files of keys are there or not, without any network.
    project.write("Raptor.toml", &manifest.replace("small.asc", "none.asc"));
    project.write("t.rapt", "FROM debian://small\n");
    project.fails(&["check", "t"], &["E0301", "keys/none.asc", "Raptor.toml:4:"]);

    // A stale suite is a warning.
    project.write("Raptor.toml", &manifest);
    project.write("t.rapt", "FROM debian://small?suites=stale&include=viewer,vi\n");
    let ran = project.run(&["eval", "t"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("/dists/small-stale/InRelease has expired"), "{}", ran.stderr);
    // However it is written, the lock has it once.
    let lock = project.read("Raptor.lock");
    project.write("t.rapt", "FROM debian://small?include=vi,viewer&suites=stale\n");
    project.ok(&["eval", "--locked", "t"]);
    assert_eq!(project.read("Raptor.lock"), lock);

    // A base whose mirror nobody knows for security updates.
    project.write("Raptor.toml", "[raptor]\nsecurity-mirror = \"nonsense\"\n");
    project.write("t.rapt", "FROM debian://bookworm?suites=security\n");
    project.fails(&["eval", "t"], &["raptor.security-mirror", "`nonsense`", "t.rapt:1:"]);
}
