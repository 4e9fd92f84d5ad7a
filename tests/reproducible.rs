//! Layers made with apt have the same bytes whoever makes them, when and where; and KEEP, which gives that up.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{As, Project, Ran, ran};
use raptor::lock::Lock;
use raptor::store::Store;

/// What a machine needs to start, and what is known to be difficult: caches, keys, compiled files, indices.
const SYSTEM: &str = "systemd-sysv linux-image-amd64 live-boot openssh-server python3 ca-certificates dbus \
                      fontconfig man-db cron nginx-light ssl-cert locales vim-tiny";

/// Fewer, without a kernel and its initramfs, which take most of the time.
const SERVICES: &str =
    "systemd-sysv openssh-server python3 ca-certificates dbus fontconfig man-db cron nginx-light ssl-cert";

/// How far the clock of the other host is ahead, in seconds: 400 days.
const AHEAD: &str = "34560000";

#[test]
fn a_system_of_bookworm() {
    check("bookworm", SYSTEM);
}

#[test]
fn services_of_trixie() {
    check("trixie", SERVICES);
}

/// Builds packages three times: as root, as an ordinary user, and on what looks like another host. Only the first
/// has the network. `RAPTOR_TEST_PACKAGES` replaces the packages, for those who look for what else differs.
fn check(suite: &str, packages: &str) {
    let packages = std::env::var("RAPTOR_TEST_PACKAGES").unwrap_or_else(|_| packages.to_owned());
    let target = format!(
        "FROM debian://{suite}\nRUN apt-get update\nRUN apt-get install -y --no-install-recommends {packages}\n"
    );
    let project = |who| Project::of(who, &[("all.rapt", &target)]).with_empty_store();
    let first = project(As::Root);
    let hash = name_of(&first.ok(&["realize", "all"]));
    let replay = |who| {
        let project = project(who);
        project.write("Raptor.lock", &first.read("Raptor.lock"));
        bring_bodies(&first, &project);
        project
    };

    let user = replay(As::User);
    let of_user = name_of(&user.ok(&["realize", "--locked", "--offline", "all"]));
    if of_user != hash {
        user.ok(&["store", "export", "--only", "-o", "tree", &of_user]);
        panic!("an ordinary user makes another layer:\n{}", differences(&first, &hash, &user.path("tree")));
    }
    drop(user);

    let elsewhere = replay(As::Root);
    let of_other = elsewhere_realized(&elsewhere, &["--locked", "--offline", "all"], &hash);
    if of_other != hash {
        let differences = differences(&first, &hash, &elsewhere.path("tree"));
        panic!("another host at another time makes another layer:\n{differences}");
    }
}

/// The other host has another name, one processor, and a clock that is ahead. Its store is in memory, so that files
/// are numbered and listed in another order. The result, unless `expected`, is left as an archive in the file `tree`.
fn elsewhere_realized(project: &Project, args: &[&str], expected: &str) -> String {
    let script = r#"
        set -e
        hostname elsewhere
        mkdir -p own-store
        mv own-store seed
        mkdir -m 700 own-store
        mount -t tmpfs -o mode=700 none own-store
        cp -a seed/. own-store/
        rm -r seed
        clock=$1 ahead=$2 raptor=$3 expected=$4
        shift 4
        "$clock" "$ahead" taskset --cpu-list 0 "$raptor" realize "$@" > out
        made=$(sed 's|.*/||' out)
        test "$made" = "$expected" || "$raptor" store export --only -o tree "$made"
        "#;
    let clock = project.path("clock");
    compile_clock(&clock);
    let plain = project.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "sh", "-c", script, "-"]).arg(clock).arg(AHEAD);
    command.arg(plain.get_program()).arg(expected).args(args).current_dir(project.path(""));
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ran { status, stderr, .. } = ran(command.output().unwrap());
    assert_eq!(status, Some(0), "{stderr}");
    name_of(&project.read("out"))
}

/// Makes a program that starts others with another clock.
fn compile_clock(program: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reproducible/clock.c");
    let compiled = Command::new("gcc").args(["-O1", "-o"]).arg(program).arg(source).status().unwrap();
    assert!(compiled.success());
}

