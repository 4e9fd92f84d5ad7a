//! What a sandbox may take of its host. Limits are no part of what is built: they end a build or leave no trace.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Processes of a sandbox, all users together.
pub(super) const PROCESSES: u64 = 8192;
/// Size that every file system in memory claims to have, the same on all hosts; the memory limit comes first.
pub(super) const TMPFS_SIZE: &str = "64g";
/// Files that every file system in memory claims to have room for.
pub(super) const TMPFS_FILES: &str = "4194304";

/// What a sandbox may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: all processes, and files in memory.
    pub memory: u64,
    /// Bytes below the work dir. Some room always stays free on its file system, see [`Limit::Reserve`].
    pub disk: Option<u64>,
    /// How long one step may take.
    pub step_time: Option<Duration>,
}

impl Limits {
    /// Seven eighths of the machine's memory, and nothing else.
    pub fn of_this_machine() -> Limits {
        let total = fs_err::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text, "MemTotal"));
        Limits { memory: total.map_or(u64::MAX, |it| it / 8 * 7), disk: None, step_time: None }
    }
}

/// A limit that a sandbox has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// [`Limits::memory`]
    Memory(u64),
    /// So many processes.
    Processes(u64),
    /// [`Limits::disk`]
    Disk(u64),
    /// So many bytes must stay free on the file system of the work dir: 1 GiB, a fiftieth of it, or half of what was
    /// free at first, whichever is the least.
    Reserve(u64),
    /// The same for the number of files, the most being 10,000.
    Files(u64),
    /// [`Limits::step_time`]
    StepTime(Duration),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Memory(bytes) => write!(f, "ended: it took more memory than {}", size(*bytes)),
            Limit::Processes(n) => write!(f, "ended: it had more than {n} processes"),
            Limit::Disk(bytes) => write!(f, "ended: it wrote more than {}", size(*bytes)),
            Limit::Reserve(bytes) => {
                write!(f, "ended: it left less than {} free on the disk of the store", size(*bytes))
            }
            Limit::Files(n) => {
                write!(f, "ended: it left room for less than {n} files on the disk of the store")
            }
            Limit::StepTime(time) => write!(f, "ended: it took longer than {} s", time.as_secs_f64()),
        }
    }
}

/// Bytes in words; exact where a user named them in whole units.
fn size(bytes: u64) -> String {
    match ["B", "KiB", "MiB", "GiB", "TiB"].iter().enumerate().rev().find(|(i, _)| bytes >> (10 * i) > 0) {
        Some((i, unit)) if bytes.is_multiple_of(1 << (10 * i)) => format!("{} {unit}", bytes >> (10 * i)),
        Some((i, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << (10 * i)) as f64),
        None => "0 B".to_owned(),
    }
}

/// Bytes that a line of `/proc/meminfo` names.
pub(super) fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        let words = [0, 1, 1023, 1024, 1536, 64 << 20, (64 << 20) + 1, 3 << 40, u64::MAX].map(size);
        let expected =
            ["0 B", "1 B", "1023 B", "1 KiB", "1.5 KiB", "64 MiB", "64.0 MiB", "3 TiB", "16777216.0 TiB"];
        assert_eq!(words, expected);
    }

    #[test]
    fn lines_of_meminfo() {
        let text = "MemTotal:       16 kB\nSwapTotal:      3 kB\nHugePages_Total:   7\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(16384));
        assert_eq!(meminfo(text, "Swap"), None);
        assert_eq!(meminfo(text, "Shmem"), None);
    }
}
