//! `[raptor.link]`: where packages come from, with everything that can be wrong about it.

use toml_edit::TableLike;

use super::Reader;
use crate::def::{WrongUrl, check_url, is_package_name};
use crate::diag::{Code, Diagnostic, Fix};
use crate::source::Span;
use crate::stmt::Spanned;
use crate::suggest;

/// Where a package comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkSource {
    /// A directory, relative to the directory of Raptor.toml.
    Dir(String),
    /// A commit of a git repository.
    Git(GitSource),
    /// A tar file of the network.
    Archive(ArchiveSource),
}

/// `{ git = "URL", rev|tag|branch = "…", path = "…" }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// `https:`, `http:` or `file:` URL, or a path relative to the directory of Raptor.toml.
    pub url: String,
    /// Which commit.
    pub at: GitRef,
    /// The part of it that is the package.
    pub path: Option<String>,
}

/// What names a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GitRef {
    /// Its id, 40 hexadecimal digits.
    Rev(String),
    /// A tag.
    Tag(String),
    /// The tip of a branch.
    Branch(String),
}

/// `{ url = "URL", sha256 = "…", path = "…", strip = N }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSource {
    /// `https:` or `http:`
    pub url: String,
    /// Of the file; without it the lock pins it.
    pub sha256: Option<String>,
    /// The part of it that is the package.
    pub path: Option<String>,
    /// So many directories at the start of each name are taken off; without it the one that all names begin with, if
    /// there is one.
    pub strip: Option<u32>,
}

impl LinkSource {
    /// The directory of a package that is on disk already.
    pub fn dir(&self) -> Option<&str> {
        match self {
            LinkSource::Dir(dir) => Some(dir),
            LinkSource::Git(_) | LinkSource::Archive(_) => None,
        }
    }
}

/// Keys of tables that link a git repository.
const GIT_KEYS: &[&str] = &["git", "rev", "tag", "branch", "path"];
/// Keys of tables that link an archive.
const ARCHIVE_KEYS: &[&str] = &["url", "sha256", "path", "strip"];

impl Reader {
    /// The source of the package `name`; nothing, with errors, if it has none.
    pub(super) fn link(&mut self, links: &dyn TableLike, name: &str) -> Option<Spanned<LinkSource>> {
        let item = links.get(name)?;
        let Some(table) = item.as_table_like() else {
            if item.as_str().is_none() {
                self.wrong(links, name, item, "a directory as a string, or a table");
                return None;
            }
            let Spanned { value, span } = self.string(links, name)?;
            return Some(Spanned { value: LinkSource::Dir(value), span });
        };
        let key = self.span(links.key(name).and_then(|it| it.span()));
        let span = item.span().map_or(key, |range| self.span(Some(range)));
        if !is_package_name(name) {
            let message = format!("`{name}` cannot be the name of a package");
            self.bad(message, key, "this name", "use letters, digits, `_` and `-`, with a letter first");
            return None;
        }
        let before = self.problems.len();
        let source = match (table.get("git"), table.get("url")) {
            (Some(_), Some(_)) => {
                let hint = "leave one of them out";
                self.bad("a package comes from `git` or `url`, not both".into(), span, "two sources", hint);
                return None;
            }
            (Some(_), None) => LinkSource::Git(self.git(table, span)?),
            (None, Some(_)) => LinkSource::Archive(self.archive(table)?),
            (None, None) => {
                let hint = "write `{ git = \"URL\", branch = \"…\" }`, `{ url = \"URL\" }`, or the directory alone as a string";
                self.bad(
                    format!("the package `{name}` has no source"),
                    span,
                    "neither `git` nor `url`",
                    hint,
                );
                return None;
            }
        };
        (self.problems.len() == before).then_some(Spanned { value: source, span })
    }

    fn git(&mut self, table: &dyn TableLike, span: Span) -> Option<GitSource> {
        self.only(table, GIT_KEYS, "in a link to a git repository");
        let url = self.string(table, "git")?;
        if let Err((message, hint)) = check_git_url(&url.value) {
            self.bad(message, url.span, "this repository", hint);
        }
        let mut refs = Vec::new();
        for key in ["rev", "tag", "branch"] {
            refs.extend(self.string(table, key).map(|it| (key, it)));
        }
        let path = self.package_path(table);
        let (key, Spanned { value, span: place }) = match refs.as_slice() {
            [one] => one.clone(),
            [] => {
                if ["rev", "tag", "branch"].iter().all(|it| !table.contains_key(it)) {
                    let hint =
                        "add `branch = \"…\"`, `tag = \"…\"` or `rev = \"…\"`; Raptor.lock keeps the commit";
                    self.bad("which commit of the repository is not said".into(), span, "this package", hint);
                }
                return None;
            }
            [_, (_, second), ..] => {
                let message = "`rev`, `tag` and `branch` are alternatives".to_owned();
                self.bad(message, second.span, "the second one", "leave all but one out");
                return None;
            }
        };
        let at = match key {
            "rev" => {
                if value.len() != 40 || !is_lower_hex(&value) {
                    let message = format!("`{value}` is not the id of a commit");
                    let hint = "write all of its 40 digits, in lower case; a name is a `branch` or a `tag`";
                    self.bad(message, place, "this commit", hint);
                }
                GitRef::Rev(value)
            }
            _ => {
                if !is_ref_name(&value) {
                    let message = format!("`{}` cannot be the name of a {key}", value.escape_debug());
                    self.bad(message, place, "this name", "write it as `git branch` and `git tag` show it");
                }
                if key == "tag" { GitRef::Tag(value) } else { GitRef::Branch(value) }
            }
        };
        Some(GitSource { url: url.value, at, path })
    }

