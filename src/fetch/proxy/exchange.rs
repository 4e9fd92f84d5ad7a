//! One request and its answer: replayed from the store, fetched again and checked, or recorded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::Body;
use ureq::http::{HeaderMap, HeaderValue, Response, header};

use super::mirror::{Mirrors, Place, names_this_machine};
use super::reply::{Reply, Start};
use super::request::Request;
use super::spool::{Changed, Skip, Spool};
use super::table::{Key, Table};
use super::{ProxyConfig, ProxyEvent, Refusal};
use crate::fetch::http::{Call, Client, Error, is_transient_status, request_error, retry_after};
use crate::fetch::secret::{is_hidden, resolve, shown};
use crate::fetch::settings::Reach;
use crate::lock::{EMPTY_SHA256, KEPT_HEADERS, NetworkEntry};
use crate::store::{Store, WorkDir};

/// Where programs in a sandbox find the certificate that they must trust.
pub const CA_FILE: &str = "/run/raptor/ca.crt";
/// How much of an error page is passed on.
const MAX_ERROR_PAGE: u64 = 64 * 1024;
/// How far a body may exceed its recorded size before we stop to wonder what it is.
const MAX_EXCESS: u64 = 64 * 1024 * 1024;

/// Answers requests.
pub struct Exchange {
    pub table: Table,
    recorded: BTreeMap<Key, NetworkEntry>,
    allow_new: bool,
    offline: bool,
    mirrors: Mirrors,
    /// URLs with secrets, by what is shown of them: known while this build goes on, recorded nowhere.
    secrets: Mutex<BTreeMap<String, String>>,
    client: Client,
    pub(super) store: Store,
    work: WorkDir,
    next_spool: AtomicU64,
    cancel: AtomicBool,
    on_event: Arc<dyn Fn(ProxyEvent<'_>) + Send + Sync>,
}

/// Why there is no answer.
pub(super) struct Failure {
    reason: String,
    /// What the server said instead, if it is to be passed on.
    answer: Option<(Start, Vec<u8>)>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure { reason, answer: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        error.to_string().into()
    }
}

impl Exchange {
    pub fn new(config: ProxyConfig) -> Result<Exchange, Error> {
        let ProxyConfig { recorded, answered, allow_new, offline, mirrors, client, store, on_event } = config;
        Ok(Exchange {
            table: Table::with(answered),
            recorded: recorded.into_iter().map(|entry| (Key::of(&entry), entry)).collect(),
            allow_new,
            offline: offline || client.is_offline(),
            mirrors: Mirrors::new(mirrors),
            secrets: Mutex::default(),
            client: client.separate()?,
            work: store.work_dir()?,
            store,
            next_spool: AtomicU64::new(0),
            cancel: AtomicBool::new(false),
            on_event,
        })
    }

    /// Ends what is under way.
    pub fn shut_down(&self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.client.shut_down();
    }

    /// Notes that TLS with a client did not come about.
    pub fn refuse_tls(&self, host: &str, why: &str) {
        let reason = format!("TLS failed: {why}; does the program trust {CA_FILE}?");
        self.refuse_connection("CONNECT", format!("https://{host}/"), reason);
    }

    /// Notes that a client speaks HTTP/2; gives the reason to tell.
    pub fn refuse_http2(&self, host: &str) -> String {
        let reason = "HTTP/2 without TLS is not recorded; HTTP/1.1 is".to_owned();
        self.refuse_connection("PRI", format!("http://{host}/"), reason.clone());
        reason
    }

    fn refuse_connection(&self, method: &str, url: String, reason: String) {
        let key = Key { url: url.clone(), method: method.into(), accept: None, body: None };
        self.refuse(key, Refusal { method: method.into(), url, reason, is_lost: false });
    }

    fn refuse(&self, key: Key, refusal: Refusal) {
        (self.on_event)(ProxyEvent::Refused { url: &refusal.url });
        self.table.refuse(key, refusal);
    }

