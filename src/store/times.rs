//! How long things took to make: for estimates and for the order of work, never for results.

use std::collections::BTreeMap;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{KeyLock, Result, Store, now, record};

/// Most names that are remembered.
const MAX_NAMES: usize = 2000;
/// Longest name that is remembered, in bytes.
const MAX_NAME: usize = 200;
/// Times of one name that count: the last ones.
const MAX_TIMES: usize = 3;

/// Times of earlier builds, by what people call what was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    names: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// When it was last made, in seconds since 1970.
    made: u64,
    /// In milliseconds, the latest last.
    millis: Vec<u64>,
}

impl Times {
    /// How long it will take, in milliseconds: the median of the last times.
    pub fn expected(&self, name: &str) -> Option<u64> {
        let mut millis = self.names.get(name)?.millis.clone();
        millis.sort_unstable();
        millis.get(millis.len() / 2).copied()
    }

    fn add(&mut self, name: &str, millis: u64, made: u64) {
        if name.len() > MAX_NAME {
            return;
        }
        let new = || Entry { made, millis: Vec::new() };
        let entry = self.names.entry(name.to_owned()).or_insert_with(new);
        entry.made = made;
        entry.millis.push(millis);
        let old = entry.millis.len().saturating_sub(MAX_TIMES);
        entry.millis.drain(..old);
    }

    /// Forgets what was not made for the longest time.
    fn prune(&mut self) {
        let excess = self.names.len().saturating_sub(MAX_NAMES);
        if excess == 0 {
            return;
        }
        let mut by_age: Vec<_> = self.names.iter().map(|(name, entry)| (entry.made, name.clone())).collect();
        by_age.sort_unstable();
        by_age.iter().take(excess).for_each(|(_, name)| drop(self.names.remove(name)));
    }
}

impl Store {
    /// Times of earlier builds. If the record of them is damaged that is an error, and so they are as good as none.
    pub fn times(&self) -> Result<Times> {
        let mut times = record::read::<Times>(&self.times_file())?.unwrap_or_default();
        for lower in &self.0.lower {
            for (name, entry) in lower.times()?.names {
                times.names.entry(name).or_insert(entry);
            }
        }
        Ok(times)
    }

    /// Remembers how long things took, in milliseconds, in place of a record that is damaged, too.
    pub fn add_times(&self, made: &[(String, u64)]) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        self.writable()?;
        let lock = self.root().join("locks").join("times");
        let _alone = KeyLock::take(&lock, FlockOperation::LockExclusive)?;
        let file = self.times_file();
        let mut times = record::read_intact::<Times>(&file)?.unwrap_or_default();
        made.iter().for_each(|(name, millis)| times.add(name, *millis, now()));
        times.prune();
        fs_err::create_dir_all(self.root().join("state"))?;
        record::write(self.root(), &file, &times)
    }

    pub(super) fn times_file(&self) -> std::path::PathBuf {
        self.root().join("state").join("times.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_times_counts() {
        let mut times = Times::default();
        assert_eq!(times.expected("layer a"), None);
        for (millis, expected) in [(900, 900), (10, 900), (20, 20), (30, 20), (40, 30)] {
            times.add("layer a", millis, 0);
            assert_eq!(times.expected("layer a"), Some(expected));
        }
    }

    #[test]
    fn the_longest_unused_are_forgotten() {
        let mut times = Times::default();
        let n_names = MAX_NAMES as u64 + 50;
        (0..n_names).for_each(|n| times.add(&format!("layer {n}"), n, n));
        times.add("layer 7", 7, n_names);
        times.add(&"x".repeat(MAX_NAME + 1), 1, n_names);
        times.prune();
        assert_eq!(times.names.len(), MAX_NAMES);
        assert_eq!((times.expected("layer 7"), times.expected("layer 8")), (Some(7), None));
        assert_eq!(times.expected(&format!("layer {}", n_names - 1)), Some(n_names - 1));
    }
}
