//! Where the files of a base come from: mirrors of this machine before those that the image names.

use std::collections::BTreeMap;

use crate::derivation::{Bootstrap, Derivation, DrvId, Layer, Repository};
use crate::fetch::debian::{Mirror, MirrorKind};
use crate::fetch::proxy::MirrorAlias;
use crate::lock::NetworkEntry;

/// Finds a mirror of Debian for this machine.
type Find<'a> = dyn Fn(MirrorKind) -> Option<Mirror> + 'a;

/// The Debian root below a layer.
pub fn base(derivations: &BTreeMap<DrvId, Derivation>, mut id: DrvId) -> Option<&Bootstrap<DrvId>> {
    loop {
        match derivations.get(&id)? {
            Derivation::Layer(layer) => id = layer.parent?,
            Derivation::Bootstrap(bootstrap) => return Some(bootstrap),
            _ => return None,
        }
    }
}

/// Mirrors that a package may come from, tried in order; `from` is as the package has it. `archive` is Debian's, as it
/// was.
pub fn mirrors<R>(it: &Bootstrap<R>, from: Option<&str>, find: &Find, archive: &[Mirror]) -> Vec<Mirror> {
    let repository = from.and_then(|from| it.repositories.iter().find(|it| it.id() == from));
    let named = Mirror::new(repository.map_or(&it.mirror, |it| &it.url));
    let mut mirrors: Vec<Mirror> = kind(it, repository).and_then(find).into_iter().collect();
    mirrors.extend(named.filter(|it| !mirrors.contains(it)));
    mirrors.extend(archive.iter().filter(|_| kind(it, repository) == Some(MirrorKind::Main)).cloned());
    mirrors
}

/// Names for all mirrors and repositories that the image of a base knows.
pub fn aliases<R>(it: &Bootstrap<R>, find: &Find, archive: &[Mirror]) -> Vec<MirrorAlias> {
    let alias = |name: &str, seen: &str, repository: Option<&Repository<R>>| MirrorAlias {
        name: name.to_owned(),
        seen: seen.to_owned(),
        fetch_from: kind(it, repository).and_then(find).map_or_else(|| seen.to_owned(), |it| it.url),
        snapshots: match kind(it, repository) {
            Some(MirrorKind::Main) => archive.iter().map(|it| it.url.clone()).collect(),
            _ => Vec::new(),
        },
    };
    let mut aliases = vec![alias("", &it.mirror, None)];
    for repository in &it.repositories {
        if aliases.iter().all(|it| it.seen != repository.url) {
            aliases.push(alias(repository.id(), &repository.url, Some(repository)));
        }
    }
    aliases
}

/// Times of the states of Debian's archive that a layer saw: of what was recorded last, and of its base. A Release file
/// was modified when it was made.
pub fn archive_times<R>(it: &Layer<R>) -> Vec<i64> {
    let is_release = |it: &&NetworkEntry| it.url.starts_with("debian:/dists/") && it.url.ends_with("Release");
    let releases = it.network.iter().filter(is_release).flat_map(|it| &it.headers);
    let modified = releases.filter(|(name, _)| name == "last-modified");
    let times = modified.filter_map(|(_, value)| chrono::DateTime::parse_from_rfc2822(value).ok());
    times.map(|it| it.timestamp()).max().into_iter().chain([it.epoch]).collect()
}

/// What of a base decides how requests are recorded.
pub fn seen<R>(it: &Bootstrap<R>) -> String {
    let mut seen = it.mirror.clone();
    for repository in &it.repositories {
        seen += &format!("\n{} {}", repository.id(), repository.url);
    }
    seen
}

/// The kind of mirror of this machine that stands for one of the image, if any does.
fn kind<R>(it: &Bootstrap<R>, repository: Option<&Repository<R>>) -> Option<MirrorKind> {
    match repository {
        _ if it.distribution.is_some() => None,
        None => Some(MirrorKind::Main),
        Some(repository) if repository.name.is_some() => None,
        Some(repository) if repository.url == it.mirror => Some(MirrorKind::Main),
        Some(_) => Some(MirrorKind::Security),
    }
}
