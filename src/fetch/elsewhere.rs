//! Where bytes may be that are gone from the place that a lock names: Debian's archive as it was, and binary caches.
//!
//! Nothing of this is trusted: what comes from here is checked by digest like everything else.

use chrono::{DateTime, Datelike, Timelike};

use super::debian::Mirror;
use super::http::{Client, Error};
use crate::store::{Key, Realized};

/// What of a snapshot's URL is replaced by the time.
const DATE: &str = "{date}";
/// A state of the archive gets its date before anybody can make a snapshot of it.
const LATER: i64 = 24 * 60 * 60;
/// Records of a store are shorter.
const MAX_RECORD: u64 = 64 * 1024;

/// Places to look in after all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// URL of Debian's archive as it was at `{date}`.
    snapshot: Option<String>,
    /// URLs of directories in which a web server shows stores.
    caches: Vec<String>,
}

/// A URL with the name of its setting, for messages.
pub type Setting<'a> = (&'a str, String);

impl Elsewhere {
    /// Checks what the settings say.
    pub fn new(snapshot: Option<Setting>, caches: Vec<Setting>) -> Result<Elsewhere, Error> {
        let snapshot = snapshot.map(|(setting, url)| {
            let wrong = |reason: &str| wrong(setting, reason);
            match url.contains(DATE) {
                true => plain(setting, &url.replace(DATE, "0")).map(|_| url),
                false => {
                    Err(wrong("expected a URL with `{date}`, such as http://snapshot.example/debian/{date}"))
                }
            }
        });
        let caches = caches.iter().map(|(setting, url)| plain(setting, url));
        Ok(Elsewhere { snapshot: snapshot.transpose()?, caches: caches.collect::<Result<_, _>>()? })
    }

    /// Debian's archive as it was at these times, in seconds since 1970, and a day after each.
    pub fn snapshots(&self, times: &[i64]) -> Vec<Mirror> {
        let mut mirrors: Vec<Mirror> = Vec::new();
        for time in times.iter().flat_map(|it| [*it, it.saturating_add(LATER)]) {
            let url = self.snapshot.as_ref().zip(stamp(time)).map(|(url, date)| url.replace(DATE, &date));
            mirrors.extend(url.and_then(|it| Mirror::new(&it)).filter(|it| !mirrors.contains(it)));
        }
        mirrors
    }
}

/// `YYYYMMDDTHHMMSSZ`
fn stamp(time: i64) -> Option<String> {
    let it = DateTime::from_timestamp(time, 0)?;
    let (year, month, day) = (it.year(), it.month(), it.day());
    Some(format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", it.hour(), it.minute(), it.second()))
}

fn wrong(setting: &str, reason: &str) -> Error {
    Error::Setting { setting: setting.to_owned(), reason: reason.to_owned() }
}

/// A URL without trailing slashes, and without secrets, for messages name it.
fn plain(setting: &str, url: &str) -> Result<String, Error> {
    let authority = url.split('/').nth(2).unwrap_or_default();
    if authority.contains('@') {
        return Err(wrong(setting, "a URL with a user name or password cannot be used"));
    }
    match Mirror::new(url) {
        Some(mirror) => Ok(mirror.url),
        None => Err(wrong(setting, &format!("`{url}` is no http or https URL of a directory"))),
    }
}

impl Client {
    /// Places of what a key was realized to, one for each cache; they are asked as the iterator goes on.
    pub(super) fn in_caches<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Result<String, Error>> + 'a {
        // Without network there is one reason, not one for each place.
        let caches = self.elsewhere().caches.iter().filter(|_| !self.is_offline());
        caches.map(move |cache| self.in_cache(cache, key))
    }

    /// `realized/KEY.json` names a tree, as in any store.
    fn in_cache(&self, cache: &str, key: &Key) -> Result<String, Error> {
        let url = format!("{cache}/realized/{key}.json");
        let record = self.get_bytes(&url, MAX_RECORD)?;
        match serde_json::from_slice::<Realized>(&record) {
            Ok(realized) => Ok(format!("{cache}/trees/{}", realized.output)),
            Err(_) => Err(Error::Wanted { name: url, reason: "this is no record of a store".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_mirrors_of_a_time() {
        let new = |url: &str| Elsewhere::new(Some(("X", url.to_owned())), Vec::new());
        let urls: Vec<String> = new("http://snapshot.example/{date}/debian/")
            .unwrap()
            .snapshots(&[1_700_000_000, 1_700_086_400])
            .into_iter()
            .map(|it| it.url)
            .collect();
        assert_eq!(
            urls,
            ["20231114T221320Z", "20231115T221320Z", "20231116T221320Z"]
                .map(|it| format!("http://snapshot.example/{it}/debian"))
        );
        assert_eq!(Elsewhere::default().snapshots(&[0]), []);
        assert_eq!(new("http://snapshot.example/{date}").unwrap().snapshots(&[i64::MAX]), []);
        let said = |url: &str| new(url).unwrap_err().to_string();
        assert!(said("http://snapshot.example/").starts_with("X: expected a URL with `{date}`"));
        assert!(
            said("ftp://snapshot.example/{date}").starts_with("X: `ftp://snapshot.example/0` is no http")
        );
        for url in ["https://me:hush@cache.example/{date}", "http://hush@cache.example/a{date}"] {
            assert!(!said(url).contains("hush") && said(url).contains("password"));
        }
    }
}
