//! apt's sources in images, and its settings for RUN steps: nothing that differs between two runs, or is of no use later, stays in a layer.

use std::fmt::Write as _;

use crate::derivation::{Bootstrap, KeyFile};

/// Keys of Debian, which the package debian-archive-keyring brings.
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One paragraph of a sources file.
struct Entry<'a> {
    file: &'a str,
    url: &'a str,
    suites: Vec<&'a str>,
    components: &'a [String],
    signed_by: String,
}

/// The apt sources of a root: paths and contents.
pub fn sources<R>(it: &Bootstrap<R>) -> Vec<(String, String)> {
    let path = |key: &KeyFile<R>| format!("/etc/apt/keyrings/{}", key.name);
    let base_keys = it.keyring.as_ref().map_or_else(|| DEBIAN_KEYS.to_owned(), path);
    let base = it.distribution.as_deref().unwrap_or("debian");
    let mut entries = vec![Entry {
        file: base,
        url: &it.mirror,
        suites: vec![&it.suite],
        components: &it.components,
        signed_by: base_keys.clone(),
    }];
    for repository in &it.repositories {
        let entry = Entry {
            file: repository.name.as_deref().unwrap_or(base),
            url: &repository.url,
            suites: vec![&repository.suite],
            components: &repository.components,
            signed_by: repository.key.as_ref().map_or_else(|| base_keys.clone(), path),
        };
        let same =
            |it: &&mut Entry| (it.file, it.url, it.components) == (entry.file, entry.url, entry.components);
        match entries.iter_mut().find(same) {
            Some(known) => known.suites.extend(entry.suites),
            None => entries.push(entry),
        }
    }
    let mut files: Vec<(String, String)> = Vec::new();
    for entry in entries {
        let path = format!("/etc/apt/sources.list.d/{}.sources", entry.file);
        let text = paragraph(&entry);
        match files.iter_mut().find(|(known, _)| *known == path) {
            Some((_, known)) => *known += &format!("\n{text}"),
            None => files.push((path, text)),
        }
    }
    files
}

fn paragraph(entry: &Entry) -> String {
    let mut text = format!("Types: deb\nURIs: {}\nSuites: {}\n", entry.url, entry.suites.join(" "));
    // Directories have none.
    if !entry.components.is_empty() {
        let _ = writeln!(text, "Components: {}", entry.components.join(" "));
    }
    let _ = writeln!(text, "Signed-By: {}", entry.signed_by);
    text
}

/// Where RUN steps find the text of [`apt_conf`]; `APT_CONFIG` must name it. Below `/run`, so that no image
/// keeps it.
pub const APT_CONF: &str = "/run/raptor/apt.conf";

/// The settings. Package lists stay in the image, because files of users run `apt-get update` in one layer and
/// `apt-get install` in a later one.
pub fn apt_conf() -> &'static str {
    r#"// Downloads are used once. apt makes missing directories only in its cache directory, which must exist;
// the one of this file does.
Dir::Cache "/run/raptor";
Dir::Cache::archives "apt/archives";
// Caches of lists are faster to make than to keep, and their bytes differ from run to run.
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
// Logs hold times.
Dir::Log::Terminal "/dev/null";
Dir::Log::History "/dev/null";
Dir::Log::Planner "/dev/null";
DPkg::Options { "--log=/dev/null"; "--force-unsafe-io"; };
DPkg::Use-Pty "false";
// Lists as they come from the mirror: compressed, in one language, whole.
Acquire::GzipIndexes "true";
Acquire::IndexTargets::deb::Packages::KeepCompressedAs "xz gz zst lz4";
Acquire::IndexTargets::deb-src::Sources::KeepCompressedAs "xz gz zst lz4";
Acquire::Languages "none";
Acquire::PDiffs "false";
// A recorded answer is as good as on its first day.
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
// Of the recording proxy.
Acquire::https::CAInfo "/run/raptor/ca.crt";
"#
}
