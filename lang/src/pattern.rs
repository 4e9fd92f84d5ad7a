//! Patterns of file names: what COPY finds, and what `--exclude` leaves out. Specified in `spec/language.md`.
//!
//! Paths are matched name by name, so that no pattern takes more than polynomial time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern as NamePattern};

use crate::paths::join;
use crate::world::{FileKind, ReadError, World};

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without `]`, or stars in places where they mean nothing.
    #[error("{0}")]
    Syntax(String),
    /// Nothing to match.
    #[error("a pattern cannot be empty")]
    Empty,
}

/// Why looking for files failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The pattern makes no sense.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A directory cannot be listed.
    #[error("cannot list {}: {source}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// A file whose name cannot be written in a `.rapt` file would be copied.
    #[error("the name of {} is not UTF-8", .0.display())]
    NotText(PathBuf),
}

/// Whether a text has characters that mean something in a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Paths that a pattern, seen from `dir`, finds: sorted by bytes, none below another. `*`, `?` and `[…]` match in
/// one name, `**` any number of directories; a leading dot is matched by a dot only.
pub fn find(world: &dyn World, dir: &Path, pattern: &str) -> Result<Vec<PathBuf>, FindError> {
    let parts = parts(Path::new(pattern))?;
    let start = if pattern.starts_with('/') { Path::new("/") } else { dir };
    let mut todo = vec![(start.to_path_buf(), 0)];
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    while let Some((path, idx)) = todo.pop() {
        if !seen.insert((path.clone(), idx)) {
            continue;
        }
        match parts.get(idx) {
            None => drop(found.insert(path)),
            Some(Part::Up) => todo.push((join(&path, Path::new("..")), idx + 1)),
            Some(Part::Literal(name)) => {
                let path = join(&path, Path::new(name));
                if world.kind(&path).is_some() {
                    todo.push((path, idx + 1));
                }
            }
            Some(Part::Name(pattern)) => {
                for name in list(world, &path)? {
                    if pattern.matches_with(&name.to_string_lossy(), VISIBLE) {
                        let path = path.join(&name);
                        if name.to_str().is_none() {
                            return Err(FindError::NotText(path));
                        }
                        todo.push((path, idx + 1));
                    }
                }
            }
            Some(Part::AnyDepth) => {
                todo.push((path.clone(), idx + 1));
                for name in list(world, &path)? {
                    let path = path.join(&name);
                    let is_hidden = name.as_encoded_bytes().starts_with(b".");
                    // A link may lead back up.
                    if !is_hidden && !world.is_symlink(&path) && world.kind(&path) == Some(FileKind::Dir) {
                        todo.push((path, idx));
                    }
                }
            }
        }
    }
    // A directory is copied with its content, which must not come twice.
    let below_another = |path: &Path| path.ancestors().skip(1).any(|it| found.contains(it));
    let mut paths: Vec<PathBuf> = found.iter().filter(|path| !below_another(path)).cloned().collect();
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

/// What `--exclude` leaves out of the sources of a COPY.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excludes(Vec<Exclude>);

#[derive(Clone, Debug, PartialEq)]
struct Exclude {
    text: String,
    /// The pattern is for the whole path below the source, not for the last name.
    anchored: bool,
    dirs_only: bool,
    parts: Vec<Part>,
}

impl Excludes {
    /// Adds a pattern as in `.gitignore`, without negation: one without a slash matches a name at any depth, one
    /// with a slash is relative to the source; a trailing slash means directories only.
    pub fn add(&mut self, text: &str) -> Result<(), PatternError> {
        let path = text.trim_end_matches('/');
        let anchored = path.contains('/');
        let parts = parts(Path::new(path.trim_start_matches('/')))?;
        if parts.contains(&Part::Up) {
            return Err(PatternError::Syntax("`..` is outside of the source".to_owned()));
        }
        self.0.push(Exclude { text: text.to_owned(), anchored, dirs_only: text.ends_with('/'), parts });
        Ok(())
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns as written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|it| it.text.as_str())
    }

    /// Whether an entry is left out. `path` is relative to the source, and what it lies in is not left out.
    pub fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.0.iter().filter(|it| is_dir || !it.dirs_only).any(|it| match it.anchored {
            true => matches_whole(&it.parts, path),
            false => path.file_name().is_some_and(|name| matches_whole(&it.parts, Path::new(name))),
        })
    }
}

/// One name of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// `**`
    AnyDepth,
    /// `..`
    Up,
    /// A name as it is.
    Literal(String),
    /// A name with `*`, `?` or `[…]`.
    Name(NamePattern),
}

impl Part {
    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Part::AnyDepth => true,
            Part::Up => false,
            Part::Literal(literal) => name == literal.as_str(),
            Part::Name(pattern) => pattern.matches_with(&name.to_string_lossy(), ALL),
        }
    }
}

const ALL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};
const VISIBLE: MatchOptions = MatchOptions { require_literal_leading_dot: true, ..ALL };

