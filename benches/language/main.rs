//! How fast the language is: `cargo bench --bench language`.
//!
//! Prints throughput of lexer, parser and templates, then the time of whole commands on a project of
//! `RAPTOR_BENCH_MODULES` modules (default 10,000), started as users start them. Each figure is the best of three.

// A benchmark has nobody to report errors to.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod project;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raptor_lang::source::{FileId, Sources, Span};
use raptor_lang::syntax::{self, Mode};
use raptor_lang::template::{self, Context, Reach};

const REPEATS: usize = 3;
/// Size of the text for throughput, in bytes.
const TEXT: usize = 16 << 20;

fn main() {
    let n_modules = std::env::var("RAPTOR_BENCH_MODULES").map_or(10_000, |it| it.parse().expect("a number"));
    language();
    commands(n_modules);
}

fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        black_box(work());
        begin.elapsed()
    };
    (0..REPEATS).map(time).min().expect("at least one repeat")
}

fn language() {
    let mut text = String::new();
    for n in 0.. {
        if text.len() >= TEXT {
            break;
        }
        text += &rendered(n);
    }
    let mb = text.len() as f64 / 1e6;
    let throughput =
        |what: &str, time: Duration| println!("{what:<44} {:>10.1} MB/s", mb / time.as_secs_f64());
    println!("one thread, {mb:.1} MB of rendered modules");
    throughput("parse to a tree", best(|| syntax::parse(&text, Mode::Rendered)));
    let span = |range: std::ops::Range<usize>| Span::new(FileId(0), range.start, range.end);
    let parse = syntax::parse(&text, Mode::Rendered);
    throughput("statements of a tree", best(|| syntax::statements(&parse, &span)));
    throughput(
        "text to statements",
        best(|| syntax::statements(&syntax::parse(&text, Mode::Rendered), &span)),
    );
    let source: String = (0..2000).map(|n| project::module(n, "base", false)).collect();
    let source_mb = source.len() as f64 / 1e6;
    let time = best(|| syntax::parse(&source, Mode::Source));
    println!("{:<44} {:>10.1} MB/s", "parse source with templates to a tree", source_mb / time.as_secs_f64());
    let module: Arc<str> = project::module(1, "base", false).into();
    let n_renders = 2000;
    let time = best(|| {
        for _ in 0..n_renders {
            let mut sources = Sources::default();
            let path = Path::new("m.rapt");
            template::render(&Reach::ThisFileOnly, path, &module, &Context::new(), &mut sources)
                .expect("it renders");
        }
    });
    println!("{:<44} {:>10.1} µs", "render one module", time.as_secs_f64() * 1e6 / f64::from(n_renders));
    let plain: Arc<str> = rendered(1).into();
    let time = best(|| {
        for _ in 0..n_renders {
            let mut sources = Sources::default();
            let path = Path::new("m.rapt");
            template::render(&Reach::ThisFileOnly, path, &plain, &Context::new(), &mut sources)
                .expect("it renders");
        }
    });
    println!(
        "{:<44} {:>10.1} µs",
        "render one module without tags",
        time.as_secs_f64() * 1e6 / f64::from(n_renders)
    );
}

/// A module as its templates would leave it.
fn rendered(n: usize) -> String {
    let lines = project::module(n, "base", false);
    let kept = lines.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("{%"));
    kept.map(|line| line.replace("{{ port }}", "80").replace("{{ name }}", "service") + "\n").collect()
}

fn commands(n_modules: usize) {
    let dir = tempfile::Builder::new().prefix("raptor-bench-").tempdir_in("/var/tmp").expect("a directory");
    let bytes = project::generate(dir.path(), n_modules).expect("a project");
    println!("\nwhole processes, {n_modules} modules, {:.1} MB", bytes as f64 / 1e6);
    // Younger files are not trusted by their stamps alone.
    std::thread::sleep(Duration::from_millis(2_500));
    for args in [&["check"][..], &["eval", project::JOB]] {
        for threads in ["1", "2", "4"] {
            let cold = best(|| run(dir.path(), args, threads, "1"));
            run(dir.path(), args, threads, "");
            let again = best(|| run(dir.path(), args, threads, ""));
            println!(
                "raptor {:<10} {threads} threads {:>8.0} ms without memory {:>8.0} ms with nothing changed",
                args.join(" "),
                cold.as_secs_f64() * 1e3,
                again.as_secs_f64() * 1e3
            );
        }
    }
}

fn run(dir: &Path, args: &[&str], threads: &str, forgets: &str) {
    let program =
        std::env::var_os("RAPTOR_BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_raptor").into());
    let status = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("RAYON_NUM_THREADS", threads)
        .env("RAPTOR_NO_EVAL_CACHE", forgets)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("RAPTOR_STORE", dir.join("store"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("raptor starts");
    assert!(status.success(), "raptor {} failed", args.join(" "));
}
