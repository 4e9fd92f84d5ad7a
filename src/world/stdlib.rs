//! The standard library, embedded in the program and seen below `$std`.

use std::ffi::OsString;
use std::path::Path;

use include_dir::{Dir, include_dir};
use raptor_lang::world::FileKind;

static STDLIB: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/stdlib");

/// First component of every path in it.
pub const ROOT: &str = "$std";

/// Whether a path is in it.
pub fn owns(path: &Path) -> bool {
    path.starts_with(ROOT)
}

/// Content of a file.
pub fn file(path: &Path) -> Option<&'static [u8]> {
    STDLIB.get_file(path.strip_prefix(ROOT).ok()?).map(|file| file.contents())
}

/// Names in a directory.
pub fn list(path: &Path) -> Option<Vec<OsString>> {
    let path = path.strip_prefix(ROOT).ok()?;
    let dir = if path.as_os_str().is_empty() { &STDLIB } else { STDLIB.get_dir(path)? };
    Some(dir.entries().iter().filter_map(|it| it.path().file_name()).map(OsString::from).collect())
}

/// What a path is.
pub fn kind(path: &Path) -> Option<FileKind> {
    let path = path.strip_prefix(ROOT).ok()?;
    match STDLIB.get_entry(path) {
        Some(include_dir::DirEntry::File(_)) => Some(FileKind::File),
        Some(include_dir::DirEntry::Dir(_)) => Some(FileKind::Dir),
        None if path.as_os_str().is_empty() => Some(FileKind::Dir),
        None => None,
    }
}
