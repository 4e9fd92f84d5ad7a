//! What of a captured layer is noise, and what becomes of it. The list with reasons is in `spec/sandbox.md`.

use std::path::{Path, PathBuf};

use raptor_lang::noise::{self, Rule};

/// What normalisation does to the paths of one layer, which are relative to the root.
pub(super) struct Rules {
    keep: Vec<PathBuf>,
}

impl Rules {
    /// All rules, but for these absolute paths and what is below them.
    pub(super) fn except(keep: &[String]) -> Rules {
        Rules { keep: keep.iter().map(|path| PathBuf::from(path.trim_start_matches('/'))).collect() }
    }

    /// The rule for a path.
    pub(super) fn of(&self, path: &Path) -> Rule {
        match self.keep.iter().any(|kept| path.starts_with(kept)) {
            true => Rule::Keep,
            false => noise::rule(path),
        }
    }
}

/// Whether what is in this directory of the root goes: it is no part of an image, whatever is to be kept.
pub(super) fn is_volatile(dir: &Path) -> bool {
    noise::VOLATILE.iter().any(|it| Path::new(it) == dir)
}

/// The time stamp that a file gets: whole seconds, none later than the epoch of the build.
pub(super) fn clamp(mtime: i64, epoch: i64) -> i64 {
    mtime.min(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept() {
        let rules = Rules::except(&["/etc/machine-id".into(), "/var/log".into()]);
        for (path, expected) in [
            ("etc/machine-id", Rule::Keep),
            ("var/log/apt/term.log", Rule::Keep),
            ("etc/passwd-", Rule::Delete),
            ("var/lib/dbus/machine-id", Rule::DeleteFile),
        ] {
            assert_eq!(rules.of(Path::new(path)), expected, "{path}");
        }
        assert_eq!(Rules::except(&["/".into()]).of(Path::new("etc/passwd-")), Rule::Keep);
        assert_eq!(Rules::except(&["/etc/pass".into()]).of(Path::new("etc/passwd-")), Rule::Delete);
    }
}
