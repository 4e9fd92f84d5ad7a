//! Downloads of files whose size nobody knows beforehand: pinned by a digest alone, or about to be pinned.
//!
//! What is known in full is downloaded by [`super::Wanted`], which can resume.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use raptor_lang::stmt::Digest;
use sha2::Digest as _;

use super::http::{Call, Client, Error, Refused, request_error};
use crate::store::{Key, Store};

/// Most bytes of such a file: a server that never ends must not fill the disk.
const LIMIT: u64 = 64 << 30;

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
        let work = store.work_dir()?;
        let path = work.path().join("body");
        let attempt = Attempt { client: self, expected, path: &path, on_bytes, cancel };
        let mut failures = Vec::new();
        let cached = cached.into_iter().flat_map(|key| self.in_caches(key));
        for place in urls.iter().cloned().map(Ok).chain(cached) {
            match place.and_then(|url| attempt.patiently(&url)) {
                Ok((sha256, size)) => {
                    return Ok(Downloaded { path: store.add_fetched(&path, &sha256, size)?, sha256, size });
                }
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failures.push(error),
            }
        }
        let name = urls.first().cloned().unwrap_or_default();
        match failures.pop() {
            None => Err(Error::Wanted { name, reason: "there is no URL to fetch it from".into() }),
            Some(only) if failures.is_empty() => Err(only),
            Some(last) => {
                failures.push(last);
                Err(Error::Everywhere { name, failures })
            }
        }
    }
}

/// What is the same for every URL of a file.
struct Attempt<'a> {
    client: &'a Client,
    expected: Option<&'a Digest>,
    path: &'a Path,
    on_bytes: &'a (dyn Fn(u64) + Sync),
    cancel: &'a AtomicBool,
}

impl Attempt<'_> {
    /// Digest (sha256) and size of what came.
    fn patiently(&self, url: &str) -> Result<(String, u64), Error> {
        let mut patience = self.client.patience();
        loop {
            let refused = match self.once(url) {
                Ok(done) => return Ok(done),
                Err(refused) => refused,
            };
            if !refused.failure.is_transient() || !patience.again(refused.retry_after, self.cancel) {
                let cancelled = self.cancel.load(Ordering::Relaxed);
                return Err(if cancelled { Error::Cancelled } else { refused.failure });
            }
        }
    }

    fn once(&self, url: &str) -> Result<(String, u64), Refused> {
        let named = |source| Error::File { path: self.path.to_path_buf(), source };
        let response = self.client.call(&Call::get(url))?;
        Refused::unless_ok(url, &response)?;
        let mut file = File::create(self.path).map_err(named)?;
        let mut body = self.client.reader(response);
        let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
        let mut size = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled.into());
            }
            let n_read = body.read(&mut buffer).map_err(|err| request_error(url, err.into()))?;
            let bytes = buffer.get(..n_read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            size += n_read as u64;
            if size > LIMIT {
                return Err(Error::TooLong { url: url.to_owned(), limit: LIMIT }.into());
            }
            file.write_all(bytes).map_err(named)?;
            sha256.update(bytes);
            if matches!(self.expected, Some(Digest::Blake3(_))) {
                blake3.update(bytes);
            }
            (self.on_bytes)(size);
        }
        let sha256 = format!("{:x}", sha256.finalize());
        let (kind, expected, found) = match self.expected {
            None => return Ok((sha256, size)),
            Some(Digest::Sha256(expected)) => ("sha256", expected, sha256.clone()),
            Some(Digest::Blake3(expected)) => ("blake3", expected, blake3.finalize().to_hex().to_string()),
        };
        match found == *expected {
            true => Ok((sha256, size)),
            false => {
                Err(Error::Digest { url: url.to_owned(), kind, expected: expected.clone(), found }.into())
            }
        }
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
}
