//! Completing an unfinished download from the places that have it: resumed where it can be, with patience, and checked
//! while it streams.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use raptor_lang::stmt::Digest;
use ureq::http::{HeaderMap, HeaderValue, header};

use super::http::{Call, Client, Error, Patience, Refused, request_error};
use super::partial::Partial;

/// Most bytes of a file whose size nobody knows: a server that never ends must not fill the disk.
const LIMIT: u64 = 64 << 30;

/// So many bytes more are worth going on for.
const LEAST_PROGRESS: u64 = 64 * 1024;

/// What is known of a file beforehand.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) digest: Option<&'a Digest>,
    pub(super) size: Option<u64>,
}

/// A download under way.
pub(super) struct Filling<'a> {
    pub(super) client: &'a Client,
    /// What to call the file in messages.
    pub(super) name: &'a str,
    pub(super) expected: Expected<'a>,
    /// Hears how many bytes are there, which may become fewer when a try fails.
    pub(super) on_position: &'a dyn Fn(u64),
    pub(super) cancel: &'a AtomicBool,
}

impl Filling<'_> {
    /// Completes the file from the first of `urls` that has it. Where there are several, each is asked once before any
    /// is waited for. Caches are asked only when all else fails.
    pub(super) fn complete(
        &self,
        partial: &mut Partial,
        urls: &[String],
        caches: impl Iterator<Item = Result<String, Error>>,
    ) -> Result<(), Error> {
        let mut failures: Vec<(&String, Option<Error>)> = urls.iter().map(|url| (url, None)).collect();
        let rounds = if urls.len() > 1 { &[false, true][..] } else { &[true] };
        for is_patient in rounds {
            for (url, failure) in &mut failures {
                if failure.as_ref().is_some_and(|it| !it.is_transient()) {
                    continue;
                }
                let patience = is_patient.then(|| self.client.patience());
                match self.fill(partial, url, patience) {
                    Ok(()) => return Ok(()),
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(error) => *failure = Some(error),
                }
            }
        }
        let mut failures: Vec<Error> = failures.into_iter().filter_map(|(_, failure)| failure).collect();
        for place in caches {
            match place.and_then(|url| self.fill(partial, &url, Some(self.client.patience()))) {
                Ok(()) => return Ok(()),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failures.push(error),
            }
        }
        // What came from one place may be resumed from another, but a lie must not be.
        if failures.iter().any(|it| matches!(it, Error::Digest { .. })) || partial.len == 0 {
            partial.remove()?;
        }
        let name = self.name.to_owned();
        match failures.pop() {
            None => Err(Error::Wanted { name, reason: "there is no URL to fetch it from".into() }),
            Some(only) if failures.is_empty() => Err(only),
            Some(last) => {
                failures.push(last);
                Err(Error::Everywhere { name, failures })
            }
        }
    }

    /// Completes the file from one URL; without patience, by one request.
    fn fill(&self, partial: &mut Partial, url: &str, patience: Option<Patience>) -> Result<(), Error> {
        // Without a digest nothing tells whether two places have the same file.
        if self.expected.digest.is_none() {
            partial.restart()?;
        }
        let mut left = patience;
        loop {
            let before = partial.len;
            let refused = match self.fill_once(partial, url) {
                Ok(()) => match self.expected.digest.map_or(Ok(()), |it| partial.check(url, it)) {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        partial.restart()?;
                        // The beginning may have come from another place and time: once more from the start.
                        if before > 0 {
                            continue;
                        }
                        return Err(error);
                    }
                },
                Err(refused) => refused,
            };
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let Some(patience) = left.as_mut().filter(|_| refused.failure.is_transient()) else {
                return Err(refused.failure);
            };
            // A connection that is cut but moves on is worth patience. One byte more is no progress.
            if partial.len >= before + LEAST_PROGRESS {
                *patience = self.client.patience();
            }
            if !patience.again(refused.retry_after, self.cancel) {
                let cancelled = self.cancel.load(Ordering::Relaxed);
                return Err(if cancelled { Error::Cancelled } else { refused.failure });
            }
        }
    }

    fn fill_once(&self, partial: &mut Partial, url: &str) -> Result<(), Refused> {
        let Expected { digest, size } = self.expected;
        let is_of_version = digest.is_some() || partial.version.is_some();
        if size.is_some_and(|size| partial.len > size) || !is_of_version {
            partial.restart()?;
        }
        (self.on_position)(partial.len);
        if size.is_some_and(|size| partial.len == size && partial.len > 0 || size == 0) {
            return Ok(());
        }
        let mut call = Call::get(url);
        call.headers = rest_of(partial, digest.is_none());
        let response = self.client.ask(&call)?;
        Refused::unless_content(url, &response)?;
        let range =
            response.headers().get(header::CONTENT_RANGE).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let range = range.as_deref();
        let has_content_range = |start: &str| range.is_some_and(|it| it.starts_with(start));
        let total = match response.status().as_u16() {
            206 if has_content_range(&format!("bytes {}-", partial.len)) => {
                range.and_then(|it| it.rsplit('/').next()?.parse().ok())
            }
            200 => {
                let total = response.body().content_length();
                if let (Some(expected), Some(found)) = (size, total)
                    && found != expected
                {
                    return Err(Error::Size { url: url.to_owned(), expected, found }.into());
                }
                partial.restart()?;
                partial.version = version(response.headers());
                total
            }
            // It was whole already.
            416 if size.is_none() && range == Some(&format!("bytes */{}", partial.len)) => return Ok(()),
            // The server has something else, or no idea of ranges: the next try asks for everything.
            status => {
                if partial.len == 0 {
                    return Err(Error::Status { url: url.to_owned(), status }.into());
                }
                partial.restart()?;
                return self.fill_once(partial, url);
            }
        };
        self.read(partial, url, self.client.reader(response))?;
        match size.or(total) {
            Some(whole) if partial.len < whole => {
                // Without Content-Length a cut looks like an end.
                let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection was cut");
                Err(request_error(url, cut.into()).into())
            }
            _ => Ok(()),
        }
    }

    fn read(&self, partial: &mut Partial, url: &str, mut body: impl Read) -> Result<(), Refused> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled.into());
            }
            let n_read = body.read(&mut buffer).map_err(|err| request_error(url, err.into()))?;
            if n_read == 0 {
                return Ok(());
            }
            partial.push(buffer.get(..n_read).unwrap_or_default())?;
            (self.on_position)(partial.len);
            let (url, found) = (url.to_owned(), partial.len);
            if found > self.expected.size.unwrap_or(LIMIT) {
                partial.restart()?;
                return Err(match self.expected.size {
                    Some(expected) => Error::Size { url, expected, found }.into(),
                    None => Error::TooLong { url, limit: LIMIT }.into(),
                });
            }
        }
    }
}

/// Headers that ask for what is missing, `strictly` only if the rest is of the same version.
fn rest_of(partial: &Partial, strictly: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if partial.len > 0 {
        let range = HeaderValue::from_str(&format!("bytes={}-", partial.len));
        headers.extend(range.ok().map(|range| (header::RANGE, range)));
        let version = partial.version.clone().filter(|_| strictly);
        headers.extend(version.map(|version| (header::IF_RANGE, version)));
    }
    headers
}

/// What tells versions of a file apart for `If-Range`.
fn version(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(header::ETAG).filter(|it| !it.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(header::LAST_MODIFIED)).cloned()
}
