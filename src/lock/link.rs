//! `[link.NAME]`: packages that came from the network.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use raptor_lang::manifest::{GitRef, LinkSource, is_package_path};

use super::file::{key, quoted};
use super::parse::{Fault, Fields, SHA256, is_sha256};

/// A pinned package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPin {
    /// What was fetched.
    pub origin: Origin,
    /// The part of it that is the package.
    pub path: Option<String>,
    /// Hash of the package's tree in the store (hex).
    pub tree: String,
}

/// What a package was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A commit of a git repository.
    Git {
        /// The repository, as Raptor.toml has it.
        url: String,
        /// What named the commit there.
        at: GitRef,
        /// The commit's id.
        rev: String,
    },
    /// A tar file.
    Archive {
        /// Its URL.
        url: String,
        /// Directories that were taken off its names, if Raptor.toml says how many.
        strip: Option<u32>,
        /// sha256 (hex) of the file.
        sha256: String,
        /// Size of the file in bytes.
        size: u64,
    },
}

impl LinkPin {
    /// Whether this is what Raptor.toml links.
    pub fn is_of(&self, source: &LinkSource) -> bool {
        match (&self.origin, source) {
            (Origin::Git { url, at, .. }, LinkSource::Git(git)) => {
                *url == git.url && *at == git.at && self.path == git.path
            }
            (Origin::Archive { url, strip, sha256, .. }, LinkSource::Archive(archive)) => {
                *url == archive.url
                    && *strip == archive.strip
                    && archive.sha256.as_ref().is_none_or(|it| it == sha256)
                    && self.path == archive.path
            }
            _ => false,
        }
    }
}

/// Writes all pins, each as a table.
pub(super) fn render(out: &mut String, pins: &BTreeMap<String, LinkPin>) {
    for (name, pin) in pins {
        let _ = writeln!(out, "\n[link.{}]", key(name));
        let mut field = |name: &str, value: &str| {
            let _ = writeln!(out, "{name} = {}", quoted(value));
        };
        match &pin.origin {
            Origin::Git { url, at, rev } => {
                field("git", url);
                match at {
                    GitRef::Rev(_) => {}
                    GitRef::Tag(tag) => field("tag", tag),
                    GitRef::Branch(branch) => field("branch", branch),
                }
                pin.path.iter().for_each(|path| field("path", path));
                field("rev", rev);
            }
            Origin::Archive { url, strip, sha256, size } => {
                field("url", url);
                pin.path.iter().for_each(|path| field("path", path));
                field("sha256", sha256);
                let _ = writeln!(out, "size = {size}");
                if let Some(strip) = strip {
                    let _ = writeln!(out, "strip = {strip}");
                }
            }
        }
        let _ = writeln!(out, "tree = {}", quoted(&pin.tree));
    }
}