    fn archive(&mut self, table: &dyn TableLike) -> Option<ArchiveSource> {
        self.only(table, ARCHIVE_KEYS, "in a link to an archive");
        let url = self.string(table, "url")?;
        if let Err((message, hint)) = check_url(&url.value) {
            self.bad(message, url.span, "this URL", hint);
        }
        let strip = match table.get("strip") {
            None => None,
            Some(item) => match item.as_integer().and_then(|it| u32::try_from(it).ok()) {
                Some(n) => Some(n),
                None => {
                    self.wrong(table, "strip", item, "a whole number that is not negative");
                    None
                }
            },
        };
        Some(ArchiveSource {
            url: url.value,
            sha256: self.digest(table, "sha256"),
            path: self.package_path(table),
            strip,
        })
    }

    /// `path`: a directory below the root of what is fetched.
    fn package_path(&mut self, table: &dyn TableLike) -> Option<String> {
        let path = self.string(table, "path")?;
        if !is_package_path(&path.value) {
            let message =
                format!("`{}` is no path below the root of the package's source", path.value.escape_debug());
            self.bad(message, path.span, "this path", "write it without `..`, `.` and a slash in front");
        }
        Some(path.value)
    }

    /// A digest in 64 hexadecimal digits, which become lower case.
    pub(super) fn digest(&mut self, table: &dyn TableLike, key: &str) -> Option<String> {
        let digest = self.string(table, key)?;
        let value = digest.value.to_ascii_lowercase();
        if value.len() != 64 || !is_lower_hex(&value) {
            let message = format!("`{key}` must be 64 hexadecimal digits");
            let problem = Diagnostic::new(Code::ManifestValue, message, digest.span, "this digest");
            self.problems.push(problem);
            return None;
        }
        Some(value)
    }

    /// Errors for keys that are not among those that a table may have.
    pub(super) fn only(&mut self, table: &dyn TableLike, keys: &[&str], place: &str) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(key)) {
            let span = self.span(table.key(key).and_then(|it| it.span()));
            let message = format!("unknown key `{key}` {place}");
            let problem = Diagnostic::new(Code::ManifestValue, message, span, "this key");
            self.problems.push(match suggest::nearest(key, keys.iter().copied()) {
                Some(near) => problem
                    .with_hint(format!("did you mean `{near}`?"))
                    .with_fix(Fix::guess(span, near.to_owned())),
                None => problem.with_hint(format!("known keys: {}", keys.join(", "))),
            });
        }
    }

    pub(super) fn bad(&mut self, message: String, span: Span, label: &str, hint: &str) {
        self.problems.push(Diagnostic::new(Code::ManifestValue, message, span, label).with_hint(hint));
    }
}

/// Whether a path leads from the root of what is fetched to something in it.
pub fn is_package_path(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(is_name) && !path.contains(char::is_control)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What git allows in the name of a branch or tag, as far as it could lead elsewhere.
fn is_ref_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && name != "@"
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

fn check_git_url(url: &str) -> Result<(), WrongUrl> {
    let ssh = || {
        (
            "repositories are not fetched by ssh".to_owned(),
            "write its https:// URL, or a path of this machine",
        )
    };
    match url.split_once("://") {
        Some(("http" | "https", _)) => check_url(url).map(drop),
        Some(("file", path)) if path.starts_with('/') => Ok(()),
        Some(("file", _)) => Err((format!("`{url}` names no path"), "write `file:///` and the path")),
        Some(("ssh" | "git+ssh", _)) => Err(ssh()),
        Some((scheme, _)) => {
            let message = format!("repositories are not fetched by `{}`", scheme.escape_debug());
            Err((message, "use https://, http://, file:// or a path"))
        }
        None if url.is_empty() || url.contains(char::is_control) => {
            Err(("this is no repository".to_owned(), "write its URL or path"))
        }
        // As in `user@host:path`.
        None if url.split('/').next().is_some_and(|it| it.contains(':')) => Err(ssh()),
        None => Ok(()),
    }
}
