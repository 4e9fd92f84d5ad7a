//! What of a captured layer is noise, and what becomes of it. The list with reasons is in `spec/sandbox.md`.

use std::path::Path;

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It stays as it is.
    Keep,
    /// It stays, empty.
    Empty,
    /// It goes, also from the merged view.
    Delete,
    /// It goes if it is a regular file.
    DeleteFile,
    /// What is below goes: nothing there is part of an image.
    DeleteContent,
}

/// Whole paths.
const PATHS: [(&str, Rule); 22] = [
    // Made by the first boot or made anew by every run of a program.
    ("etc/machine-id", Rule::Empty),
    ("var/lib/dbus/machine-id", Rule::DeleteFile),
    ("var/lib/systemd/random-seed", Rule::Delete),
    ("var/lib/urandom/random-seed", Rule::Delete),
    // Caches that hold inode numbers or times.
    ("var/cache/ldconfig/aux-cache", Rule::Delete),
    ("var/cache/apt/pkgcache.bin", Rule::Delete),
    ("var/cache/apt/srcpkgcache.bin", Rule::Delete),
    // Logs that hold times.
    ("var/log/alternatives.log", Rule::Delete),
    ("var/log/dpkg.log", Rule::Delete),
    ("var/log/apt/history.log", Rule::Delete),
    ("var/log/apt/term.log", Rule::Delete),
    // Backups of the file as it was before the last change.
    ("etc/passwd-", Rule::Delete),
    ("etc/group-", Rule::Delete),
    ("etc/shadow-", Rule::Delete),
    ("etc/gshadow-", Rule::Delete),
    ("etc/subuid-", Rule::Delete),
    ("etc/subgid-", Rule::Delete),
    // Not the image's.
    ("dev", Rule::DeleteContent),
    ("proc", Rule::DeleteContent),
    ("run", Rule::DeleteContent),
    ("sys", Rule::DeleteContent),
    ("tmp", Rule::DeleteContent),
];

/// The rule for a path relative to the root.
pub(super) fn rule(path: &Path) -> Rule {
    let Some(path) = path.to_str() else { return Rule::Keep };
    if let Some((_, rule)) = PATHS.iter().find(|(known, _)| *known == path) {
        return *rule;
    }
    let host_key = path.strip_prefix("etc/ssh/ssh_host_").is_some_and(|rest| {
        rest.strip_suffix("_key").or(rest.strip_suffix("_key.pub")).is_some_and(|kind| !kind.contains('/'))
    });
    let debconf_backup = path
        .strip_prefix("var/cache/debconf/")
        .is_some_and(|rest| rest.ends_with("-old") && !rest.contains('/'));
    if host_key || debconf_backup { Rule::Delete } else { Rule::Keep }
}

/// The time stamp that a file gets: whole seconds, none later than the epoch of the build.
pub(super) fn clamp(mtime: i64, epoch: i64) -> i64 {
    mtime.min(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (path, expected) in [
            ("etc/machine-id", Rule::Empty),
            ("etc/ssh/ssh_host_ed25519_key", Rule::Delete),
            ("etc/ssh/ssh_host_ed25519_key.pub", Rule::Delete),
            ("etc/ssh/ssh_host_a/b_key", Rule::Keep),
            ("etc/ssh/sshd_config", Rule::Keep),
            ("var/cache/debconf/config.dat-old", Rule::Delete),
            ("var/cache/debconf/config.dat", Rule::Keep),
            ("tmp", Rule::DeleteContent),
            ("var/tmp", Rule::Keep),
        ] {
            assert_eq!(rule(Path::new(path)), expected, "{path}");
        }
    }
}
