//! `raptor store tree`, `cat` and `diff`: what is in trees.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Component, Path};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde_json::{Value, json};

use super::name::find;
use super::{Cat, Diff, Tree};
use crate::cli::errors::CliError;
use crate::cli::session::Session;
use crate::store;
use crate::tree::{self, Change, Entry, Kind};

pub fn tree(session: &Session, args: &Tree) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let hash = find(session, &store, &args.tree)?;
    let entries = tree::entries(&store.path(&hash)).map_err(store::Error::from)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.json {
        let entries: Vec<Value> = entries.iter().map(entry_json).collect();
        writeln!(out, "{}", json!({ "hash": hash, "entries": entries }))?;
    } else {
        for entry in &entries {
            writeln!(out, "{}", entry_line(entry))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub fn cat(session: &Session, args: &Cat) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let hash = find(session, &store, &args.tree)?;
    let root = store.path(&hash);
    let mut file = match args.path.as_deref().map(inside).filter(|it| !it.as_os_str().is_empty()) {
        None => std::fs::File::open(&root)?,
        Some(path) => {
            let dir = rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(std::io::Error::from)?;
            // Links lead where they would lead in an image, never to the host.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(&dir, &path, flags, Mode::empty(), resolve)
                .map(std::fs::File::from)
                .map_err(|err| CliError::Other(format!("{} of the tree {hash}: {err}", path.display())))?
        }
    };
    if !file.metadata()?.is_file() {
        let shown = args.path.as_deref().unwrap_or(Path::new("it")).display();
        return Err(CliError::Other(format!("{shown} is not a regular file in the tree {hash}")));
    }
    std::io::copy(&mut file, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

pub fn diff(session: &Session, args: &Diff) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let (old, new) = (find(session, &store, &args.old)?, find(session, &store, &args.new)?);
    let changes = match old == new {
        true => Vec::new(),
        false => tree::diff(&store.path(&old), &store.path(&new)).map_err(store::Error::from)?,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut rows = Vec::new();
    for (path, change) in &changes {
        let shown = Path::new("/").join(path);
        if args.json {
            let (change, what) = match change {
                Change::Added => ("added", &[][..]),
                Change::Removed => ("removed", &[][..]),
                Change::Changed(what) => ("changed", what.as_slice()),
            };
            rows.push(json!({ "path": shown.to_string_lossy(), "change": change, "what": what }));
            continue;
        }
        match change {
            Change::Added => writeln!(out, "+ {}", shown.display())?,
            Change::Removed => writeln!(out, "- {}", shown.display())?,
            Change::Changed(what) => writeln!(out, "! {}: {}", shown.display(), what.join(", "))?,
        }
    }
    if args.json {
        writeln!(out, "{}", json!({ "old": old, "new": new, "changes": rows }))?;
    }
    out.flush()?;
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A path of the command line as one below the tree.
fn inside(path: &Path) -> std::path::PathBuf {
    path.components().filter(|it| !matches!(it, Component::RootDir | Component::CurDir)).collect()
}

fn entry_line(entry: &Entry) -> String {
    let (letter, size, more) = match &entry.kind {
        Kind::File(size) => ('-', size.to_string(), String::new()),
        Kind::HardLink(first) => ('h', String::new(), format!(" = /{}", first.display())),
        Kind::Dir => ('d', String::new(), String::new()),
        Kind::Symlink(target) => ('l', String::new(), format!(" -> {}", target.display())),
        Kind::Char(major, minor) => ('c', format!("{major},{minor}"), String::new()),
        Kind::Block(major, minor) => ('b', format!("{major},{minor}"), String::new()),
        Kind::Fifo => ('p', String::new(), String::new()),
        Kind::Whiteout => ('w', String::new(), String::new()),
    };
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let path = entry.path.display();
    let names = entry.xattrs.iter().map(|(name, _)| format!(" [{}]", name.to_string_lossy()));
    let xattrs: String = names.collect();
    format!("{letter} {:04o} {owner:>11} {size:>11} {:>11} /{path}{more}{xattrs}", entry.mode, entry.mtime)
}

fn entry_json(entry: &Entry) -> Value {
    let mut value = json!({
        "path": format!("/{}", entry.path.to_string_lossy()),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime,
        "xattrs": entry.xattrs.iter().map(xattr_json).collect::<Vec<_>>(),
    });
    let (kind, more) = match &entry.kind {
        Kind::File(size) => ("file", Some(("size", json!(size)))),
        Kind::HardLink(first) => {
            ("hardlink", Some(("target", json!(format!("/{}", first.to_string_lossy())))))
        }
        Kind::Dir => ("dir", None),
        Kind::Symlink(target) => ("symlink", Some(("target", json!(target.to_string_lossy())))),
        Kind::Char(major, minor) => ("char", Some(("device", json!([major, minor])))),
        Kind::Block(major, minor) => ("block", Some(("device", json!([major, minor])))),
        Kind::Fifo => ("fifo", None),
        Kind::Whiteout => ("whiteout", None),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("type".to_owned(), json!(kind));
        object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    value
}

fn xattr_json((name, value): &(OsString, Vec<u8>)) -> Value {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "name": name.to_string_lossy(), "hex": hex })
}
