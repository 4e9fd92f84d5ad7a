//! What pulling and unpacking a large image costs, against other tools in the same run: `cargo bench --bench pull`.
//!
//! Needs root, docker-registry and, as peers, the Debian packages skopeo, umoci and podman; a peer that is not there or
//! does not work here is said and left out. The image has about a gigabyte of files of this machine, in four layers, in a
//! registry on loopback. Each tool begins with nothing in each round; rounds alternate between the tools, so that noise
//! meets all of them alike.

// A benchmark has nobody to report errors to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Rounds of each tool, unless `-- N` says how many; the first, which fills caches, is not counted.
const ROUNDS: usize = 3;

fn main() {
    let dir = tempfile::Builder::new().prefix("raptor-pull-").tempdir_in("/var/tmp").unwrap();
    let registry = image::Registry::start(dir.path());
    let size = image::push(dir.path(), &registry);
    println!("pull and unpack {} MB of files, {} MB compressed", size.files >> 20, size.stored >> 20);
    let tools: [(&str, Tool); 3] =
        [("raptor", raptor), ("skopeo copy + umoci unpack", skopeo_and_umoci), ("podman pull", podman)];
    let mut times: Vec<Option<Vec<Duration>>> = vec![Some(Vec::new()); tools.len()];
    let rounds = std::env::args().skip(1).find_map(|it| it.parse().ok()).unwrap_or(ROUNDS);
    for round in 0..=rounds {
        for ((name, tool), times) in tools.iter().zip(&mut times) {
            let Some(known) = times else { continue };
            let work = dir.path().join("work");
            fs::create_dir_all(&work).unwrap();
            let begin = Instant::now();
            let result = tool(&work, &registry.host);
            let time = begin.elapsed();
            clear(&work);
            match result {
                Ok(()) if round > 0 => {
                    eprintln!("round {round}: {name} {:.2} s", time.as_secs_f64());
                    known.push(time);
                }
                Ok(()) => {}
                Err(why) => {
                    println!("{name:<28} does not work here: {why}");
                    *times = None;
                }
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let own = median(times[0].as_mut().expect("raptor works"));
    for ((name, _), times) in tools.iter().zip(&mut times) {
        let Some(times) = times else { continue };
        let time = median(times);
        println!(
            "{name:<28} {time:>8.2} s ({:.2})   raptor takes {:.2} of it",
            times[0].as_secs_f64(),
            own / time
        );
    }
}

/// Pulls the image from a registry into a directory.
type Tool = fn(&Path, &str) -> Result<(), String>;

fn raptor(work: &Path, host: &str) -> Result<(), String> {
    fs::write(work.join("t.rapt"), format!("FROM docker://{host}/large:1\n")).unwrap();
    let program =
        std::env::var_os("RAPTOR").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_raptor")), PathBuf::from);
    let mut raptor = Command::new(program);
    raptor.args(["build", "-q", "t"]).env("RAPTOR_STORE", work.join("store"));
    run(raptor.env("RAPTOR_INSECURE_REGISTRIES", host).env("no_proxy", "127.0.0.1"), work)
}

fn skopeo_and_umoci(work: &Path, host: &str) -> Result<(), String> {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
    run(skopeo.args([&format!("docker://{host}/large:1"), "oci:image:1"]), work)?;
    run(Command::new("umoci").args(["unpack", "--image", "image:1", "bundle"]), work)
}

fn podman(work: &Path, host: &str) -> Result<(), String> {
    let at = |name: &str| work.join(name).display().to_string();
    let policy = work.join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let mut podman = Command::new("podman");
    podman.args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "overlay"]);
    podman.args(["pull", "--quiet", "--tls-verify=false", "--signature-policy", &at("policy.json")]);
    run(podman.arg(format!("{host}/large:1")), work)
}

/// Runs a command that must succeed, in a directory.
fn run(command: &mut Command, dir: &Path) -> Result<(), String> {
    let output = command.current_dir(dir).stdin(Stdio::null()).output().map_err(|err| err.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Removes what a tool has made, and lets it reach the disk, so that nobody else pays for that.
fn clear(work: &Path) {
    // What podman leaves mounted.
    let _ = Command::new("umount").arg(work.join("root/overlay")).stderr(Stdio::null()).status();
    assert!(Command::new("rm").arg("-rf").arg(work).status().unwrap().success());
    rustix::fs::sync();
}