fn parts(pattern: &Path) -> Result<Vec<Part>, PatternError> {
    let mut parts = Vec::new();
    for component in pattern.components() {
        let part = match component {
            Component::ParentDir => Part::Up,
            Component::Normal(name) if name == "**" => Part::AnyDepth,
            Component::Normal(name) => {
                let name = name.to_string_lossy();
                match is_pattern(&name) {
                    true => Part::Name(name_pattern(&name)?),
                    false => Part::Literal(name.into_owned()),
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => continue,
        };
        // Twice any depth is any depth.
        if part != Part::AnyDepth || parts.last() != Some(&Part::AnyDepth) {
            parts.push(part);
        }
    }
    // `a/**` is everything in `a`, but not `a`.
    if parts.last() == Some(&Part::AnyDepth) {
        parts.push(Part::Name(name_pattern("*")?));
    }
    if parts.is_empty() { Err(PatternError::Empty) } else { Ok(parts) }
}

fn name_pattern(name: &str) -> Result<NamePattern, PatternError> {
    NamePattern::new(name).map_err(|err| {
        PatternError::Syntax(match err.msg {
            // The library's words for stars that are no `**` between slashes.
            msg if msg.contains("wildcards") => "`**` stands for whole directories: `a/**/b`".to_owned(),
            _ => "a `[` is not closed".to_owned(),
        })
    })
}

fn list(world: &dyn World, path: &Path) -> Result<Vec<std::ffi::OsString>, FindError> {
    match world.kind(path) {
        Some(FileKind::Dir) => {
            world.list(path).map_err(|source| FindError::List { path: path.to_path_buf(), source })
        }
        _ => Ok(Vec::new()),
    }
}

/// Whether all names of `path` match all parts.
fn matches_whole(parts: &[Part], path: &Path) -> bool {
    // Which beginnings of the pattern the names so far match.
    let mut matched = vec![false; parts.len() + 1];
    if let Some(first) = matched.first_mut() {
        *first = true;
    }
    skip_any_depth(parts, &mut matched);
    for name in path.components() {
        let mut next = vec![false; matched.len()];
        for ((idx, part), _) in parts.iter().enumerate().zip(&matched).filter(|(_, reached)| **reached) {
            if part.matches(name.as_os_str()) {
                let to = if *part == Part::AnyDepth { idx } else { idx + 1 };
                next.iter_mut().skip(to).take(1).for_each(|it| *it = true);
            }
        }
        matched = next;
        skip_any_depth(parts, &mut matched);
    }
    matched.last().copied().unwrap_or(false)
}

/// `**` matches no directory, too.
fn skip_any_depth(parts: &[Part], matched: &mut [bool]) {
    for (idx, part) in parts.iter().enumerate() {
        if *part == Part::AnyDepth && matched.get(idx) == Some(&true) {
            matched.iter_mut().skip(idx + 1).take(1).for_each(|it| *it = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryWorld;

    fn found(files: &str, dir: &str, pattern: &str) -> String {
        let fixture: String = files.split(' ').map(|it| format!("--- {it}\n")).collect();
        match find(&MemoryWorld::new(&fixture), Path::new(dir), pattern) {
            Ok(paths) => paths.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" "),
            Err(err) => format!("error: {err}"),
        }
    }

    #[test]
    fn finds_files() {
        let files = "a.txt B.txt .hidden.txt d/x.txt d/e/x.txt d/.git/x.txt d/y.c d2/x.txt e/d/x.txt [z]/q";
        for (dir, pattern, expected) in [
            ("", "*.txt", "B.txt a.txt"),
            ("", ".*.txt", ".hidden.txt"),
            ("", "?.txt", "B.txt a.txt"),
            ("", "[a-z].txt", "a.txt"),
            ("", "[!a-z].txt", "B.txt"),
            ("", "*/x.txt", "d/x.txt d2/x.txt"),
            ("", "d*", "d d2"),
            ("", "**/x.txt", "d/e/x.txt d/x.txt d2/x.txt e/d/x.txt"),
            ("", "d/**", "d/e d/x.txt d/y.c"),
            ("", "**/d", "d e/d"),
            ("", "d/**/*.txt", "d/e/x.txt d/x.txt"),
            ("d", "*.c", "d/y.c"),
            ("d", "../d2/*", "d2/x.txt"),
            ("d", "*/../*.txt", "d/x.txt"),
            ("[z]", "*", "[z]/q"),
            ("", "*.none", ""),
            ("", "a.txt/*", ""),
            ("", "[a", "error: a `[` is not closed"),
            ("", "a**", "error: `**` stands for whole directories: `a/**/b`"),
        ] {
            assert_eq!(found(files, dir, pattern), expected, "{pattern} in {dir}");
        }
    }

    #[test]
    fn leaves_out() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let mut excludes = Excludes::default();
            excludes.add(pattern).unwrap();
            let is_dir = path.ends_with('/');
            assert_eq!(excludes.excludes(Path::new(path), is_dir), expected, "{pattern} and {path}");
        };
        for (pattern, path, expected) in [
            ("*.o", "x.o", true),
            ("*.o", "a/b/x.o", true),
            ("*.o", "a/.o", true),
            ("*.o", "x.o/", true),
            ("*.o", "x.c", false),
            ("build/", "a/build/", true),
            ("build/", "a/build", false),
            ("/build", "build", true),
            ("/build", "a/build", false),
            ("a/b", "a/b", true),
            ("a/b", "x/a/b", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**", "a/", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "b/c", false),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("**", "a", true),
        ] {
            check(pattern, path, expected);
        }
        for (pattern, error) in [
            ("", "a pattern cannot be empty"),
            ("/", "a pattern cannot be empty"),
            ("../x", "`..` is outside of the source"),
            ("[", "a `[` is not closed"),
        ] {
            assert_eq!(Excludes::default().add(pattern).unwrap_err().to_string(), error, "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let name = "a".repeat(255);
        let mut excludes = Excludes::default();
        excludes.add(&format!("{}b", "*a".repeat(120))).unwrap();
        excludes.add(&"**/a/".repeat(60)).unwrap();
        assert!(!excludes.excludes(Path::new(&name), false));
        assert!(!excludes.excludes(Path::new(&"a/".repeat(59)), true));
    }
}
