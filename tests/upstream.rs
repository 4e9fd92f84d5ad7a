//! What becomes of builds when the world has moved on: bodies that changed or are gone, found elsewhere or not, and
//! servers that fail in every way.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::internet::{Answer, Internet};
use common::{As, Project, Ran, ran};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

/// Nobody has this address; busybox knows no names.
const URL: &str = "http://192.0.2.1";
const CACHE: &str = "http://cache.example/raptor";

fn body(url: &str, day: &str) -> Vec<u8> {
    format!("{url} on {day}\n").repeat(700).into_bytes()
}

/// Bodies of a day, and a web server over a store, if there is one.
fn world(day: &'static str, cache: Option<PathBuf>) -> impl Fn(&str, usize) -> Answer + Send + Sync {
    move |url, _| match (url.strip_prefix(CACHE), &cache) {
        (Some(path), Some(store)) => file(&store.join(path.trim_start_matches('/'))),
        (Some(_), None) => Answer::Status(404, ""),
        (None, _) => Answer::Ok(body(url, day)),
    }
}

fn file(path: &Path) -> Answer {
    fs::read(path).map_or(Answer::Status(404, ""), Answer::Ok)
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A file of the lock, one of its statement, and a recorded request.
fn project(who: As, lock: Option<&str>) -> Project {
    let project = Project::busybox(who, &[]);
    let known = sha256(&body(&format!("{URL}/known"), "monday"));
    let text = format!(
        "FROM base\nMKDIR /srv\nFETCH {URL}/pinned /srv/\nFETCH --sha256 {known} {URL}/known /srv/\n\
         RUN wget -q -O /srv/asked {URL}/asked\n"
    );
    project.write("top.rapt", &text);
    if let Some(lock) = lock {
        project.write("Raptor.lock", lock);
    }
    project
}

fn with(project: &Project, internet: &Internet, env: &[(&str, &str)], args: &[&str]) -> Ran {
    ran(internet.serves(project.command(args).envs(env.iter().copied())).output().unwrap())
}

/// The hash of what is built.
fn realized(project: &Project, internet: &Internet, env: &[(&str, &str)], args: &[&str]) -> String {
    let ran = with(project, internet, env, args);
    assert_eq!(ran.status, Some(0), "raptor {} failed:\n{}", args.join(" "), ran.stderr);
    ran.stdout.trim().rsplit('/').next().unwrap().to_owned()
}

fn fails(project: &Project, internet: &Internet, env: &[(&str, &str)], args: &[&str], said: &[&str]) {
    let ran = with(project, internet, env, args);
    assert_eq!(ran.status, Some(1), "raptor {}:\n{}", args.join(" "), ran.stderr);
    for message in said {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
    sound(project);
}

/// No wrong byte is in the store.
fn sound(project: &Project) {
    project.ok(&["store", "verify"]);
    assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0, "work directories are left");
}

const LOCKED: &[&str] = &["--locked", "realize", "top"];
/// The same, and every failure is told, not the first.
const LOCKED_ALL: &[&str] = &["--locked", "-k", "realize", "top"];

#[test]
fn a_cache_has_what_is_gone_upstream() {
    for who in [As::Root, As::User] {
        let internet = Internet::start(world("monday", None));
        let first = project(who, None);
        let tree = realized(&first, &internet, &[], &["realize", "top"]);
        let lock = first.read("Raptor.lock");
        internet.becomes(world("tuesday", Some(first.store().to_path_buf())));
        let caches: &[(&str, &str)] =
            &[("RAPTOR_CACHES", "http://none.example http://cache.example/raptor/")];

        // Without a cache it is lost: what, for which layer and step, and what to do about it.
        let lost = project(who, Some(&lock));
        let pinned = format!("{URL}/pinned: wrong size");
        fails(
            &lost,
            &internet,
            &[],
            LOCKED_ALL,
            &[&pinned, &format!("help: to move on to what is there now: raptor update {URL}/pinned")],
        );

        // With one, everything is as it was, and the caches are asked last.
        let again = project(who, Some(&lock));
        assert_eq!(realized(&again, &internet, caches, LOCKED), tree);
        assert_eq!(again.read("Raptor.lock"), lock);
        sound(&again);
        let asked = internet.seen();
        assert!(["pinned", "known", "asked"].iter().all(|it| asked.contains_key(&format!("{URL}/{it}"))));
        assert!(asked.keys().any(|it| it.starts_with("http://none.example/realized/")), "{asked:?}");
        // Raptor.toml can name it as well.
        let third = project(who, Some(&lock));
        third.write("Raptor.toml", &format!("[raptor]\ncaches = \"{CACHE}\"\n"));
        assert_eq!(realized(&third, &internet, &[], LOCKED), tree);

        // A cache that lies is found out.
        let store = first.store().to_path_buf();
        internet.becomes(move |url, _| match url.strip_prefix(CACHE) {
            Some(path) if path.starts_with("/trees/") => Answer::Ok(vec![b'x'; 20_000]),
            Some(path) => file(&store.join(path.trim_start_matches('/'))),
            None => Answer::Status(404, ""),
        });
        let careful = project(who, Some(&lock));
        let env = [("RAPTOR_CACHES", CACHE)];
        fails(
            &careful,
            &internet,
            &env,
            LOCKED_ALL,
            &["/pinned: the server answered 404", &format!("{CACHE}/trees/")],
        );

        // Or the lock moves on.
        internet.becomes(world("monday", None));
        let known = project(who, Some(&lock));
        realized(&known, &internet, &[], LOCKED);
        let store = known.store().to_path_buf();
        internet.becomes(move |url, before| match url.ends_with("/known") {
            true => world("monday", None)(url, before),
            false => world("tuesday", Some(store.clone()))(url, before),
        });
        let moving = project(who, Some(&lock));
        let updated = with(&moving, &internet, &[], &["update"]);
        assert_eq!(updated.status, Some(0), "{}", updated.stderr);
        let (old, new) = (
            sha256(&body(&format!("{URL}/asked"), "monday")),
            sha256(&body(&format!("{URL}/asked"), "tuesday")),
        );
        let told = format!("changed layer top\n  {URL}/asked {} → {}", &old[..12], &new[..12]);
        assert!(updated.stdout.contains(&told), "{}", updated.stdout);
        assert_ne!(realized(&moving, &internet, &[], &["--frozen", "realize", "top"]), tree);
        sound(&moving);
    }
}

#[test]
fn a_lost_body_of_a_step_names_layer_step_and_remedy() {
    let internet = Internet::start(world("monday", None));
    let first = project(As::Root, None);
    realized(&first, &internet, &[], &["realize", "top"]);
    let lock = first.read("Raptor.lock");
    internet.becomes(|url, before| match url.ends_with("/asked") {
        true => Answer::Status(404, ""),
        false => world("monday", None)(url, before),
    });
    let lost = project(As::User, Some(&lock));
    let asked = format!("refused GET {URL}/asked: {URL}/asked: the server answered 404");
    let said = ["top.rapt:5:1", "top: step 4 failed: RUN wget", &asked, "raptor update top"];
    fails(&lost, &internet, &[], LOCKED, &said);
    // A request that is new has another remedy.
    lost.write("top.rapt", "FROM base\nRUN wget -q -O /x http://192.0.2.1/new\n");
    let ran = with(&lost, &internet, &[], LOCKED);
    assert!(ran.status == Some(1) && !ran.stderr.contains("raptor update"), "{}", ran.stderr);
}

/// Packages come from the first place that has them: the machine's mirror, the one that the lock names, the archive as
/// it was, a cache. That these are no packages is found out after all of them are here.
#[test]
fn packages_are_looked_for_everywhere() {
    const MIRROR: &str = "http://mirror.example/debian";
    let names = ["one", "two", "three", "four", "five"];
    let package = |name: &&str| {
        let body = body(name, "monday");
        format!(
            "  {{ name = \"{name}\", version = \"1\", arch = \"all\", path = \"pool/{name}.deb\", sha256 = \"{}\", \
             size = {}, essential = true }},\n",
            sha256(&body),
            body.len()
        )
    };
    let lock = format!(
        "version = 1\n[debian.\"bookworm?variant=apt\"]\nmirror = \"http://old.example/debian\"\ndate = 1700000000\n\
         components = [\"main\"]\npackages = [\n{}]\n",
        names.iter().map(package).collect::<String>()
    );
    let held = Project::busybox(As::Root, &[]);
    held.write("top.rapt", "MKDIR /srv\nFETCH http://192.0.2.1/five /srv/\n");
    let internet = Internet::start(|_, _| Answer::Ok(body("five", "monday")));
    realized(&held, &internet, &[], &["realize", "top"]);
    let store = held.store().to_path_buf();
    let has_five = move |five: bool| {
        let store = store.clone();
        internet_of_packages(MIRROR, five.then_some(store))
    };
    internet.becomes(has_five(false));
    let env = [
        ("RAPTOR_DEBIAN_MIRROR", MIRROR),
        ("RAPTOR_DEBIAN_SNAPSHOT", "http://snapshot.example/archive/debian/{date}"),
        ("RAPTOR_CACHES", CACHE),
    ];
    let project =
        Project::of(As::Root, &[("t.rapt", "FROM debian://bookworm?variant=apt\n"), ("Raptor.lock", &lock)]);
    let project = project.with_empty_store();
    let build = ["--locked", "build", "t"];
    let said = [
        "mirror.example/debian/pool/five.deb: the server answered 404",
        "old.example/debian/pool/five.deb: the server answered 404",
        "snapshot.example/archive/debian/20231114T221320Z/pool/five.deb: the server answered 404",
        "cache.example/raptor/realized/",
        "raptor update debian://bookworm?variant=apt",
    ];
    fails(&project, &internet, &env, &build, &said);
    internet.becomes(has_five(true));
    let ran = with(&project, &internet, &env, &build);
    assert!(ran.status == Some(1) && !ran.stderr.contains("answered 404"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("raptor update"), "{}", ran.stderr);
    sound(&project);
    let seen = internet.seen();
    assert!(seen.keys().any(|it| it.starts_with(&format!("{CACHE}/trees/"))), "{seen:?}");
    assert!(!seen.keys().any(|it| it.ends_with("/one.deb")), "what is here is not fetched again");
}

fn internet_of_packages(
    mirror: &'static str,
    cache: Option<PathBuf>,
) -> impl Fn(&str, usize) -> Answer + Send + Sync {
    move |url, before| {
        let name = url.rsplit('/').next().unwrap().trim_end_matches(".deb");
        let has = match name {
            "one" => url.starts_with(mirror),
            "two" => url.starts_with("http://old.example/debian/"),
            "three" => url.starts_with("http://snapshot.example/archive/debian/20231114T221320Z/"),
            // Made after the state of the archive got its date.
            "four" => url.starts_with("http://snapshot.example/archive/debian/20231115T221320Z/"),
            _ => false,
        };
        match has {
            true => Answer::Ok(body(name, "monday")),
            false if url.starts_with(CACHE) => world("never", cache.clone())(url, before),
            false => Answer::Status(404, ""),
        }
    }
}

/// Recorded bodies of the base's mirror come from the archive as it was, too.
#[test]
fn the_archive_as_it_was_has_what_steps_asked_for() {
    let lock = common::shared_lock();
    let line = lock.lines().find_map(|line| line.strip_prefix("mirror = \"")).unwrap();
    let seen_as = line.trim_end_matches('"').to_owned();
    let date: i64 = lock.lines().find_map(|line| line.strip_prefix("date = ")).unwrap().parse().unwrap();
    let helper = "/usr/lib/apt/apt-helper download-file";
    let file = format!(
        "FROM debian://bookworm\nRUN {helper} {seen_as}/pool/thing /srv/thing\nRUN {helper} {seen_as}/dists/x/Release /srv/r\n"
    );
    // The base is in the store of all tests; what is fetched here is not.
    Project::debian(As::Root, &[("base.rapt", "FROM debian://bookworm\n")]).ok(&["build", "base"]);
    let shared = common::shared_store(As::Root).display().to_string();
    let mirror = ("RAPTOR_DEBIAN_MIRROR", "http://mirror.example/debian");
    let env = [("RAPTOR_STORE_LOWER", shared.as_str()), mirror];
    let internet = Internet::start(|url, _| match url.starts_with("http://mirror.example/debian/") {
        true => Answer::Ok(body(url, "monday")),
        false => Answer::Status(404, ""),
    });
    let first = Project::debian(As::Root, &[("top.rapt", &file)]).with_empty_store();
    let tree = realized(&first, &internet, &env, &["realize", "top"]);
    let lock = first.read("Raptor.lock");
    assert!(lock.contains("debian:/pool/thing"), "{lock}");

    internet.becomes(|url, _| match url.strip_prefix("http://snapshot.example/") {
        Some(path) => {
            let (date, path) = path.split_once('/').unwrap();
            assert_eq!(date.len(), "20231114T221320Z".len());
            Answer::Ok(body(&format!("http://mirror.example/debian/{path}"), "monday"))
        }
        None => Answer::Ok(body(url, "tuesday")),
    });
    let again = || Project::new(&[("top.rapt", &file), ("Raptor.lock", &lock)]).with_empty_store();
    fails(
        &again(),
        &internet,
        &env,
        LOCKED,
        &["mirror.example/debian/pool/thing: wrong", "raptor update top"],
    );
    let with_snapshot = [env[0], env[1], ("RAPTOR_DEBIAN_SNAPSHOT", "http://snapshot.example/{date}")];
    let project = again();
    assert_eq!(realized(&project, &internet, &with_snapshot, LOCKED), tree);
    sound(&project);
    let asked = internet.seen();
    let stamp = chrono::DateTime::from_timestamp(date, 0).unwrap().naive_utc().to_string();
    let stamp = format!("{}Z", stamp.replace(['-', ':'], "").replace(' ', "T"));
    assert!(asked.contains_key(&format!("http://snapshot.example/{stamp}/pool/thing")), "{stamp}: {asked:?}");
}

/// Faults that pass are waited for, others fail with the reason; neither leaves a wrong byte in the store.
#[test]
fn faults_of_servers_end_in_the_right_result_or_a_clear_error() {
    type Fault = fn(&[u8], usize, u64) -> Answer;
    let faults: &[(&str, Option<&str>, Fault)] = &[
        ("cut thrice at random", None, |body, before, seed| match before {
            0..3 => {
                let mut random = StdRng::seed_from_u64(seed + before as u64);
                Answer::Cut(body.to_vec(), random.gen_range(0..body.len()))
            }
            _ => Answer::Ok(body.to_vec()),
        }),
        ("busy", None, |body, before, _| match before {
            0..4 => Answer::Status(503, "Retry-After: 0"),
            _ => Answer::Ok(body.to_vec()),
        }),
        ("too many requests", None, |body, before, _| match before {
            0 => Answer::Status(429, "Retry-After: 1"),
            _ => Answer::Ok(body.to_vec()),
        }),
        ("busy for ever", Some("the server answered 503"), |_, _, _| Answer::Status(503, "Retry-After: 0")),
        ("always cut", Some("/pinned: "), |body, _, _| Answer::Cut(body.to_vec(), body.len() - 1)),
        ("other content", Some("wrong content: expected sha256"), |body, _, _| {
            Answer::Ok(body.iter().map(|it| it ^ 1).collect())
        }),
        ("a flipped bit at the end", Some("wrong content: expected sha256"), |body, _, _| {
            let mut body = body.to_vec();
            *body.last_mut().unwrap() ^= 0x80;
            Answer::Ok(body)
        }),
        ("short", Some("wrong size"), |body, _, _| Answer::Ok(body[1..].to_vec())),
        ("long", Some("wrong size"), |body, _, _| Answer::Ok([body, b"x"].concat())),
        ("empty", Some("/pinned: "), |_, _, _| Answer::Ok(Vec::new())),
    ];
    let seed: u64 =
        std::env::var("RAPTOR_TEST_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or_else(rand::random);
    println!("RAPTOR_TEST_SEED={seed}");
    let internet = Internet::start(world("monday", None));
    let first = project(As::Root, None);
    let tree = realized(&first, &internet, &[], &["realize", "top"]);
    let lock = first.read("Raptor.lock");
    std::thread::scope(|scope| {
        for (what, error, fault) in faults {
            let (lock, tree) = (&lock, &tree);
            scope.spawn(move || {
                println!("{what}");
                let internet =
                    Internet::start(move |url, before| fault(&body(url, "monday"), before, seed % 1_000_000));
                let project = project(As::Root, Some(lock));
                match error {
                    None => assert_eq!(&realized(&project, &internet, &[], LOCKED), tree, "{what}"),
                    Some(error) => {
                        fails(&project, &internet, &[], LOCKED_ALL, &[error, "/pinned", "/known"]);
                    }
                }
                sound(&project);
                assert!(internet.seen().values().all(|it| *it <= 10), "{what}: {:?}", internet.seen());
                // Once all is well, nothing of it is left.
                internet.becomes(world("monday", None));
                assert_eq!(&realized(&project, &internet, &[], LOCKED), tree, "{what}");
            });
        }
    });
}

#[test]
fn a_disk_that_is_full_of_a_download_recovers() {
    const BIG: usize = 40 << 20;
    let big = |_: &str, _: usize| Answer::Ok(vec![7; BIG]);
    let internet = Internet::start(big);
    let project = Project::busybox(As::Root, &[]);
    project.write("top.rapt", &format!("FROM base\nMKDIR /srv\nFETCH {URL}/big /srv/\n"));
    let known = sha256(&vec![7; BIG]);
    project.write(
        "Raptor.lock",
        &format!("version = 1\n[fetch.\"{URL}/big\"]\nsha256 = \"{known}\"\nsize = {BIG}\n"),
    );
    fs::create_dir(project.store()).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        let done =
            command.args(["-t", "tmpfs", "-o", options, "none"]).arg(project.store()).status().unwrap();
        assert!(done.success());
    };
    mount("size=24m,mode=700");
    let full = with(&project, &internet, &[], LOCKED);
    let verified = project.run(&["store", "verify"]);
    mount("remount,size=200m");
    let well = with(&project, &internet, &[], LOCKED);
    let verified_again = project.run(&["store", "verify"]);
    let unmounted = Command::new("umount").arg(project.store()).status().unwrap();
    assert!(unmounted.success(), "something still uses the store");
    assert_eq!(full.status, Some(1), "{}", full.stderr);
    for said in ["No space left on device", "raptor store gc"] {
        assert!(full.stderr.contains(said), "no `{said}` in:\n{}", full.stderr);
    }
    assert!(!full.stderr.contains("raptor update"), "{}", full.stderr);
    assert_eq!(
        (verified.status, well.status, verified_again.status),
        (Some(0), Some(0), Some(0)),
        "{}",
        well.stderr
    );
}
