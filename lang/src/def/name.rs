//! Module names, `[$[pkg].]seg(.seg)*[@instance]`: one parser for source, command line and Raptor.toml.
//!
//! A segment is made of barewords and hyphens, see language.md §4: `debian-12` and `a.1` are not names,
//! a trailing dot is tolerated, and everything after the first `@` is the instance.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the segments start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `a.b`: the directory of the current file.
    Relative,
    /// `$.a.b`: the base directory.
    Base,
    /// `$pkg.a.b`: a linked package.
    Package(String),
}

/// A parsed module name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName {
    /// Where the segments start.
    pub root: Root,
    /// At least one; the last is the file stem.
    pub segments: Vec<String>,
    /// `@instance`.
    pub instance: Option<String>,
}

/// What kind of file a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// A module with a layer of its own: FROM, command line, Raptor.toml.
    Rapt,
    /// A module for INCLUDE.
    Rinc,
}

impl Extension {
    /// Without the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Extension::Rapt => "rapt",
            Extension::Rinc => "rinc",
        }
    }
}

/// What is wrong with a module name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing where a name should be.
    #[error("the module name is empty")]
    Empty,
    /// `a..b`, `.a`
    #[error("module name `{name}` has an empty segment")]
    EmptySegment {
        /// The whole name.
        name: String,
    },
    /// `$`, `$.`, `$pkg`
    #[error("module name `{name}` has no segment after its root")]
    NoSegment {
        /// The whole name.
        name: String,
    },
    /// A segment, or the part of it after a hyphen, starts with a digit, an operator or is `true`/`false`.
    #[error("`{piece}` cannot start a piece of the module name `{name}`")]
    BadPiece {
        /// The piece, between dots and hyphens.
        piece: String,
        /// The whole name.
        name: String,
    },
    /// A character that no name has.
    #[error("module name `{name}` contains {found:?}")]
    BadCharacter {
        /// The character.
        found: char,
        /// The whole name.
        name: String,
    },
    /// `a@`
    #[error("module name `{name}` has an empty instance")]
    EmptyInstance {
        /// The whole name.
        name: String,
    },
}

impl NameError {
    /// What to do about it, if there is a likely intention.
    pub fn hint(&self) -> Option<String> {
        match self {
            NameError::Empty => None,
            NameError::EmptySegment { .. } => Some("segments are separated by single dots, `a.b`".into()),
            NameError::NoSegment { .. } => Some("write `$.name` or `$package.name`".into()),
            NameError::BadPiece { .. } => {
                Some("every piece between dots and hyphens starts with a letter or `_`".into())
            }
            NameError::BadCharacter { found: '/', name } if !name.contains(':') => {
                Some("directories are separated by dots, `a.b` is the file `a/b.rapt`".into())
            }
            NameError::BadCharacter { found: ':', name } if !name.contains("//") => {
                let reference = name.strip_prefix("docker:").unwrap_or(name);
                Some(format!("for an image of a registry write `docker://{reference}`"))
            }
            NameError::BadCharacter { .. } => {
                Some("a name is made of letters, digits, `_`, `-` and dots".into())
            }
            NameError::EmptyInstance { .. } => {
                Some("write the instance after the `@`, or leave the `@` out".into())
            }
        }
    }
}

/// A name refers to a package that is not linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("package `${0}` is not linked")]
pub struct UnknownPackage(pub String);

impl ModuleName {
    /// The file that the name stands for. `current_dir` is the directory of the file that contains the
    /// name; the result is relative to the base when `current_dir` and `package_dir` are.
    pub fn file(
        &self,
        current_dir: &Path,
        package_dir: impl FnOnce(&str) -> Option<PathBuf>,
        ext: Extension,
    ) -> Result<PathBuf, UnknownPackage> {
        let mut path = match &self.root {
            Root::Relative => current_dir.to_path_buf(),
            Root::Base => PathBuf::new(),
            Root::Package(name) => package_dir(name).ok_or_else(|| UnknownPackage(name.clone()))?,
        };
        let mut segments = self.segments.iter().peekable();
        while let Some(segment) = segments.next() {
            if segments.peek().is_some() {
                path.push(segment);
            } else {
                let at = if self.instance.is_some() { "@" } else { "" };
                path.push(format!("{segment}{at}.{}", ext.as_str()));
            }
        }
        Ok(path)
    }
}

