//! `Raptor.lock` as a file: loading, and writing it so that diffs are small. Specified in `spec/lock.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{DebianPin, DockerPin, FilePin, LinkPin, NetworkEntry, debian, docker, link, parse};

/// Version of the format; newer files are refused.
pub(super) const VERSION: i64 = 1;

/// Begins the names of files that become a lock.
const UNFINISHED: &str = ".Raptor.lock.";

/// The content of a `Raptor.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Pinned Debian bases, by the text after `debian://`.
    pub debian: BTreeMap<String, DebianPin>,
    /// Pinned images of registries, by the text after `docker://`.
    pub docker: BTreeMap<String, DockerPin>,
    /// Files of FETCH statements without digest, by URL.
    pub fetch: BTreeMap<String, FilePin>,
    /// Packages of the network, by name; those that packages link have names like `outer/inner`.
    pub link: BTreeMap<String, LinkPin>,
    /// Requests of the RUN steps, by layer name.
    pub layers: BTreeMap<String, Vec<NetworkEntry>>,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Reading or writing failed; the message names the path.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Written by a newer raptor.
    #[error("{} has version {found}; this raptor reads version {VERSION}: use a newer raptor", path.display())]
    Newer {
        /// The lock file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Not TOML, or not a lock.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// The lock file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

impl Lock {
    /// Reads a lock file. A missing file is an empty lock.
    pub fn load(path: &Path) -> Result<Lock, LockError> {
        match Lock::read(path)? {
            Some(text) => Lock::parse(path, &text),
            None => Ok(Lock::default()),
        }
    }

    /// The text of a lock file, if there is one.
    pub fn read(path: &Path) -> Result<Option<String>, LockError> {
        match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|err| parse::not_text(path, &err)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockError::Io { path: path.to_path_buf(), source }),
        }
    }

    /// Reads the text of a lock file; `path` is for messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Lock, LockError> {
        parse::parse(path, text)
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# What builds of this project saw of the internet. Written by raptor; made to be committed.\n",
        );
        let _ = writeln!(out, "version = {VERSION}");
        for (name, pin) in &self.debian {
            let _ = writeln!(out, "\n[debian.{}]", key(name));
            debian::render(&mut out, pin);
        }
        self.docker.iter().for_each(|(name, pin)| docker::render(&mut out, name, pin));
        for (url, pin) in &self.fetch {
            let (url, sha256) = (key(url), quoted(&pin.sha256));
            let _ = writeln!(out, "\n[fetch.{url}]\nsha256 = {sha256}\nsize = {}", pin.size);
        }
        link::render(&mut out, &self.link);
        for (name, entries) in &self.layers {
            let _ = writeln!(out, "\n[layers.{}]\nrequests = [", key(name));
            let sorted: BTreeSet<&NetworkEntry> = entries.iter().collect();
            sorted.into_iter().for_each(|entry| render_entry(&mut out, entry));
            out.push_str("]\n");
        }
        out
    }

    /// Removes what killed processes left when they wrote this file; only for who keeps all others from writing it.
    pub fn clear_unfinished(path: &Path) {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let Some(Ok(entries)) = target.parent().map(std::fs::read_dir) else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                // It is in nobody's way.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Writes the file in one step. A file that already says the same is left alone, and nothing is not
    /// written where there is no file.
    pub fn save(&self, path: &Path) -> Result<(), LockError> {
        let io = |source| LockError::Io { path: path.to_path_buf(), source };
        let text = self.render();
        match std::fs::read(path) {
            Ok(old) if old == text.as_bytes() => return Ok(()),
            Ok(_) => {}
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                if *self == Lock::default() {
                    return Ok(());
                }
            }
            Err(source) => return Err(io(source)),
        }
        // Through a link, so that a lock kept elsewhere stays there.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let dir = match target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mode = std::fs::metadata(&target).map(|meta| meta.permissions());
        let mut temp = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(mode.unwrap_or_else(|_| std::os::unix::fs::PermissionsExt::from_mode(0o644)))
            .tempfile_in(dir)
            .map_err(io)?;
        temp.write_all(text.as_bytes()).map_err(io)?;
        temp.as_file().sync_all().map_err(io)?;
        temp.persist(&target).map_err(|err| io(err.error))?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }
}

fn render_entry(out: &mut String, entry: &NetworkEntry) {
    out.push_str("  { ");
    if entry.method != "GET" {
        let _ = write!(out, "method = {}, ", quoted(&entry.method));
    }
    let _ = write!(out, "url = {}", quoted(&entry.url));
    if let Some(accept) = &entry.accept {
        let _ = write!(out, ", accept = {}", quoted(accept));
    }
    if let Some(body) = &entry.body {
        let _ = write!(out, ", body = {}", quoted(body));
    }
    if entry.status != 200 {
        let _ = write!(out, ", status = {}", entry.status);
    }
    if entry.size != 0 {
        let _ = write!(out, ", sha256 = {}, size = {}", quoted(&entry.sha256), entry.size);
    }
    if !entry.headers.is_empty() {
        let headers: Vec<String> =
            entry.headers.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
        let _ = write!(out, ", headers = {{ {} }}", headers.join(", "));
    }
    out.push_str(" },\n");
}

pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML basic string: always one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