    /// Answers a request; true if the connection can be used again.
    pub fn answer(&self, request: &Request, mut reply: Reply) -> bool {
        let mut place = self.mirrors.place(&request.url);
        let Some(known) = self.know(&request.url, &mut place) else {
            return self.refuse_other_secret(request, place.asked, reply);
        };
        let key = Key {
            url: place.recorded.clone(),
            method: request.head.method.clone(),
            accept: request.head.accept.clone(),
            body: request.body_digest(),
        };
        let answered = match &request.head.range {
            _ if request.head.wants_websocket => {
                Err("WebSocket connections are not recorded".to_owned().into())
            }
            None => self.whole(&key, &place, request, known, &mut reply).map(|_| ()),
            // The part is one of the whole answer, which has to be here first.
            Some(range) => self
                .whole(&key, &place, request, known, &mut reply.unheard())
                .and_then(|entry| self.send_part(&entry, range, &mut reply)),
        };
        let Err(failure) = answered else { return reply.finish() };
        let ended = self.cancel.load(Ordering::Relaxed);
        let refusal = Refusal {
            is_lost: self.recorded.contains_key(&key) && !self.offline && !ended,
            method: key.method.clone(),
            url: place.asked.clone(),
            reason: if ended {
                "the build ended before the whole answer was here".into()
            } else {
                failure.reason
            },
        };
        let text = format!("{} {}: {}", refusal.method, refusal.url, refusal.reason);
        self.refuse(key, refusal);
        match failure.answer {
            Some((start, body)) if !reply.is_on_its_way() => {
                reply.begin(start);
                reply.push(&body);
                reply.finish()
            }
            _ => reply.fail(504, &text),
        }
    }

    /// Gets the whole answer to a request, from wherever it is to be had.
    fn whole(
        &self,
        key: &Key,
        place: &Place,
        request: &Request,
        known: bool,
        reply: &mut Reply,
    ) -> Result<NetworkEntry, Failure> {
        let known = known || request.head.has_credentials;
        let claim = match self.table.claim(key, known) {
            Ok(entry) => return self.replay(&entry, place, request, reply),
            Err(claim) => claim,
        };
        let entry = match self.recorded.get(key) {
            // Strangers were turned away, but here is somebody else.
            Some(entry) if known && entry.status >= 400 && self.allow_new && !self.offline => {
                self.record(key, place, request, reply)
            }
            Some(entry) => self.replay(entry, place, request, reply),
            None => self.record(key, place, request, reply),
        }?;
        claim.answered(entry.clone());
        Ok(entry)
    }

    /// Keeps the secrets of a URL in mind, or remembers them for one that is without. Tells whether there are any;
    /// `None` if there were others.
    fn know(&self, url: &str, place: &mut Place) -> Option<bool> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        match secrets.get(&place.asked) {
            Some(known) if place.asked == url => place.fetched.clone_from(known),
            Some(known) if known != url => return None,
            None if place.asked != url => drop(secrets.insert(place.asked.clone(), url.to_owned())),
            known => return Some(known.is_some()),
        }
        Some(true)
    }

    /// Both would be one request in the lock.
    fn refuse_other_secret(&self, request: &Request, url: String, reply: Reply) -> bool {
        let reason = "an earlier request differs from it in nothing but a secret".to_owned();
        let method = request.head.method.clone();
        let text = format!("{method} {url}: {reason}");
        (self.on_event)(ProxyEvent::Refused { url: &url });
        self.table.fail(Refusal { method, url, reason, is_lost: false });
        reply.fail(504, &text)
    }

