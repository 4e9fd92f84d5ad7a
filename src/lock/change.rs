//! What differs between two locks, for people and programs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{DebianPin, Input, Lock, NetworkEntry, Origin};

/// Hex digits that are enough to tell digests apart.
const SHORT: usize = 12;

/// One entry that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Section of the lock.
    pub section: &'static str,
    /// As `raptor update` names it.
    pub name: String,
    /// What happened to it.
    pub change: Kind,
    /// Packages whose versions are other ones, sorted by name.
    pub packages: Vec<Differs>,
    /// Digests that are other ones, by what they are of.
    pub digests: Vec<Differs>,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// It says something else.
    Changed,
}

/// A part with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Differs {
    /// Name of a package, or a URL.
    pub of: String,
    /// What it was, if it was there.
    pub old: Option<String>,
    /// What it is, if it is there.
    pub new: Option<String>,
}

/// All entries that differ, section by section.
pub fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let inputs: BTreeSet<Input> = old.inputs().into_iter().chain(new.inputs()).collect();
    let differ = |input: &Input| {
        let (before, after) = (parts(old, input), parts(new, input));
        let change = match (old.has(input), new.has(input)) {
            (false, _) => Kind::Added,
            (_, false) => Kind::Removed,
            _ if is_same(old, new, input) => return None,
            _ => Kind::Changed,
        };
        Some(Change {
            section: input.section(),
            name: input.to_string(),
            change,
            packages: differing(&before.packages, &after.packages),
            digests: differing(&before.digests, &after.digests),
        })
    };
    inputs.iter().filter_map(differ).collect()
}

fn is_same(old: &Lock, new: &Lock, input: &Input) -> bool {
    let only = |lock: &Lock| {
        let mut part = Lock::default();
        part.take(input, lock);
        part
    };
    only(old) == only(new)
}

/// What can be compared of an entry.
#[derive(Default)]
struct Parts {
    /// Versions by package.
    packages: BTreeMap<String, BTreeSet<String>>,
    digests: BTreeMap<String, BTreeSet<String>>,
}

impl Parts {
    fn package(&mut self, name: &str, version: &str) {
        self.packages.entry(name.to_owned()).or_default().insert(version.to_owned());
    }

    fn digest(&mut self, of: String, digest: &str) {
        self.digests.entry(of).or_default().insert(digest.to_owned());
    }
}

fn parts(lock: &Lock, input: &Input) -> Parts {
    let mut parts = Parts::default();
    match input {
        Input::Debian(key) => {
            for it in lock.debian.get(key).into_iter().flat_map(DebianPin::all) {
                parts.package(&it.name, &it.version);
            }
        }
        Input::Docker(key) => {
            if let Some(pin) = lock.docker.get(key) {
                parts.digest(input.to_string(), &pin.digest);
            }
        }
        Input::File(key) => {
            if let Some(pin) = lock.fetch.get(key) {
                parts.digest(key.clone(), &pin.sha256);
            }
        }
        Input::Link(key) => {
            if let Some(pin) = lock.link.get(key) {
                let (of, version) = match &pin.origin {
                    Origin::Git { url, rev, .. } => (url, rev),
                    Origin::Archive { url, sha256, .. } => (url, sha256),
                };
                parts.digest(of.clone(), version);
            }
        }
        Input::Layer(key) => {
            for it in lock.layers.get(key).into_iter().flatten() {
                match package(it) {
                    Some((name, version)) => parts.package(&name, &version),
                    None => parts.digest(request(it), &it.sha256),
                }
            }
        }
    }
    parts
}

/// A request in words.
fn request(entry: &NetworkEntry) -> String {
    match entry.method.as_str() {
        "GET" => entry.url.clone(),
        method => format!("{method} {}", entry.url),
    }
}

/// Name and version of the package that a request has brought: `…/NAME_VERSION_ARCH.deb`.
fn package(entry: &NetworkEntry) -> Option<(String, String)> {
    let path = entry.url.split('?').next().filter(|_| entry.method == "GET" && entry.status == 200)?;
    let file = path.rsplit('/').next()?.strip_suffix(".deb")?;
    let mut words = file.split('_');
    let (name, version, _architecture) = (words.next()?, words.next()?, words.next()?);
    let is_whole = words.next().is_none() && !name.is_empty() && !version.is_empty();
    is_whole.then(|| (name.to_owned(), version.replace("%3a", ":").replace("%3A", ":")))
}

fn differing(
    old: &BTreeMap<String, BTreeSet<String>>,
    new: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Differs> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let all = |of: Option<&BTreeSet<String>>| {
        of.map(|it| it.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    let pair = |name: &&String| (old.get(*name), new.get(*name));
    let others = names.into_iter().filter(|name| pair(name).0 != pair(name).1);
    others
        .map(|name| Differs { of: name.clone(), old: all(old.get(name)), new: all(new.get(name)) })
        .collect()
}

/// For people: one line, and one more for each part of something that was there before.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match (self.section, self.change) {
            ("layers", _) => format!("layer {}", self.name),
            _ => self.name.clone(),
        };
        match self.change {
            Kind::Changed => write!(f, "changed {what}")?,
            Kind::Removed => return write!(f, "removed {what}"),
            Kind::Added => return write!(f, "added {what}{}", summary(self)),
        }
        for it in &self.packages {
            line(f, it, str::to_owned)?;
        }
        for it in &self.digests {
            line(f, it, |digest| digest.trim_start_matches("sha256:").chars().take(SHORT).collect())?;
        }
        Ok(())
    }
}

