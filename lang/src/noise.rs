//! What of a layer is noise, unless a KEEP names it. The list with reasons is in `spec/sandbox.md`.

use std::path::Path;

/// What becomes of a file when its layer is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It stays as it is.
    Keep,
    /// It stays, empty.
    Empty,
    /// It goes, also from the merged view.
    Delete,
    /// It goes if it is a regular file.
    DeleteFile,
}

/// Directories that are no part of a layer: while steps run, something else is mounted there.
pub const VOLATILE: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Whole paths.
const PATHS: [(&str, Rule); 22] = [
    // Made by the first boot or made anew by every run of a program.
    ("etc/machine-id", Rule::Empty),
    ("var/lib/dbus/machine-id", Rule::DeleteFile),
    ("var/lib/systemd/random-seed", Rule::Delete),
    ("var/lib/urandom/random-seed", Rule::Delete),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", Rule::Delete),
    ("etc/ssl/private/ssl-cert-snakeoil.key", Rule::Delete),
    // Caches that hold inode numbers or times.
    ("var/cache/ldconfig/aux-cache", Rule::Delete),
    ("var/cache/apt/pkgcache.bin", Rule::Delete),
    ("var/cache/apt/srcpkgcache.bin", Rule::Delete),
    // When cargo last used each of its downloads; the second is where images of Rust have them.
    ("root/.cargo/.global-cache", Rule::Delete),
    ("usr/local/cargo/.global-cache", Rule::Delete),
    // Logs that hold times.
    ("var/log/alternatives.log", Rule::Delete),
    ("var/log/dpkg.log", Rule::Delete),
    ("var/log/apt/history.log", Rule::Delete),
    ("var/log/apt/term.log", Rule::Delete),
    // One that holds names in the order in which the file system lists them.
    ("var/log/fontconfig.log", Rule::Delete),
    // Backups of the file as it was before the last change.
    ("etc/passwd-", Rule::Delete),
    ("etc/group-", Rule::Delete),
    ("etc/shadow-", Rule::Delete),
    ("etc/gshadow-", Rule::Delete),
    ("etc/subuid-", Rule::Delete),
    ("etc/subgid-", Rule::Delete),
];

/// Names in one directory: what stands before and behind the part that differs.
const NAMES: [(&str, &str, &str); 3] = [
    ("etc/ssh", "ssh_host_", "_key"),
    ("etc/ssh", "ssh_host_", "_key.pub"),
    ("var/cache/debconf", "", "-old"),
];

/// The rule for a path relative to the root.
pub fn rule(path: &Path) -> Rule {
    if let Some((_, rule)) = PATHS.iter().find(|(known, _)| Path::new(known) == path) {
        return *rule;
    }
    let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let is_noise = NAMES.iter().any(|(dir, before, behind)| {
        let differs = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
        differs.is_some() && path.parent() == Some(Path::new(dir))
    });
    if is_noise { Rule::Delete } else { Rule::Keep }
}

/// Whether `path`, relative to the root, is or holds what a rule empties or deletes.
pub fn concerns(path: &Path) -> bool {
    let dirs = NAMES.iter().map(|(dir, ..)| dir);
    rule(path) != Rule::Keep
        || PATHS.iter().map(|(known, _)| known).chain(dirs).any(|known| Path::new(known).starts_with(path))
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
            ("var/cache/debconf/a/b-old", Rule::Keep),
            ("root/.cargo/.global-cache", Rule::Delete),
            ("root/.cargo/registry", Rule::Keep),
            ("var/tmp", Rule::Keep),
            ("var/log/fontconfig.log", Rule::Delete),
            ("etc/ssl/private/ssl-cert-snakeoil.key", Rule::Delete),
            ("etc/ssl/private", Rule::Keep),
        ] {
            assert_eq!(rule(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_rules_concern() {
        for path in
            ["", "etc", "etc/ssh", "etc/ssh/ssh_host_rsa_key", "var/log", "var/cache", "etc/machine-id"]
        {
            assert!(concerns(Path::new(path)), "{path}");
        }
        for path in ["etc/hosts", "etc/ss", "var/log/apt/other.log", "etc/machine-id/x", "home"] {
            assert!(!concerns(Path::new(path)), "{path}");
        }
    }
}