    /// What an answer will be recorded as, but for its body. A secret in the place to go to is known from now on.
    fn entry(&self, response: &Response<Body>, place: &Place, request: &Request) -> NetworkEntry {
        let mut entry = entry(response, place, request);
        for (_, location) in entry.headers.iter_mut().filter(|(name, _)| name == "location") {
            let without = shown(location).into_owned();
            if without != *location {
                let (asked, url) = (resolve(&place.asked, &without), resolve(&place.asked, location));
                self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, url);
                *location = without;
            }
        }
        entry
    }

    fn replay(
        &self,
        entry: &NetworkEntry,
        place: &Place,
        request: &Request,
        reply: &mut Reply,
    ) -> Result<NetworkEntry, Failure> {
        let mut stored = match entry.size {
            0 => None,
            size => self.store.fetched(&entry.sha256, size).map_err(Error::from)?,
        };
        if entry.size > 0 && stored.is_none() {
            if self.offline {
                return Err("its body is not in the store, and the network is switched off (--offline)"
                    .to_owned()
                    .into());
            }
            stored = self.lost_and_found(entry, place, request)?;
            if stored.is_none() {
                return self.fetch(Some(entry), place, request, reply);
            }
        }
        reply.begin(start(entry));
        if let Some(path) = stored {
            let named = |source| Error::File { path: path.clone(), source };
            let mut file = File::open(&path).map_err(named)?;
            let found = file.metadata().map_err(named)?.len();
            if found != entry.size {
                let url = path.display().to_string();
                return Err(Error::Size { url, expected: entry.size, found }.into());
            }
            let mut piece = vec![0; 64 * 1024];
            loop {
                let n_read = file.read(&mut piece).map_err(named)?;
                if n_read == 0 {
                    break;
                }
                reply.push(piece.get(..n_read).unwrap_or_default());
            }
        }
        (self.on_event)(ProxyEvent::Replayed { url: &place.asked });
        Ok(entry.clone())
    }

    /// A recorded body from any of the places where it may be; nothing if only the request itself can tell.
    fn lost_and_found(
        &self,
        entry: &NetworkEntry,
        place: &Place,
        request: &Request,
    ) -> Result<Option<PathBuf>, Failure> {
        let mut wanted = self.mirrors.wanted(entry);
        if request.head.has_credentials || place.reach == Reach::Public && place.fetched != place.asked {
            wanted.urls.clear();
        }
        let on_bytes = |more| (self.on_event)(ProxyEvent::Bytes(more));
        match self.client.download_until(&wanted, &self.store, &on_bytes, &self.cancel) {
            Ok(path) => Ok(Some(path)),
            Err(_) if wanted.urls.is_empty() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn record(
        &self,
        key: &Key,
        place: &Place,
        request: &Request,
        reply: &mut Reply,
    ) -> Result<NetworkEntry, Failure> {
        let refuse = |reason: &str| Err(Failure::from(reason.to_owned()));
        if !self.allow_new {
            return refuse("this request is not in Raptor.lock, and --locked allows no other");
        }
        if self.offline {
            return refuse("this request is not in Raptor.lock, and the network is switched off (--offline)");
        }
        let entry = self.fetch(None, place, request, reply)?;
        let Key { url, method, accept, body } = key.clone();
        Ok(NetworkEntry { url, method, accept, body, ..entry })
    }

    /// Gets an answer from the network, to the client and into the store. `expected` is what it must be.
    fn fetch(
        &self,
        expected: Option<&NetworkEntry>,
        place: &Place,
        request: &Request,
        reply: &mut Reply,
    ) -> Result<NetworkEntry, Failure> {
        if place.reach == Reach::Public && names_this_machine(&place.fetched) {
            return Err("the services of this machine are not part of a build".to_owned().into());
        }
        if is_hidden(&place.fetched) {
            return Err("its URL had a secret, which is not recorded, so it cannot be fetched again"
                .to_owned()
                .into());
        }
        let call = call(place, request);
        let mut patience = self.client.patience();
        let id = self.next_spool.fetch_add(1, Ordering::Relaxed);
        let mut spool = Spool::new(self.work.path().join(id.to_string()))?;
        loop {
            let (error, wait) = match self.client.call(&call) {
                Err(error) => (error, None),
                Ok(response) if is_transient_status(response.status().as_u16()) => {
                    let wait = retry_after(response.headers());
                    if !patience.again(wait, &self.cancel) {
                        return Err(pass_on(response));
                    }
                    continue;
                }
                Ok(response) => {
                    let entry = self.entry(&response, place, request);
                    match self.body(expected, &entry, response, &mut spool, place, reply)? {
                        Ok((sha256, size)) => {
                            let entry = match expected {
                                Some(entry) => entry.clone(),
                                None => NetworkEntry { sha256, size, ..entry },
                            };
                            (self.on_event)(ProxyEvent::Fetched { url: &place.asked, size });
                            return Ok(entry);
                        }
                        Err(cut) => (cut, None),
                    }
                }
            };
            if !error.is_transient() || !patience.again(wait, &self.cancel) {
                return Err(error.into());
            }
        }
    }

    /// Reads the body of one answer. The inner error is a cut, which another try may mend.
    fn body(
        &self,
        expected: Option<&NetworkEntry>,
        entry: &NetworkEntry,
        response: Response<Body>,
        spool: &mut Spool,
        place: &Place,
        reply: &mut Reply,
    ) -> Result<Result<(String, u64), Error>, Failure> {
        if let Some(expected) = expected.filter(|expected| expected.status != entry.status) {
            let reason = format!(
                "{}: the server answered {}, but {} is recorded",
                shown(&place.fetched),
                entry.status,
                expected.status
            );
            return Err(reason.into());
        }
        let length = response.body().content_length();
        // What is already on its way to the client cannot change any more; all else begins anew.
        let mut skip = if reply.is_on_its_way() { Some(Skip::new(spool)) } else { None };
        if skip.is_none() {
            spool.restart()?;
            let start = expected.map_or_else(|| Start { length, ..start(entry) }, start);
            reply.begin(start);
        }
        // Who gets a wrong size gets nothing, but we read on to tell what it is.
        let is_plausible = expected.is_none_or(|it| length.is_none_or(|length| length == it.size));
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; 64 * 1024];
        while has_body(entry) {
            let n_read = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(err) => return Ok(Err(request_error(&place.fetched, err.into()))),
            };
            (self.on_event)(ProxyEvent::Bytes(n_read as u64));
            let mut bytes = piece.get(..n_read).unwrap_or_default();
            if let Some(skip) = &mut skip {
                bytes = skip.feed(bytes, spool).map_err(|Changed| {
                    let url = shown(&place.fetched);
                    format!("{url}: the connection was cut, and then the content was another")
                })?;
            }
            spool.push(bytes)?;
            if let Some(expected) = expected.filter(|it| spool.length > it.size) {
                if spool.length - expected.size > MAX_EXCESS {
                    let (url, found) = (place.fetched.clone(), spool.length);
                    return Err(Error::Size { url, expected: expected.size, found }.into());
                }
            } else if is_plausible && !bytes.is_empty() {
                reply.push(bytes);
            }
        }
        let (sha256, size) = (spool.digest(), spool.length);
        if skip.is_some_and(|skip| skip.left > 0) {
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection was cut");
            return Ok(Err(request_error(&place.fetched, cut.into())));
        }
        if let Some(expected) = expected.filter(|it| it.sha256 != sha256 || it.size != size) {
            let (url, expected) = (place.fetched.clone(), expected.sha256.clone());
            return Err(Error::Digest { url, kind: "sha256", expected, found: sha256 }.into());
        }
        if size > 0 {
            self.store.add_fetched(&spool.path, &sha256, size).map_err(Error::from)?;
        }
        Ok(Ok((sha256, size)))
    }
}

