//! Downloads of files whose size nobody knows beforehand: pinned by a digest alone, or about to be pinned.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use raptor_lang::stmt::Digest;

use super::fill::{Expected, Filling};
use super::http::{Client, Error};
use super::partial::Partial;
use crate::store::{Key, Store};

/// A file that was downloaded into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Its path there.
    pub path: PathBuf,
    /// sha256 (hex).
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

impl Client {
    /// Downloads a file into the store from the first of `urls` that has it, and has what is `expected`; else from a
    /// cache that has realized `cached`. `on_bytes` hears how many bytes are here, which may become fewer when a try fails.
    pub fn download_sizeless(
        &self,
        urls: &[String],
        expected: Option<&Digest>,
        cached: Option<&Key>,
        store: &Store,
        on_bytes: &(dyn Fn(u64) + Sync),
        cancel: &AtomicBool,
    ) -> Result<Downloaded, Error> {
        let name = urls.first().map_or("", String::as_str);
        let expected = Expected { digest: expected, size: None };
        let filling = Filling { client: self, name, expected, on_position: on_bytes, cancel };
        // What has no digest has no name by which a later process would find it.
        let work = store.work_dir()?;
        let mut partial = match expected.digest {
            Some(digest) => Partial::open(store, digest, cancel)?,
            None => Partial::private(&work.path().join("body"))?,
        };
        let cached = cached.into_iter().flat_map(|key| self.in_caches(key));
        filling.complete(&mut partial, urls, cached)?;
        let (sha256, size) = (partial.sha256(), partial.len);
        Ok(Downloaded { path: store.add_fetched(&partial.path, &sha256, size)?, sha256, size })
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::{Answer, Origin, client, noise, ok, sha256};
    use super::*;

    fn download(urls: &[String], expected: Option<&Digest>) -> Result<(Vec<u8>, u64), String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let done = client().download_sizeless(urls, expected, None, &store, &|_| {}, &AtomicBool::new(false));
        let left = std::fs::read_dir(store.root().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "something is left in the work area");
        let done = done.map_err(|err| err.to_string())?;
        let content = std::fs::read(&done.path).unwrap();
        assert_eq!(done.sha256, sha256(&content));
        assert_eq!(store.fetched(&done.sha256, done.size).unwrap(), Some(done.path));
        Ok((content, done.size))
    }

    #[test]
    fn comes_whole() {
        let body = noise(200_000);
        let served = body.clone();
        let origin = Origin::start(move |seen, before| match (seen.target.as_str(), before) {
            ("/moved", _) => Answer::Full(302, vec![("Location", "/b".into())], vec![]),
            ("/cut", 0) => Answer::Cut(served.clone(), 70_000),
            ("/busy", 0) => Answer::Full(503, vec![("Retry-After", "0".into())], vec![]),
            ("/gone", _) => Answer::Full(404, vec![], vec![]),
            ("/chunked", _) => Answer::Chunked(served.clone()),
            _ => ok(served.clone()),
        });
        let digests = [
            None,
            Some(Digest::Sha256(sha256(&body))),
            Some(Digest::Blake3(blake3::hash(&body).to_hex().to_string())),
        ];
        for digest in &digests {
            for path in ["/a", "/moved", "/cut", "/busy", "/chunked"] {
                let found = download(&[origin.url(path)], digest.as_ref());
                assert!(found == Ok((body.clone(), 200_000)), "{path} {digest:?}");
            }
            assert!(download(&[origin.url("/gone"), origin.url("/a")], digest.as_ref()).is_ok());
        }
        let gone = origin.url("/gone");
        assert_eq!(
            download(std::slice::from_ref(&gone), None).unwrap_err(),
            format!("{gone}: the server answered 404")
        );
    }

