//! `[debian.NAME]` of Raptor.toml: distributions and repositories, and what a base is made of with them. Specified in
//! `spec/debian.md`.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Item, TableLike};

use super::Reader;
use crate::def::{DebianRequest, is_debian_component, is_debian_suite};
use crate::source::Span;
use crate::stmt::Spanned;

/// The component of a base that names none.
const COMPONENT: &str = "main";

/// One `[debian.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The name, as it stands in the file.
    pub span: Span,
    /// `suite`, if it is not NAME.
    pub suite: Option<Spanned<String>>,
    /// `mirror`: with it, this is a distribution of its own; without, it adds to the Debian suite NAME.
    pub mirror: Option<Spanned<String>>,
    /// `security-mirror` of a distribution of its own, if it is not the mirror.
    pub security_mirror: Option<Spanned<String>>,
    /// Further suites.
    pub suites: Vec<Spanned<String>>,
    /// Components; none for `main`.
    pub components: Vec<Spanned<String>>,
    /// File of the keys that sign it, instead of Debian's.
    pub keyring: Option<Spanned<String>>,
    /// `[[debian.NAME.repository]]`
    pub repositories: Vec<Repository>,
}

/// One `[[debian.NAME.repository]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// Name of its files in the image.
    pub name: Spanned<String>,
    /// URL of the directory.
    pub url: Spanned<String>,
    /// Suites, or directories with `/` at their end.
    pub suites: Vec<Spanned<String>>,
    /// Components of each suite; a directory has none.
    pub components: Vec<String>,
    /// File of its keys, instead of those of the distribution.
    pub key: Option<Spanned<String>>,
}

/// What a base is made of, as far as the files of a project say.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseRecipe {
    /// NAME, if the distribution is not Debian.
    pub distribution: Option<String>,
    /// File of keys that stand for Debian's.
    pub keyring: Option<Spanned<String>>,
    /// The suite itself, its further suites, the repositories.
    pub archives: Vec<Archive>,
}

/// One suite of one mirror.
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    /// Name of the repository; none for suites of the distribution.
    pub repository: Option<String>,
    /// Where it is.
    pub place: ArchivePlace,
    /// Suite, or a directory with `/` at its end.
    pub suite: String,
    /// At least one, but for directories.
    pub components: Vec<String>,
    /// File of its own keys.
    pub key: Option<Spanned<String>>,
    /// What to blame in Raptor.toml; nothing for what FROM says.
    pub span: Option<Span>,
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivePlace {
    /// On the Debian mirror of this machine.
    Mirror,
    /// On the mirror for security updates of this machine.
    SecurityMirror,
    /// There.
    Url(String),
}

impl BaseRecipe {
    /// The recipe of a base, with the table of Raptor.toml that has its name.
    pub fn new(request: &DebianRequest, table: Option<&Distribution>) -> BaseRecipe {
        let value = |it: &Option<Spanned<String>>| it.as_ref().map(|it| it.value.clone());
        let suite = table.and_then(|it| value(&it.suite)).unwrap_or_else(|| request.suite.clone());
        let mirror = table.and_then(|it| value(&it.mirror));
        let own = |url: &String| ArchivePlace::Url(url.clone());
        let main = mirror.as_ref().map_or(ArchivePlace::Mirror, own);
        let security = match table.and_then(|it| value(&it.security_mirror)).or(mirror.clone()) {
            Some(url) => ArchivePlace::Url(url),
            None => ArchivePlace::SecurityMirror,
        };
        let mut components: Vec<String> = request.components.iter().cloned().collect();
        if components.is_empty() {
            components = table.map_or(Vec::new(), |it| plain(&it.components));
        }
        if components.is_empty() {
            components.push(COMPONENT.to_owned());
        }
        let archive = |place: &ArchivePlace, suite: &str, span| Archive {
            repository: None,
            place: place.clone(),
            suite: suite.to_owned(),
            components: components.clone(),
            key: None,
            span,
        };
        let blamed = table.and_then(|it| it.mirror.as_ref()).map(|it| it.span);
        let mut archives = vec![archive(&main, &suite, blamed)];
        let named = table.into_iter().flat_map(|it| &it.suites).map(|it| (&it.value, Some(it.span)));
        for (short, span) in named.chain(request.suites.iter().map(|it| (it, None))) {
            let full = full_suite(&suite, short);
            if archives.iter().all(|it| it.suite != full) {
                let place = if full.ends_with("-security") { &security } else { &main };
                archives.push(archive(place, &full, span));
            }
        }
        for it in table.into_iter().flat_map(|it| &it.repositories) {
            archives.extend(it.suites.iter().map(|suite| Archive {
                repository: Some(it.name.value.clone()),
                place: ArchivePlace::Url(it.url.value.clone()),
                suite: suite.value.clone(),
                components: if is_flat(&suite.value) { Vec::new() } else { it.components.clone() },
                key: it.key.clone(),
                span: Some(suite.span),
            }));
        }
        BaseRecipe {
            distribution: mirror.map(|_| request.suite.clone()),
            keyring: table.and_then(|it| it.keyring.clone()),
            archives,
        }
    }

