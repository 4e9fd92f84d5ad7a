//! The mirrors of a base: what the image calls them, what the lock does, and where the bytes are.

use std::net::IpAddr;

use super::MirrorAlias;
use super::request::{Scheme, url};
use crate::fetch::Wanted;
use crate::fetch::http::{Error, Redirects};
use crate::fetch::secret::{is_hidden, shown};
use crate::fetch::settings::{Reach, is_internal};
use crate::lock::NetworkEntry;
use crate::store::Store;

/// The mirrors of a build, in normal form.
pub struct Mirrors {
    /// The longest name first, so that it wins.
    aliases: Vec<MirrorAlias>,
}

/// A URL in its roles.
pub struct Place {
    /// As the client asked for it, without secrets.
    pub asked: String,
    /// In the lock.
    pub recorded: String,
    /// On the network, perhaps with secrets.
    pub fetched: String,
    pub reach: Reach,
    pub redirects: Redirects,
}

impl Mirrors {
    pub fn new(mut aliases: Vec<MirrorAlias>) -> Mirrors {
        for alias in &mut aliases {
            alias.seen = normal(&alias.seen);
            alias.fetch_from = alias.fetch_from.trim_end_matches('/').to_owned();
        }
        aliases.sort_by(|a, b| b.seen.len().cmp(&a.seen.len()).then_with(|| a.seen.cmp(&b.seen)));
        Mirrors { aliases }
    }

    /// Where a URL of a client belongs.
    pub fn place(&self, url: &str) -> Place {
        let asked = shown(url).into_owned();
        for MirrorAlias { name, seen, fetch_from, .. } in &self.aliases {
            let path = asked.strip_prefix(seen.as_str()).filter(|path| path.starts_with('/'));
            // A path that leaves the mirror is not one of it.
            if let Some(path) = path.filter(|path| !path.split(['/', '?']).any(|part| part == "..")) {
                let (recorded, fetched) = (format!("debian:{name}{path}"), format!("{fetch_from}{path}"));
                return Place { asked, recorded, fetched, reach: Reach::Any, redirects: Redirects::Follow };
            }
        }
        let (recorded, fetched) = (asked.clone(), url.to_owned());
        Place { asked, recorded, fetched, reach: Reach::Public, redirects: Redirects::Keep }
    }

    /// A recorded body as a download. What only the request itself can bring has no place but the caches.
    pub fn wanted(&self, entry: &NetworkEntry) -> Wanted {
        // A mirror has files and nothing else, though apt asks for some as texts.
        let is_file = entry.accept.is_none() || entry.url.starts_with("debian:");
        let is_plain = entry.method == "GET" && is_file && entry.body.is_none();
        let urls = match is_plain && !names_this_machine(&entry.url) && !is_hidden(&entry.url) {
            true => self.places(&entry.url),
            false => Vec::new(),
        };
        Wanted { name: entry.url.clone(), urls, sha256: entry.sha256.clone(), size: entry.size }
    }

    /// Where a recorded URL can be fetched from.
    fn places(&self, recorded: &str) -> Vec<String> {
        match recorded.strip_prefix("debian:").and_then(|it| it.split_at_checked(it.find('/')?)) {
            Some((name, path)) => {
                let named = || self.aliases.iter().filter(|it| it.name == name);
                let mirrors = named().map(|it| &it.fetch_from).chain(named().flat_map(|it| &it.snapshots));
                mirrors.map(|mirror| format!("{mirror}{path}")).collect()
            }
            None => vec![recorded.to_owned()],
        }
    }
}

/// The recorded bodies that are not in the store and that a plain download can bring: fetching them all at once,
/// before the build, is faster than one by one. What such a download cannot bring is left to the proxy.
pub fn missing_bodies(
    recorded: &[NetworkEntry],
    mirrors: &[MirrorAlias],
    store: &Store,
) -> Result<Vec<Wanted>, Error> {
    let mirrors = Mirrors::new(mirrors.to_vec());
    let mut wanted = Vec::new();
    for entry in recorded {
        let body = mirrors.wanted(entry);
        let is_needed = entry.size > 0 && !body.urls.is_empty();
        if is_needed && store.fetched(&entry.sha256, entry.size)?.is_none() {
            wanted.push(body);
        }
    }
    Ok(wanted)
}

/// As [`url`] writes it, without slashes at the end.
fn normal(mirror: &str) -> String {
    let mirror = shown(mirror);
    let mirror = mirror.trim_end_matches('/');
    let (scheme, rest) = match mirror.strip_prefix("https://") {
        Some(rest) => (Scheme::Https, rest),
        None => (Scheme::Http, mirror.strip_prefix("http://").unwrap_or(mirror)),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    url(scheme, host, path).map_or_else(|_| mirror.to_owned(), |url| url.trim_end_matches('/').to_owned())
}

/// Does the URL say so itself? Names that only resolve to this machine are the client's to refuse.
pub fn names_this_machine(url: &str) -> bool {
    let Ok(url) = url.parse::<ureq::http::Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_end_matches('.');
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || bare.parse::<IpAddr>().is_ok_and(is_internal)
}
