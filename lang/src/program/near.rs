//! What the author most likely meant by a name that means no file: files of the other kind, and files whose names
//! are spelt much the same.

use std::path::Path;

use crate::def::{Extension, ModuleName};
use crate::paths::dir_of;
use crate::suggest;
use crate::world::{FileKind, World};

/// What to write instead, if a file of the other kind exists under the name.
pub fn other_kind(world: &dyn World, file: &Path, name: &ModuleName, extension: Extension) -> Option<String> {
    let exists = |it: &Path| world.kind(it) == Some(FileKind::File);
    let (other, advice) = match extension {
        Extension::Rapt => (Extension::Rinc, "is there, for INCLUDE; FROM needs a .rapt file"),
        Extension::Rinc => (Extension::Rapt, "is there, for FROM; INCLUDE needs a .rinc file"),
    };
    let sibling = file.with_extension(other.as_str());
    if exists(&sibling) {
        return Some(format!("{} {advice}", sibling.display()));
    }
    let stem = file.file_stem()?.to_str()?;
    let (stem, advice) = match stem.strip_suffix('@') {
        Some(stem) => {
            (stem.to_owned(), "is there, without instances; leave `@` and what follows out".to_owned())
        }
        None => (format!("{stem}@"), format!("is there, and needs an instance: `{name}@NAME`")),
    };
    let sibling = file.with_file_name(format!("{stem}.{}", extension.as_str()));
    exists(&sibling).then(|| format!("{} {advice}", sibling.display()))
}

/// The name with its last segment spelt as a file beside the missing one has it.
pub fn module(world: &dyn World, file: &Path, name: &ModuleName, extension: Extension) -> Option<ModuleName> {
    let near = file_name(world, file, |it| {
        let stem = it.strip_suffix(extension.as_str())?.strip_suffix('.')?;
        // Instances are not guessed: only files that take one, or none, as this name does.
        match (stem.strip_suffix('@'), &name.instance) {
            (Some(stem), Some(_)) => Some(stem.to_owned()),
            (None, None) => Some(stem.to_owned()),
            _ => None,
        }
    })?;
    let mut name = name.clone();
    *name.segments.last_mut()? = near;
    // A file may have a name that no module can have.
    name.to_string().parse().ok()
}

/// The file name beside `file` that most resembles its own.
pub fn file(world: &dyn World, file: &Path) -> Option<String> {
    file_name(world, file, |it| Some(it.to_owned()))
}

fn file_name(world: &dyn World, file: &Path, shown: impl Fn(&str) -> Option<String>) -> Option<String> {
    let wanted = shown(file.file_name()?.to_str()?)?;
    let names = world.list(dir_of(file)).unwrap_or_default();
    let names: Vec<String> = names.iter().filter_map(|it| shown(it.to_str()?)).collect();
    suggest::nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned)
}