    /// The suite itself.
    pub fn suite(&self) -> &str {
        self.archives.first().map_or("", |it| &it.suite)
    }
}

/// `updates` of `trixie` is `trixie-updates`, and so is `trixie-updates`.
pub fn full_suite(suite: &str, short: &str) -> String {
    match short.strip_prefix(suite).is_some_and(|rest| rest.starts_with('-')) {
        true => short.to_owned(),
        false => format!("{suite}-{short}"),
    }
}

fn plain(list: &[Spanned<String>]) -> Vec<String> {
    list.iter().map(|it| it.value.clone()).collect()
}

impl Reader {
    pub(super) fn distributions(&mut self, tables: &dyn TableLike) -> BTreeMap<String, Distribution> {
        let mut found = BTreeMap::new();
        for (name, _) in tables.iter() {
            let span = self.span(tables.key(name).and_then(|it| it.span()));
            if !is_debian_suite(name) {
                let hint = "use lower-case letters, digits and `-`";
                self.bad(format!("`{name}` cannot be the name of a distribution"), span, "this name", hint);
            } else if let Some(table) = self.table(tables, name) {
                let distribution = self.distribution(name, span, table);
                found.insert(name.to_owned(), distribution);
            }
        }
        found
    }

    fn distribution(&mut self, name: &str, span: Span, table: &dyn TableLike) -> Distribution {
        let keys = ["mirror", "security-mirror", "suite", "suites", "components", "keyring", "repository"];
        self.known(table, &keys, "in a distribution");
        let suite = self.string(table, "suite").filter(|it| self.is_suite(it, false));
        let mirror = self.string(table, "mirror").filter(|it| self.is_url(it));
        let security_mirror = self.string(table, "security-mirror").filter(|it| self.is_url(it));
        for (key, value) in [("suite", &suite), ("security-mirror", &security_mirror)] {
            if let (Some(value), None) = (value, table.get("mirror")) {
                let hint = "add `mirror = \"URL\"`, or take this key out: Debian's own mirrors are settings of the \
                            machine, or keys of [raptor]";
                self.bad(format!("`{key}` needs a `mirror`"), value.span, "without a mirror", hint);
            }
        }
        let mut suites = self.strings(table, "suites", false);
        suites.retain(|it| self.is_suite(it, false));
        let mut components = self.strings(table, "components", false);
        components.retain(|it| self.is_component(it));
        let mut distribution = Distribution {
            span,
            suite,
            mirror,
            security_mirror,
            suites,
            components,
            keyring: self.string(table, "keyring"),
            repositories: Vec::new(),
        };
        let base = distribution.suite.as_ref().map_or(name, |it| &it.value);
        let mut taken: BTreeSet<String> = ["debian".to_owned(), name.to_owned(), base.to_owned()].into();
        taken.extend(distribution.suites.iter().map(|it| full_suite(base, &it.value)));
        match table.get("repository") {
            None => {}
            Some(Item::ArrayOfTables(tables)) => {
                for table in tables.iter() {
                    let span = self.span(table.span());
                    distribution.repositories.extend(self.repository(table, span, &mut taken));
                }
            }
            Some(item) => {
                self.wrong(table, "repository", item, "a list of tables: [[debian.NAME.repository]]")
            }
        }
        distribution
    }