fn call<'a>(place: &'a Place, request: &'a Request) -> Call<'a> {
    let mut headers = request.head.forwarded.clone();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let method = request.head.method.as_str();
    let takes_body = matches!(method, "POST" | "PUT" | "PATCH");
    Call {
        method,
        url: &place.fetched,
        headers,
        body: (takes_body || !request.body.is_empty()).then_some(request.body.as_slice()),
        redirects: place.redirects,
        reach: place.reach,
    }
}

/// What an answer will be recorded as, but for its body.
fn entry(response: &Response<Body>, place: &Place, request: &Request) -> NetworkEntry {
    let is_head = request.head.method == "HEAD";
    let status = response.status().as_u16();
    let mut headers = kept_headers(response.headers(), KEPT_HEADERS);
    // Other answers have it only to be polite.
    headers.retain(|(name, _)| name != "www-authenticate" || status == 401);
    if is_head {
        headers.extend(kept_headers(response.headers(), &["content-length"]));
    }
    headers.sort();
    NetworkEntry {
        url: place.recorded.clone(),
        method: request.head.method.clone(),
        accept: None,
        body: None,
        status,
        sha256: EMPTY_SHA256.into(),
        size: 0,
        headers,
    }
}

fn kept_headers(headers: &HeaderMap, names: &[&str]) -> Vec<(String, String)> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let printable = |value: &&str| value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    names
        .iter()
        .filter_map(|name| Some((name.to_string(), value(name).filter(printable)?.to_owned())))
        .collect()
}

/// Bodies of redirects and error pages differ from day to day, so they are no part of a build.
fn has_body(entry: &NetworkEntry) -> bool {
    entry.status < 300 && entry.method != "HEAD"
}

pub(super) fn start(entry: &NetworkEntry) -> Start {
    Start { status: entry.status, headers: entry.headers.clone(), length: Some(entry.size) }
}

/// The client sees what the server said, and the build fails.
fn pass_on(response: Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let headers = kept_headers(response.headers(), &["content-encoding", "content-type"]);
    let mut body = Vec::new();
    let page = response.into_body().into_reader().take(MAX_ERROR_PAGE).read_to_end(&mut body);
    if page.is_err() {
        body.clear();
    }
    let start = Start { status, headers, length: None };
    Failure { reason: format!("the server answered {status}"), answer: Some((start, body)) }
}
