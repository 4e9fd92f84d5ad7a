//! How fast trees are hashed, against `b3sum` (or the same library on one file) on the same bytes in one file.
//!
//! `cargo bench --bench tree_hash`, with `apt-get install b3sum` for the real peer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use raptor::tree::{Owner, hash_tree};

/// Bytes of each tree.
const TOTAL: usize = 1 << 30;
/// Runs of each measurement, of which the best counts.
const RUNS: usize = 5;

fn main() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let whole = dir.path().join("whole");
    fs::write(&whole, content(TOTAL, 0)).unwrap();
    let has_b3sum = Command::new("b3sum").arg("--version").stdout(Stdio::null()).status().is_ok();
    let peer = if has_b3sum { "b3sum" } else { "blake3 with mmap and rayon (b3sum is not installed)" };
    let one_file = best(|| match has_b3sum {
        true => {
            assert!(Command::new("b3sum").arg(&whole).stdout(Stdio::null()).status().unwrap().success());
        }
        false => {
            blake3::Hasher::new().update_mmap_rayon(&whole).unwrap().finalize();
        }
    });
    println!("{:>8.2} GB/s  {peer}, one file", speed(one_file));
    for size in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
        let tree = dir.path().join(format!("tree-{size}"));
        make(&tree, size);
        let time = best(|| {
            hash_tree(&tree, Owner::AsSeen).unwrap();
        });
        let ratio = one_file.as_secs_f64() / time.as_secs_f64() * 100.0;
        println!("{:>8.2} GB/s  tree of files of {} KiB: {ratio:.0} %", speed(time), size >> 10);
        fs::remove_dir_all(&tree).unwrap();
    }
}

fn make(tree: &Path, size: usize) {
    let bytes = content(size, 1);
    for idx in 0..TOTAL / size {
        let dir = tree.join(format!("{}", idx / 256));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{idx}")), &bytes).unwrap();
    }
}

/// Bytes that no file system stores as holes.
fn content(size: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = || {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    std::iter::repeat_with(time).take(RUNS).min().unwrap()
}

fn speed(time: Duration) -> f64 {
    TOTAL as f64 / 1e9 / time.as_secs_f64()
}
