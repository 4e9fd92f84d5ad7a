//! Pinned Debian bases: what a lock says of them, and how it is written and read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::file::quoted;
use super::parse::{
    Fault, Fields, SHA256, is_architecture, is_component, is_mirror, is_package_name, is_package_version,
    is_safe_path, is_sha256, is_visible,
};

/// A pinned Debian base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPin {
    /// Mirror as the image's own apt sources name it; where bytes are fetched from is a setting.
    pub mirror: String,
    /// The latest `Date` of the Release files, in seconds since 1970: the epoch of everything built on it.
    pub date: i64,
    /// Components of the sources, usually `main`.
    pub components: Vec<String>,
    /// sha256 (hex) of the file of keys that stand for Debian's.
    pub keyring: Option<String>,
    /// Further suites and repositories.
    pub repositories: Vec<DebianRepository>,
    /// The packages, in the order in which they are unpacked.
    pub packages: Vec<DebianPackage>,
    /// What `include` added to them; each package after those that it needs, but for cycles.
    pub included: Vec<DebianPackage>,
}

/// One further suite of a pinned base, of its distribution or of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianRepository {
    /// Name of the repository; none for suites of the distribution.
    pub name: Option<String>,
    /// Mirror or repository, as the image's own apt sources name it.
    pub url: String,
    /// Suite, or a directory with `/` at its end.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
    /// `Date` of its Release file, in seconds since 1970.
    pub date: i64,
    /// sha256 (hex) of the file of its own keys.
    pub key: Option<String>,
}

/// One package of a pinned base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DebianPackage {
    /// Package name.
    pub name: String,
    /// Version, with epoch and revision.
    pub version: String,
    /// Architecture of the file, `amd64` or `all`.
    pub architecture: String,
    /// Path relative to the mirror.
    pub path: String,
    /// sha256 (hex) of the file.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// `Essential: yes`, or needed by such a package: unpacked before anything runs.
    pub essential: bool,
    /// Repository, or suite of the distribution, that it comes from; none for the base's own suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `include` names it, so apt must not take it for something that only others need.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
}

impl DebianRepository {
    /// How packages name it.
    pub fn id(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.suite)
    }
}

impl DebianPin {
    /// All packages.
    pub fn all(&self) -> impl Iterator<Item = &DebianPackage> {
        self.packages.iter().chain(&self.included)
    }
}

pub(super) fn render(out: &mut String, pin: &DebianPin) {
    let _ = writeln!(out, "mirror = {}\ndate = {}", quoted(&pin.mirror), pin.date);
    let _ = writeln!(out, "components = {}", strings(&pin.components));
    if let Some(sha256) = &pin.keyring {
        let _ = writeln!(out, "keyring = {}", quoted(sha256));
    }
    if !pin.repositories.is_empty() {
        out.push_str("repositories = [\n");
        pin.repositories.iter().for_each(|it| render_repository(out, it, pin));
        out.push_str("]\n");
    }
    out.push_str("packages = [\n");
    pin.packages.iter().for_each(|it| render_package(out, it));
    out.push_str("]\n");
    if !pin.included.is_empty() {
        out.push_str("included = [\n");
        pin.included.iter().for_each(|it| render_package(out, it));
        out.push_str("]\n");
    }
}

fn strings(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|it| quoted(it)).collect();
    format!("[{}]", quoted.join(", "))
}

fn render_repository(out: &mut String, it: &DebianRepository, pin: &DebianPin) {
    out.push_str("  { ");
    if let Some(name) = &it.name {
        let _ = write!(out, "name = {}, ", quoted(name));
    }
    if it.url != pin.mirror {
        let _ = write!(out, "url = {}, ", quoted(&it.url));
    }
    let _ = write!(out, "suite = {}", quoted(&it.suite));
    if it.components != pin.components {
        let _ = write!(out, ", components = {}", strings(&it.components));
    }
    let _ = write!(out, ", date = {}", it.date);
    if let Some(key) = &it.key {
        let _ = write!(out, ", key = {}", quoted(key));
    }
    out.push_str(" },\n");
}