impl FromStr for ModuleName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ModuleName, NameError> {
        let name = || text.to_string();
        let (path, instance) = match text.split_once('@') {
            Some((_, "")) => return Err(NameError::EmptyInstance { name: name() }),
            Some((path, instance)) => (path, Some(instance.to_string())),
            None => (text, None),
        };
        if path.is_empty() {
            return Err(NameError::Empty);
        }
        let (root, path) = match path.strip_prefix('$') {
            None => (Root::Relative, path),
            Some(rest) => {
                let Some((package, path)) = rest.split_once('.').filter(|(_, path)| !path.is_empty()) else {
                    return Err(NameError::NoSegment { name: name() });
                };
                if package.is_empty() {
                    (Root::Base, path)
                } else {
                    check_segment(package, text)?;
                    (Root::Package(package.to_string()), path)
                }
            }
        };
        let segments: Vec<_> = path.strip_suffix('.').unwrap_or(path).split('.').map(String::from).collect();
        for segment in &segments {
            check_segment(segment, text)?;
        }
        Ok(ModuleName { root, segments, instance })
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Relative => {}
            Root::Base => f.write_str("$.")?,
            Root::Package(name) => write!(f, "${name}.")?,
        }
        f.write_str(&self.segments.join("."))?;
        match &self.instance {
            Some(instance) => write!(f, "@{instance}"),
            None => Ok(()),
        }
    }
}

/// Whether `name` can stand behind the `$` of a module name.
pub fn is_package_name(name: &str) -> bool {
    is_segment(name) && !name.contains('$')
}

/// Whether a text is one segment of a module name.
pub fn is_segment(text: &str) -> bool {
    check_segment(text, text).is_ok() && !text.contains('.')
}

/// A segment is a run of barewords and hyphens; the words `true` and `false` are no barewords.
fn check_segment(segment: &str, name: &str) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::EmptySegment { name: name.to_string() });
    }
    if let Some(found) = segment.chars().find(|&c| is_special(c)) {
        return Err(NameError::BadCharacter { found, name: name.to_string() });
    }
    for piece in segment.split('-').filter(|piece| !piece.is_empty()) {
        let starts_well = piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || piece == "true" || piece == "false" {
            return Err(NameError::BadPiece { piece: piece.to_string(), name: name.to_string() });
        }
    }
    Ok(())
}

/// Characters that end a bareword, apart from the hyphen and the dot, which names give a meaning.
fn is_special(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '"' | ',' | '/' | ':' | '=' | '@' | '[' | ']' | '{' | '}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModuleName, NameError> {
        text.parse()
    }

    #[test]
    fn names_round_trip() {
        for text in [
            "a",
            "a.b",
            "a.b.c",
            "$.a",
            "$.a.b",
            "$p.a",
            "$ab-cd.x-y",
            "-a",
            "a@i",
            "a@1.2/x",
            "$p.a.b@x y",
            "a#b",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn first_at_starts_the_instance() {
        let name = parse("getty@tty1@x.y").unwrap();
        assert_eq!((name.segments, name.instance), (vec!["getty".to_string()], Some("tty1@x.y".to_string())));
    }

    #[test]
    fn a_trailing_dot_is_tolerated() {
        assert_eq!(parse("a.b.").unwrap().to_string(), "a.b");
        assert_eq!(parse("a.@i").unwrap().to_string(), "a@i");
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        let cases = [
            ("", "the module name is empty"),
            ("@i", "the module name is empty"),
            ("a@", "module name `a@` has an empty instance"),
            ("a..b", "module name `a..b` has an empty segment"),
            (".a", "module name `.a` has an empty segment"),
            ("a..", "module name `a..` has an empty segment"),
            ("$", "module name `$` has no segment after its root"),
            ("$.", "module name `$.` has no segment after its root"),
            ("$foo", "module name `$foo` has no segment after its root"),
            ("$.@i", "module name `$.@i` has no segment after its root"),
            ("debian-12", "`12` cannot start a piece of the module name `debian-12`"),
            ("a.1", "`1` cannot start a piece of the module name `a.1`"),
            ("true", "`true` cannot start a piece of the module name `true`"),
            ("a-false", "`false` cannot start a piece of the module name `a-false`"),
            ("é", "`é` cannot start a piece of the module name `é`"),
            ("a/b", "module name `a/b` contains '/'"),
            ("a b", "module name `a b` contains ' '"),
            ("debian:12", "module name `debian:12` contains ':'"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text:?}");
        }
        assert_eq!(
            parse("debian:12").unwrap_err().hint().unwrap(),
            "for an image of a registry write `docker://debian:12`"
        );
    }

    #[test]
    fn names_stand_for_files() {
        let file = |text: &str, ext| {
            let package = |name: &str| (name == "p").then(|| PathBuf::from("pkgs/p"));
            parse(text).unwrap().file(Path::new("sub"), package, ext).map(|path| path.display().to_string())
        };
        assert_eq!(file("a.b", Extension::Rapt).unwrap(), "sub/a/b.rapt");
        assert_eq!(file("a.b", Extension::Rinc).unwrap(), "sub/a/b.rinc");
        assert_eq!(file("$.a.b", Extension::Rapt).unwrap(), "a/b.rapt");
        assert_eq!(file("$p.a", Extension::Rapt).unwrap(), "pkgs/p/a.rapt");
        assert_eq!(file("x@i", Extension::Rapt).unwrap(), "sub/x@.rapt");
        assert_eq!(file("$q.a", Extension::Rapt).unwrap_err(), UnknownPackage("q".into()));
    }
}