    fn repository(
        &mut self,
        table: &dyn TableLike,
        span: Span,
        taken: &mut BTreeSet<String>,
    ) -> Option<Repository> {
        self.known(table, &["name", "url", "suites", "components", "key"], "in a repository");
        let Some(url) = self.string(table, "url") else {
            if table.get("url").is_none() {
                self.bad("this repository has no `url`".to_owned(), span, "this one", "add `url = \"URL\"`");
            }
            return None;
        };
        let mut suites = self.strings(table, "suites", false);
        suites.retain(|it| self.is_suite(it, true));
        if table.get("suites").is_none() {
            let hint = "add `suites = [\"NAME\"]`; `./` is a repository without suites";
            self.bad("this repository has no `suites`".to_owned(), span, "this one", hint);
        }
        let mut components = self.strings(table, "components", false);
        components.retain(|it| self.is_component(it));
        if suites.iter().any(|it| !is_flat(&it.value)) && table.get("components").is_none() {
            let hint = "add `components = [\"main\"]`, or what its directory `dists` has";
            self.bad("this repository has no `components`".to_owned(), span, "this one", hint);
        }
        let name = match self.string(table, "name") {
            Some(name) => name,
            None => Spanned { value: host(&url.value), span: url.span },
        };
        let fine = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
        if name.value.is_empty() || name.value.starts_with('.') || !name.value.bytes().all(fine) {
            let hint = "give it a `name` of letters, digits, `-`, `_` and `.`";
            self.bad(format!("`{}` cannot be the name of a repository", name.value), name.span, "this", hint);
            return None;
        }
        if !taken.insert(name.value.clone()) {
            let hint = "give each repository a `name` of its own";
            self.bad(format!("the name `{}` is taken", name.value), name.span, "this repository", hint);
            return None;
        }
        let key = self.string(table, "key");
        let components = plain(&components);
        (self.is_url(&url) && !suites.is_empty()).then_some(Repository { name, url, suites, components, key })
    }

    fn is_suite(&mut self, it: &Spanned<String>, flat: bool) -> bool {
        let fine = is_debian_suite(&it.value) || flat && is_suite_of_others(&it.value);
        if !fine {
            let message = format!("`{}` cannot be a suite", it.value);
            self.bad(
                message,
                it.span,
                "this suite",
                "for example `trixie`, or `updates` for `trixie-updates`",
            );
        }
        fine
    }

    fn is_component(&mut self, it: &Spanned<String>) -> bool {
        let fine = is_debian_component(&it.value);
        if !fine {
            self.bad(format!("`{}` cannot be a component", it.value), it.span, "this", "for example `main`");
        }
        fine
    }

    /// The lock and the image will hold the URL, so there must be no secret in it.
    fn is_url(&mut self, it: &Spanned<String>) -> bool {
        let rest = it.value.strip_prefix("http://").or_else(|| it.value.strip_prefix("https://"));
        let authority = rest.map(|it| it.split('/').next().unwrap_or_default());
        let plain = it.value.bytes().all(|it| it.is_ascii_graphic() && !b"$[]\"'<>\\#?".contains(&it));
        if authority.is_some_and(|it| it.contains('@')) {
            let hint = "Raptor.lock and the image would show it";
            self.bad("a URL here cannot have a password".to_owned(), it.span, "this URL", hint);
            return false;
        }
        let fine = plain && authority.is_some_and(|it| !it.is_empty());
        if !fine {
            let hint = "for example `http://mirror.example/debian`";
            self.bad("this is no http or https URL of a directory".to_owned(), it.span, "this", hint);
        }
        fine
    }
}

/// A directory with packages instead of `dists` and `pool`.
fn is_flat(suite: &str) -> bool {
    suite.ends_with('/')
}

/// Suites of repositories have capitals and dots, too; directories end in `/`.
fn is_suite_of_others(suite: &str) -> bool {
    let fine = |it: u8| it.is_ascii_alphanumeric() || b"-_.~".contains(&it);
    let parts = suite.strip_suffix('/').unwrap_or(suite);
    let flat = is_flat(suite);
    (flat && matches!(parts, "" | "."))
        || parts.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(fine))
}

/// `packages.example` of `https://packages.example:8080/debian`.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "debian_tests.rs"]
mod tests;