fn render_package(out: &mut String, package: &DebianPackage) {
    let _ = write!(
        out,
        "  {{ name = {}, version = {}, arch = {}, path = {}, sha256 = {}, size = {}",
        quoted(&package.name),
        quoted(&package.version),
        quoted(&package.architecture),
        quoted(&package.path),
        quoted(&package.sha256),
        package.size
    );
    if let Some(from) = &package.from {
        let _ = write!(out, ", from = {}", quoted(from));
    }
    for (flag, name) in [(package.wanted, "wanted"), (package.essential, "essential")] {
        if flag {
            let _ = write!(out, ", {name} = true");
        }
    }
    out.push_str(" },\n");
}

pub(super) fn parse(table: &Fields) -> Result<DebianPin, Fault> {
    let known = ["mirror", "date", "components", "keyring", "repositories", "packages", "included"];
    let table = table.with_known(&known)?;
    let mut pin = DebianPin {
        mirror: table.checked("mirror", "an http or https URL", is_mirror)?,
        date: table.integer("date")?,
        components: table.strings("components", COMPONENT, is_component)?,
        keyring: table.optional("keyring", SHA256, is_sha256)?,
        repositories: Vec::new(),
        packages: Vec::new(),
        included: Vec::new(),
    };
    let mut urls: BTreeMap<String, String> = BTreeMap::new();
    if table.has("repositories") {
        for fields in table.inline_tables("repositories")? {
            let it = repository(&fields, &pin)?;
            if urls.insert(it.id().to_owned(), it.url.clone()).is_some_and(|url| url != it.url) {
                return Err(Fault::new(fields.span, format!("`{}` has two URLs", it.id())));
            }
            pin.repositories.push(it);
        }
    }
    let mut seen = BTreeSet::new();
    let mut list = |name| -> Result<Vec<DebianPackage>, Fault> {
        let mut packages = Vec::new();
        for fields in table.inline_tables(name)? {
            let it = package(&fields)?;
            if !seen.insert((it.name.clone(), it.architecture.clone())) {
                let message = format!("the package `{}:{}` is here twice", it.name, it.architecture);
                return Err(Fault::new(fields.span, message));
            }
            if let Some(from) = it.from.as_ref().filter(|it| !urls.contains_key(*it)) {
                return Err(Fault::new(fields.span_of("from"), format!("there is no repository `{from}`")));
            }
            packages.push(it);
        }
        Ok(packages)
    };
    pin.packages = list("packages")?;
    if table.has("included") {
        pin.included = list("included")?;
    }
    Ok(pin)
}

const COMPONENT: &str = "a component such as `main`";

fn repository(fields: &Fields, pin: &DebianPin) -> Result<DebianRepository, Fault> {
    let fields = fields.with_known(&["name", "url", "suite", "components", "date", "key"])?;
    let components = match fields.has("components") {
        true => fields.strings("components", COMPONENT, is_component)?,
        false => pin.components.clone(),
    };
    Ok(DebianRepository {
        name: fields.optional("name", "the name of a repository", is_file_name)?,
        url: fields.optional("url", "an http or https URL", is_mirror)?.unwrap_or_else(|| pin.mirror.clone()),
        suite: fields.checked("suite", "a suite", is_suite)?,
        components,
        date: fields.integer("date")?,
        key: fields.optional("key", SHA256, is_sha256)?,
    })
}

fn package(fields: &Fields) -> Result<DebianPackage, Fault> {
    let fields = fields.with_known(&[
        "name",
        "version",
        "arch",
        "path",
        "sha256",
        "size",
        "from",
        "wanted",
        "essential",
    ])?;
    Ok(DebianPackage {
        name: fields.checked("name", "a package name", is_package_name)?,
        version: fields.checked("version", "a package version", is_package_version)?,
        architecture: fields.checked("arch", "an architecture", is_architecture)?,
        path: fields.checked("path", "a relative path without `..`", is_safe_path)?,
        sha256: fields.checked("sha256", SHA256, is_sha256)?,
        size: fields.size("size")?,
        essential: fields.flag("essential")?,
        from: fields.optional("from", "the name of a repository", is_file_name)?,
        wanted: fields.flag("wanted")?,
    })
}

/// It becomes the name of files of the image, and a part of recorded URLs.
fn is_file_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(fine)
}

/// The image's apt sources have it as one word.
fn is_suite(text: &str) -> bool {
    is_visible(text) && (matches!(text, "/" | "./") || is_safe_path(text.strip_suffix('/').unwrap_or(text)))
}