/// Reads one table.
pub(super) fn pin(table: &Fields) -> Result<LinkPin, Fault> {
    let is_git = table.has("git");
    let table = table.with_known(match is_git {
        true => &["git", "tag", "branch", "path", "rev", "tree"],
        false => &["url", "path", "sha256", "size", "strip", "tree"],
    })?;
    let text = |name, what, check: fn(&str) -> bool| {
        table.has(name).then(|| table.checked(name, what, check)).transpose()
    };
    let origin = match is_git {
        true => {
            let rev = table.checked("rev", "the id of a commit in 40 lower-case hex digits", is_commit)?;
            let tag = text("tag", "the name of a tag", is_line)?;
            let at = match (tag, text("branch", "the name of a branch", is_line)?) {
                (None, None) => GitRef::Rev(rev.clone()),
                (Some(tag), None) => GitRef::Tag(tag),
                (None, Some(branch)) => GitRef::Branch(branch),
                (Some(_), Some(_)) => {
                    return Err(Fault::new(table.span_of("tag"), "`tag` and `branch` contradict each other"));
                }
            };
            Origin::Git { url: table.checked("git", "a repository", is_line)?, at, rev }
        }
        false => Origin::Archive {
            url: table.checked("url", "an http or https URL", is_url)?,
            strip: match table.has("strip") {
                true => Some(
                    u32::try_from(table.size("strip")?)
                        .map_err(|_| Fault::new(table.span_of("strip"), "`strip` is too large"))?,
                ),
                false => None,
            },
            sha256: table.checked("sha256", SHA256, is_sha256)?,
            size: table.size("size")?,
        },
    };
    Ok(LinkPin {
        origin,
        path: text("path", "a relative path without `..`", is_package_path)?,
        tree: table.checked("tree", "the hash of a tree in 64 lower-case hex digits", is_sha256)?,
    })
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn is_url(text: &str) -> bool {
    raptor_lang::def::check_url(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use raptor_lang::manifest::{ArchiveSource, GitSource};

    use super::super::Lock;
    use super::*;

    const REV: &str = "2c26b46b68ffc68ff99b453c1d30413413422d70";
    const TREE: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    #[test]
    fn refuses() {
        for (fields, expected) in [
            ("git = \"g\"", "2:1: `rev` is missing"),
            ("git = \"g\"\nrev = \"REV\"", "2:1: `tree` is missing"),
            (
                "git = \"g\"\nrev = \"abc\"\ntree = \"TREE\"",
                "4:7: `rev` is not the id of a commit in 40 lower-case hex digits",
            ),
            (
                "git = \"g\"\nrev = \"REV\"\nbranch = \"a\"\ntag = \"b\"\ntree = \"TREE\"",
                "6:7: `tag` and `branch` contradict each other",
            ),
            (
                "git = \"g\"\nrev = \"REV\"\npath = \"../x\"\ntree = \"TREE\"",
                "5:8: `path` is not a relative path without `..`",
            ),
            ("git = \"g\"\nrev = \"REV\"\ntree = \"TREE\"\nsize = 1", "6:1: unknown field `size`"),
            ("git = \"g\\nh\"\nrev = \"REV\"\ntree = \"TREE\"", "3:7: `git` is not a repository"),
            (
                "url = \"file:///x\"\nsha256 = \"TREE\"\nsize = 1\ntree = \"TREE\"",
                "3:7: `url` is not an http or https URL",
            ),
            (
                "url = \"https://a:b@h/\"\nsha256 = \"TREE\"\nsize = 1\ntree = \"TREE\"",
                "3:7: `url` is not an http or https URL",
            ),
            ("tree = \"TREE\"", "2:1: `url` is missing"),
        ] {
            let fields = fields.replace("REV", REV).replace("TREE", TREE);
            let text = format!("version = 1\n[link.a]\n{fields}\n");
            let found = Lock::parse(Path::new("L"), &text).unwrap_err().to_string();
            assert_eq!(found, format!("L:{expected}"), "{text}");
        }
    }

    #[test]
    fn another_source_is_another_package() {
        let git = GitSource { url: "g".into(), at: GitRef::Branch("b".into()), path: None };
        let origin = Origin::Git { url: "g".into(), at: GitRef::Branch("b".into()), rev: REV.into() };
        let pin = LinkPin { origin, path: None, tree: TREE.into() };
        assert!(pin.is_of(&LinkSource::Git(git.clone())));
        for other in [
            GitSource { url: "h".into(), ..git.clone() },
            GitSource { at: GitRef::Tag("b".into()), ..git.clone() },
            GitSource { path: Some("p".into()), ..git.clone() },
        ] {
            assert!(!pin.is_of(&LinkSource::Git(other)));
        }
        let archive = ArchiveSource { url: "u".into(), sha256: None, path: None, strip: Some(1) };
        let origin = Origin::Archive { url: "u".into(), strip: Some(1), sha256: TREE.into(), size: 1 };
        let pin = LinkPin { origin, path: None, tree: TREE.into() };
        assert!(pin.is_of(&LinkSource::Archive(archive.clone())));
        assert!(
            pin.is_of(&LinkSource::Archive(ArchiveSource { sha256: Some(TREE.into()), ..archive.clone() }))
        );
        assert!(
            !pin.is_of(&LinkSource::Archive(ArchiveSource { sha256: Some("0".into()), ..archive.clone() }))
        );
        assert!(!pin.is_of(&LinkSource::Archive(ArchiveSource { strip: None, ..archive })));
        assert!(!pin.is_of(&LinkSource::Git(git)));
    }

    fn any_pin() -> impl Strategy<Value = LinkPin> {
        let text = "[ -~é]{1,12}";
        let at = prop_oneof![
            Just(GitRef::Rev(REV.into())),
            text.prop_map(GitRef::Tag),
            text.prop_map(GitRef::Branch),
        ];
        let git = (text, at).prop_map(|(url, at)| Origin::Git { url, at, rev: REV.into() });
        let strip = prop::option::of(any::<u32>());
        let archive = ("https?://[a-z]{1,5}/[a-z]{0,5}", strip, 0u64..1 << 40)
            .prop_map(|(url, strip, size)| Origin::Archive { url, strip, sha256: TREE.into(), size });
        let path = prop::option::of("[a-z é\"]{1,5}(/[a-z]{1,5}){0,2}");
        (prop_oneof![git, archive], path).prop_map(|(origin, path)| LinkPin {
            origin,
            path,
            tree: TREE.into(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(link in prop::collection::btree_map("\\PC{0,12}", any_pin(), 0..4)) {
            let lock = Lock { link, ..Lock::default() };
            prop_assert_eq!(Lock::parse(Path::new("L"), &lock.render()).unwrap(), lock);
        }
    }
}
