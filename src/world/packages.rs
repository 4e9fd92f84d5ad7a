//! Packages: the names under which files know them, and where they are.
//!
//! A package that is not in the project by a relative path is known below a name of its own, `$name`, as the standard
//! library is, so that no path of this machine gets into names of layers. A package that another one links is `$outer$name`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use raptor_lang::manifest::FetchSource;

use crate::tree::TreeHash;

/// All packages of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    /// What the project links: directories by name, as the world knows them. Known in all files.
    pub linked: BTreeMap<String, PathBuf>,
    /// What packages link, by the directory of the package; those of the packages that link them are among them.
    pub own: BTreeMap<PathBuf, BTreeMap<String, PathBuf>>,
    /// `[fetch]` of the project (the empty path) and of packages.
    pub files: BTreeMap<PathBuf, BTreeMap<String, FetchSource>>,
    /// Where the names are on disk that begin with `$`.
    pub places: BTreeMap<OsString, Place>,
}

/// Where a package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Dir(PathBuf),
    /// A tree in the store; nothing outside of it can be read through it.
    Tree(TreeHash, PathBuf),
}

/// Where a path leads.
pub(super) enum Lookup {
    /// Not into a package that has a name for a path.
    Elsewhere,
    /// There.
    Found(PathBuf),
    /// Out of a package that must not be left.
    Outside,
}

impl Packages {
    /// The directory of the package that files in `from` call `name`.
    pub(super) fn find(&self, name: &str, from: &Path) -> Option<&PathBuf> {
        self.linked.get(name).or_else(|| innermost(&self.own, from)?.get(name))
    }

    /// The file that files in `from` call `name`.
    pub(super) fn file(&self, name: &str, from: &Path) -> Option<&FetchSource> {
        let project = || self.files.get(Path::new(""))?.get(name);
        innermost(&self.files, from)?.get(name).or_else(project)
    }

    /// Trees of the store that packages are.
    pub fn trees(&self) -> impl Iterator<Item = TreeHash> + '_ {
        self.places.values().filter_map(|it| match it {
            Place::Tree(hash, _) => Some(*hash),
            Place::Dir(_) => None,
        })
    }

    /// Whether a path begins with the name that a package has for paths.
    pub fn names(&self, path: &Path) -> bool {
        self.place(path).is_some()
    }

    /// Whether a path is in a package that is a tree of the store, which nothing may change.
    pub fn is_stored(&self, path: &Path) -> bool {
        matches!(self.place(path), Some((Place::Tree(..), _)))
    }

    fn place<'a>(&self, path: &'a Path) -> Option<(&Place, &'a Path)> {
        let mut parts = path.components();
        match parts.next()? {
            Component::Normal(root) => Some((self.places.get(root)?, parts.as_path())),
            _ => None,
        }
    }

    /// Where a path is on disk.
    pub(super) fn lookup(&self, path: &Path) -> Lookup {
        let Some((place, below)) = self.place(path) else { return Lookup::Elsewhere };
        let (root, file) = match place {
            Place::Dir(dir) => return Lookup::Found(dir.join(below)),
            Place::Tree(_, root) => (root, root.join(below)),
        };
        if below.components().any(|it| it == Component::ParentDir) {
            return Lookup::Outside;
        }
        // Trees of the store never change, so what is found now stays so.
        match (std::fs::canonicalize(&file), std::fs::canonicalize(root)) {
            (Ok(real), Ok(root)) if real.starts_with(&root) => Lookup::Found(real),
            (Ok(_), Ok(_)) => Lookup::Outside,
            // It is not there, or a link leads to where nothing is.
            (Err(_), _) if std::fs::symlink_metadata(&file).is_ok_and(|it| it.is_symlink()) => {
                Lookup::Outside
            }
            _ => Lookup::Found(file),
        }
    }
}

/// The entry of the innermost directory that has `path`.
fn innermost<'a, T>(entries: &'a BTreeMap<PathBuf, T>, path: &Path) -> Option<&'a T> {
    path.ancestors().find_map(|it| entries.get(it))
}