fn line(f: &mut std::fmt::Formatter<'_>, it: &Differs, shown: impl Fn(&str) -> String) -> std::fmt::Result {
    let of = &it.of;
    match (&it.old, &it.new) {
        (Some(old), Some(new)) => write!(f, "\n  {of} {} → {}", shown(old), shown(new)),
        (None, Some(new)) => write!(f, "\n  + {of} {}", shown(new)),
        (Some(old), None) => write!(f, "\n  - {of} {}", shown(old)),
        (None, None) => Ok(()),
    }
}

/// How much came with something new.
fn summary(change: &Change) -> String {
    let count = |n: usize, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    match (change.packages.len(), change.digests.len()) {
        (0, 0) => String::new(),
        (0, n) => format!(" ({})", count(n, "file")),
        (n, 0) => format!(" ({})", count(n, "package")),
        (n, m) => format!(" ({}, {})", count(n, "package"), count(m, "file")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DebianPackage, DebianPin, FilePin};
    use super::*;

    const OLD: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    const NEW: &str = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9";

    fn base(packages: &[(&str, &str)]) -> DebianPin {
        let package = |(name, version): &(&str, &str)| DebianPackage {
            name: (*name).into(),
            version: (*version).into(),
            architecture: "amd64".into(),
            path: format!("pool/{name}_{version}_amd64.deb"),
            sha256: OLD.into(),
            size: 1,
            essential: false,
            from: None,
            wanted: false,
        };
        DebianPin {
            mirror: "http://mirror.example/debian".into(),
            date: 0,
            components: vec!["main".into()],
            keyring: None,
            repositories: Vec::new(),
            packages: packages.iter().map(package).collect(),
            included: Vec::new(),
        }
    }

    fn get(url: &str, sha256: &str) -> NetworkEntry {
        NetworkEntry {
            url: url.into(),
            method: "GET".into(),
            accept: None,
            body: None,
            status: 200,
            sha256: sha256.into(),
            size: 3,
            headers: Vec::new(),
        }
    }

    #[test]
    fn tells_versions_digests_and_what_came_and_went() {
        let url = "http://origin.example/tool";
        let old = Lock {
            debian: [("sid".into(), base(&[("a", "1"), ("b", "1"), ("c", "1")]))].into(),
            fetch: [(url.into(), FilePin { sha256: OLD.into(), size: 3 })].into(),
            layers: [
                (
                    "top".into(),
                    vec![
                        get("debian:/dists/sid/InRelease", OLD),
                        get("debian:/pool/j/jq_1%3a1.6_amd64.deb", OLD),
                        get("http://origin.example/x", OLD),
                    ],
                ),
                ("same".into(), vec![get(url, OLD)]),
                ("gone".into(), vec![get(url, OLD)]),
            ]
            .into(),
            ..Lock::default()
        };
        let mut new = old.clone();
        new.debian.insert("sid".into(), base(&[("a", "1"), ("b", "2"), ("d", "1")]));
        new.fetch.insert(url.into(), FilePin { sha256: NEW.into(), size: 3 });
        new.layers.remove("gone");
        new.layers.insert(
            "top".into(),
            vec![
                get("debian:/dists/sid/InRelease", NEW),
                get("debian:/pool/j/jq_1%3a1.7_amd64.deb", NEW),
                get("http://origin.example/y", OLD),
            ],
        );
        new.layers.insert("new".into(), vec![get("http://x/a_1_all.deb", OLD), get("http://x/b", OLD)]);
        let text: Vec<String> = changes(&old, &new).iter().map(Change::to_string).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        changed debian://sid
          b 1 → 2
          - c 1
          + d 1
        changed http://origin.example/tool
          http://origin.example/tool 2c26b46b68ff → fcde2b2edba5
        removed layer gone
        added layer new (1 package, 1 file)
        changed layer top
          jq 1:1.6 → 1:1.7
          debian:/dists/sid/InRelease 2c26b46b68ff → fcde2b2edba5
          - http://origin.example/x 2c26b46b68ff
          + http://origin.example/y 2c26b46b68ff
        ");
        assert_eq!(changes(&old, &old), []);
    }

    #[test]
    fn entries_move_between_locks() {
        let mut lock = Lock { debian: [("sid".into(), base(&[]))].into(), ..Lock::default() };
        let file = Input::File("http://origin.example/a".into());
        let from = Lock {
            fetch: [(file.key().to_owned(), FilePin { sha256: OLD.into(), size: 3 })].into(),
            ..Lock::default()
        };
        lock.take(&file, &from);
        assert_eq!(lock.inputs(), [Input::Debian("sid".into()), file.clone()]);
        lock.forget(&Input::Debian("sid".into()));
        assert_eq!(lock, from);
        assert!(lock.has(&file) && !lock.has(&Input::Layer("a".into())));
        assert!(Input::Debian("sid".into()).is_meant_by("debian://sid"));
        assert!(Input::Debian("sid".into()).is_meant_by("sid"));
        assert!(!Input::Layer("sid".into()).is_meant_by("debian://sid"));
    }
}
