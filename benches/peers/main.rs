//! What a build costs beside what it runs, against other tools in the same run: `cargo bench --bench peers`.
//!
//! Needs root, busybox-static and, as peers, the Debian packages bubblewrap, crun, buildah and nix-bin; a peer that is
//! not there or does not work here is said and left out. Each tool runs `busybox true` in a root of its own; builds
//! get a new derivation each time. Rounds alternate between the tools, so that noise meets all of them alike.

// A benchmark has nobody to report errors to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tools;

use std::path::Path;
use std::time::{Duration, Instant};

use tools::{Buildah, Nix, Raptor, Trivial};

/// Runs of one trivial program by each tool.
const ROUNDS: usize = 21;
/// Derivations of the wide project.
const WIDTH: usize = 1000;
/// Runs of the wide project with nothing to do.
const IDLE_ROUNDS: usize = 5;
/// Steps of the peer that cannot stack more layers.
const STEPS: usize = 100;

fn main() {
    let dir = tempfile::Builder::new().prefix("raptor-peers-").tempdir_in("/var/tmp").unwrap();
    let raptor = Raptor::new(&dir.path().join("raptor"));
    trivial(dir.path(), &raptor);
    let nix = Nix::new(&dir.path().join("nix-wide"));
    wide(&raptor, nix.as_ref());
    idle(dir.path(), &raptor, nix.as_ref());
}

/// One derivation, or one container, that does nothing; whole processes.
fn trivial(dir: &Path, raptor: &Raptor) {
    println!("busybox true, whole process, median (least) of {ROUNDS}");
    let mut tools: Vec<Box<dyn Trivial>> = vec![Box::new(raptor.clone())];
    tools.extend(tools::peers(dir));
    let mut times = vec![Vec::new(); tools.len()];
    for round in 0..=ROUNDS {
        for (tool, times) in tools.iter().zip(&mut times) {
            let time = timed(|| tool.run(round));
            // The first warms caches up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    let own = median(&mut times[0]);
    for (tool, times) in tools.iter().zip(&mut times) {
        let (median, least) = (median(times), times[0]);
        println!("{:<28} {:>8.1} ms ({:.1})   {}", tool.name(), ms(median), ms(least), ratio(median, own));
    }
    println!("{:<28} {:>8.1} ms per derivation inside of one process", "raptor", ms(raptor.many_in_one(200)));
}

/// Many derivations that depend on nothing but the root.
fn wide(raptor: &Raptor, nix: Option<&Nix>) {
    println!("\n{WIDTH} trivial derivations, two at a time");
    let own = timed(|| raptor.wide(WIDTH));
    println!("{:<28} {:>8.2} s", "raptor", own.as_secs_f64());
    if let Some(nix) = nix {
        let time = timed(|| nix.wide(WIDTH));
        println!("{:<28} {:>8.2} s   {}", "nix-build", time.as_secs_f64(), ratio(time, own));
    }
}

/// The same again, with nothing to do.
fn idle(dir: &Path, raptor: &Raptor, nix: Option<&Nix>) {
    println!("\nnothing to do, {WIDTH} derivations, median (least) of {IDLE_ROUNDS}");
    let repeat = |work: &dyn Fn()| {
        let mut times: Vec<_> = (0..IDLE_ROUNDS).map(|_| timed(work)).collect();
        (median(&mut times), times[0])
    };
    let (own, least) = repeat(&|| raptor.wide(WIDTH));
    println!("{:<28} {:>8.1} ms ({:.1})", "raptor", ms(own), ms(least));
    if let Some(nix) = nix {
        let (time, least) = repeat(&|| nix.wide(WIDTH));
        println!("{:<28} {:>8.1} ms ({:.1})   {}", "nix-build", ms(time), ms(least), ratio(time, own));
    }
    if let Some(buildah) = Buildah::new(&dir.join("buildah-steps")) {
        buildah.steps(STEPS);
        let (time, least) = repeat(&|| buildah.steps(STEPS));
        let name = format!("buildah --layers, {STEPS} steps");
        println!("{name:<28} {:>8.1} ms ({:.1})   {}", ms(time), ms(least), ratio(time, own));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Sorts, too.
fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(time: Duration, own: Duration) -> String {
    format!("{:.2} times raptor", time.as_secs_f64() / own.as_secs_f64())
}