/// Copies what the lock names from one store into another, and nothing that was built.
fn bring_bodies(from: &Project, to: &Project) {
    let (source, target) = (Store::open(from.store()).unwrap(), Store::open(to.store()).unwrap());
    let lock = Lock::load(&from.path("Raptor.lock")).unwrap();
    let packages = lock.debian.values().flat_map(|pin| &pin.packages).map(|it| (&it.sha256, it.size));
    let answers = lock.layers.values().flatten().map(|it| (&it.sha256, it.size));
    for (sha256, size) in packages.chain(answers) {
        if target.fetched(sha256, size).unwrap().is_none()
            && let Some(body) = source.fetched(sha256, size).unwrap()
        {
            let temp = tempfile::NamedTempFile::new_in(to.path("")).unwrap().into_temp_path();
            std::fs::copy(body, &temp).unwrap();
            target.add_fetched(&temp, sha256, size).unwrap();
        }
    }
    drop(target);
    to.own();
}

/// What `raptor store diff` says of a tree and an archive of another one.
fn differences(project: &Project, hash: &str, archive: &Path) -> String {
    let imported = project.ok(&["store", "import", archive.to_str().unwrap()]);
    let ran = project.run(&["store", "diff", hash, &name_of(&imported)]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    ran.stdout
}

/// Name of the store path that a command printed.
fn name_of(path: &str) -> String {
    path.trim().rsplit('/').next().unwrap().to_owned()
}

/// Otherwise it would be no wonder that everything is the same there.
#[test]
fn programs_elsewhere_see_another_time() {
    let script = "FROM base\nRUN sh -c \"date +%s > /when\"\n";
    let seconds = |project: &Project, hash: &str| -> i64 {
        project.ok(&["store", "cat", hash, "/when"]).trim().parse().unwrap()
    };
    let here = Project::busybox(As::Root, &[("when.rapt", script)]);
    let now = name_of(&here.ok(&["realize", "when"]));
    let there = Project::busybox(As::Root, &[("when.rapt", script)]);
    let later = elsewhere_realized(&there, &["when"], "");
    assert_eq!(name_of(&here.ok(&["store", "import", there.path("tree").to_str().unwrap()])), later);
    let ahead = seconds(&here, &later) - seconds(&here, &now);
    // Both were built within the same hour.
    assert!((ahead - AHEAD.parse::<i64>().unwrap()).abs() < 3600, "{ahead} seconds ahead");
}

#[test]
fn what_is_kept_is_what_the_steps_left() {
    let random = "RUN sh -c \"mkdir -p /var/log /etc/ssh; head -c 64 /dev/urandom > /etc/machine-id; \
                  cp /etc/machine-id /etc/ssh/ssh_host_rsa_key; echo log > /var/log/dpkg.log\"\n";
    for who in [As::Root, As::User] {
        let build = || {
            let project = Project::busybox(
                who,
                &[
                    ("clean.rapt", &format!("FROM base\n{random}")),
                    ("kept.rapt", &format!("FROM base\nINCLUDE keep\n{random}KEEP /etc/machine-id\n")),
                    ("keep.rinc", "KEEP var/log\n"),
                    ("later.rapt", "FROM kept\nRUN chmod 600 /etc/machine-id\n"),
                ],
            );
            let hash = |target: &str| name_of(&project.ok(&["realize", target]));
            let (clean, kept) = (hash("clean"), hash("kept"));
            assert_eq!(project.ok(&["store", "cat", &kept, "/var/log/dpkg.log"]), "log\n", "{who:?}");
            let files = project.ok(&["store", "tree", &kept]);
            assert!(!files.contains("ssh_host"), "KEEP of something else keeps keys for {who:?}:\n{files}");
            let later = project.ok(&["store", "tree", &hash("later")]);
            let emptied = "- 0600         0:0           0   315532800 /etc/machine-id";
            assert!(later.contains(emptied), "a later layer has no KEEP, {who:?}:\n{later}");
            (clean, kept)
        };
        let (one, other) = (build(), build());
        assert_eq!(one.0, other.0, "{who:?}");
        assert_ne!(one.1, other.1, "{who:?}");
    }
}