    #[test]
    fn other_content_is_refused() {
        let origin = Origin::start(|_, _| ok("other"));
        let url = origin.url("/a");
        let zeros = "0".repeat(64);
        let (sha256, blake3) = (sha256(b"other"), blake3::hash(b"other").to_hex());
        for (digest, expected) in [
            (Digest::Sha256(zeros.clone()), format!("expected sha256 {zeros}, found {sha256}")),
            (Digest::Blake3(zeros.clone()), format!("expected blake3 {zeros}, found {blake3}")),
        ] {
            let found = download(std::slice::from_ref(&url), Some(&digest)).unwrap_err();
            assert_eq!(found, format!("{url}: wrong content: {expected}"));
        }
    }

    #[test]
    fn what_was_cut_goes_on() {
        let body = noise(200_000);
        for (digest, tag) in [
            (Some(Digest::Sha256(sha256(&body))), ""),
            (Some(Digest::Blake3(blake3::hash(&body).to_hex().to_string())), ""),
            // Without a digest only as long as it is the same version.
            (None, "\"v1\""),
            (None, "W/\"v1\""),
        ] {
            let served = body.clone();
            let origin = Origin::start(move |_, before| match before {
                0 => Answer::CutWith(vec![("ETag", tag.to_owned())], served.clone(), 70_000),
                _ => Answer::Full(200, vec![("ETag", tag.to_owned())], served.clone()),
            });
            assert!(
                download(&[origin.url("/a")], digest.as_ref()) == Ok((body.clone(), 200_000)),
                "{digest:?} {tag}"
            );
            let again = &origin.seen()[1].headers;
            let range = again.get("range").map(String::as_str);
            let condition = again.get("if-range").map(String::as_str);
            let resumes = digest.is_some() || tag == "\"v1\"";
            assert_eq!(range, resumes.then_some("bytes=70000-"), "{digest:?} {tag}");
            assert_eq!(condition, (resumes && digest.is_none()).then_some(tag));
        }
    }

    #[test]
    fn what_a_killed_process_left_goes_on() {
        let body = noise(100_000);
        let served = body.clone();
        let origin = Origin::start(move |_, _| ok(served.clone()));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let digest = Digest::Sha256(sha256(&body));
        for there in [40_000, 100_000] {
            std::fs::write(store.root().join("partial").join(sha256(&body)), &body[..there]).unwrap();
            let never = AtomicBool::new(false);
            let done =
                client().download_sizeless(&[origin.url("/a")], Some(&digest), None, &store, &|_| {}, &never);
            assert_eq!(std::fs::read(done.unwrap().path).unwrap(), body);
            let range = origin.seen().pop().unwrap().headers["range"].clone();
            assert_eq!(range, format!("bytes={there}-"));
        }
        assert_eq!(std::fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn several_places_are_all_asked_before_any_is_waited_for() {
        let body = noise(1000);
        let served = body.clone();
        let origin = Origin::start(move |seen, before| match (seen.target.as_str(), before) {
            ("/busy", 0) => Answer::Full(503, vec![], vec![]),
            ("/busy" | "/good", _) => ok(served.clone()),
            _ => Answer::Full(404, vec![], vec![]),
        });
        let urls = |paths: &[&str]| paths.iter().map(|it| origin.url(it)).collect::<Vec<_>>();
        let digest = Digest::Sha256(sha256(&body));
        let targets =
            |from: usize| origin.seen()[from..].iter().map(|it| it.target.clone()).collect::<Vec<_>>();
        assert!(download(&urls(&["/busy", "/good"]), Some(&digest)).is_ok());
        assert_eq!(targets(0), ["/busy", "/good"]);
        let other = Origin::start({
            let body = body.clone();
            move |seen, before| match (seen.target.as_str(), before) {
                ("/busy", 0) => Answer::Full(503, vec![], vec![]),
                ("/busy", _) => ok(body.clone()),
                _ => Answer::Full(404, vec![], vec![]),
            }
        });
        assert!(download(&[other.url("/busy"), other.url("/gone")], Some(&digest)).is_ok());
        let seen: Vec<_> = other.seen().iter().map(|it| it.target.clone()).collect();
        assert_eq!(seen, ["/busy", "/gone", "/busy"]);
    }
}
