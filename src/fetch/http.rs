//! The HTTP client: time limits, retries, and an off switch.
//!
//! Bodies are handed out exactly as they are sent; nobody decodes them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderMap, Request, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use super::debian::Mirror;
use super::elsewhere::Elsewhere;
use super::oci::{self, Registries};
use super::pace::Paced;
use super::secret::shown;
use super::settings::{Names, Reach, Retry, Settings, proxy, root_certs};
use crate::store;

/// Time for a connection, with name lookup and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network is switched off.
    #[error("{} is needed, but the network is switched off (--offline)", shown(.url))]
    Offline {
        /// What was wanted.
        url: String,
    },
    /// No answer.
    #[error("{}: {source}", shown(.url))]
    Request {
        /// What was wanted.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// An answer, but not the body.
    #[error("{}: the server answered {status}", shown(.url))]
    Status {
        /// What was wanted.
        url: String,
        /// Status of the answer.
        status: u16,
    },
    /// More bytes than the caller takes.
    #[error("{}: longer than {limit} bytes", shown(.url))]
    TooLong {
        /// What was wanted.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("{}: not UTF-8 text", shown(.url))]
    NotText {
        /// What was wanted.
        url: String,
    },
    /// Not the bytes that are pinned.
    #[error("{}: wrong size: expected {expected} bytes, found {found}", shown(.url))]
    Size {
        /// Where it came from.
        url: String,
        /// Pinned size.
        expected: u64,
        /// Size of what came.
        found: u64,
    },
    /// Not the bytes that are pinned.
    #[error("{}: wrong content: expected {kind} {expected}, found {found}", shown(.url))]
    Digest {
        /// Where it came from.
        url: String,
        /// `sha256` or `blake3`
        kind: &'static str,
        /// Pinned digest.
        expected: String,
        /// Digest of what came.
        found: String,
    },
    /// Every place failed.
    #[error("{name} could not be fetched: {}", .failures.iter().map(Error::to_string).collect::<Vec<_>>().join("; "))]
    Everywhere {
        /// What was wanted.
        name: String,
        /// One failure per URL, in their order.
        failures: Vec<Error>,
    },
    /// What came, or is there, is not what a package is made of.
    #[error("{url}: {reason}")]
    Content {
        /// Where it came from.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request itself makes no sense.
    #[error("{name}: {reason}")]
    Wanted {
        /// What was wanted.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{setting}: {reason}")]
    Setting {
        /// Variable or file.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A registry has not what was wanted, or not for us.
    #[error("{name}: {reason}")]
    Registry {
        /// What was wanted.
        name: String,
        /// Why there is none.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Somebody else's failure ended this.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether what is pinned was looked for, and not found.
    pub fn is_lost(&self) -> bool {
        match self {
            Error::Request { .. } | Error::Status { .. } | Error::Size { .. } | Error::Digest { .. } => true,
            Error::Everywhere { failures, .. } => failures.iter().any(Error::is_lost),
            _ => false,
        }
    }

    /// Status of the answer, if there was one and it is the reason.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Registry { hint, .. } => hint.as_deref(),
            Error::Everywhere { failures, .. } => failures.iter().find_map(Error::hint),
            _ => None,
        }
    }
}

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    tls: TlsConfig,
    /// Agents for `http:` and `https:`, by [`Reach`].
    agents: BTreeMap<(bool, Reach), Agent>,
    registries: Registries,
}

/// What becomes of redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    /// They are followed.
    Follow,
    /// They are the answer.
    Keep,
}

/// A request.
pub(super) struct Call<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: HeaderMap,
    pub body: Option<&'a [u8]>,
    pub redirects: Redirects,
    pub reach: Reach,
}

impl<'a> Call<'a> {
    /// A plain GET, for our own use.
    pub fn get(url: &'a str) -> Call<'a> {
        let redirects = Redirects::Follow;
        Call { method: "GET", url, headers: HeaderMap::new(), body: None, redirects, reach: Reach::Any }
    }
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: Settings) -> Result<Client, Error> {
        let tls = TlsConfig::builder().root_certs(root_certs(settings.ca_file.as_deref())?).build();
        Client::connect(settings, tls)
    }

    fn connect(settings: Settings, tls: TlsConfig) -> Result<Client, Error> {
        let mut agents = BTreeMap::new();
        let silence = settings.silence;
        for secure in [false, true] {
            let setting = if secure { "https_proxy" } else { "http_proxy" };
            let url = if secure { &settings.https_proxy } else { &settings.http_proxy };
            let proxy = url.as_deref().map(|url| proxy(setting, url, &settings.no_proxy)).transpose()?;
            for reach in [Reach::Any, Reach::Public] {
                let config = Config::builder()
                    .http_status_as_error(false)
                    .user_agent(concat!("raptor/", env!("CARGO_PKG_VERSION")))
                    .accept_encoding("identity")
                    .timeout_resolve(Some(CONNECT_TIMEOUT))
                    .timeout_connect(Some(CONNECT_TIMEOUT))
                    .timeout_recv_response(Some(silence))
                    .timeout_per_read(Some(silence))
                    .timeout_per_write(Some(silence))
                    .allow_non_standard_methods(true)
                    .max_idle_connections_per_host(8)
                    .proxy(proxy.clone())
                    .tls_config(tls.clone())
                    .build();
                let names = Names {
                    pinned: settings.hosts.clone(),
                    reach,
                    proxy: proxy.as_ref().map(|it| format!("{}:{}", it.host(), it.port())),
                    known: Default::default(),
                };
                let agent = Agent::with_parts(config, DefaultConnector::default(), names);
                agents.insert((secure, reach), agent);
            }
        }
        Ok(Client { shared: Arc::new(Shared { settings, tls, agents, registries: Registries::default() }) })
    }

    /// A client of the same settings with connections of its own.
    pub(super) fn separate(&self) -> Result<Client, Error> {
        Client::connect(self.shared.settings.clone(), self.shared.tls.clone())
    }

    /// A client of the same settings that takes any certificate.
    pub(super) fn careless(&self) -> Result<Client, Error> {
        let tls = TlsConfig::builder().disable_verification(true).build();
        Client::connect(self.shared.settings.clone(), tls)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn registries(&self) -> &Registries {
        &self.shared.registries
    }

    /// Ends what this client and its clones are doing, now and later.
    pub fn shut_down(&self) {
        self.shared.agents.values().for_each(|agent| agent.clone().shutdown());
        self.shared.registries.shut_down();
    }

    /// Every request will fail, because the settings say so.
    pub fn is_offline(&self) -> bool {
        self.shared.settings.offline
    }

    /// Where else to look.
    pub(super) fn elsewhere(&self) -> &Elsewhere {
        &self.shared.settings.elsewhere
    }

    /// The body of an answer, which must come at some pace.
    pub(super) fn reader(&self, response: Response<Body>) -> impl Read + 'static {
        Paced::new(response.into_body().into_reader(), self.shared.settings.silence)
    }

    /// Debian's archive as it was at these times, as mirrors to try after all others.
    pub fn snapshots(&self, times: &[i64]) -> Vec<Mirror> {
        if self.is_offline() { Vec::new() } else { self.elsewhere().snapshots(times) }
    }

    /// Patience of this client with one request.
    pub(super) fn patience(&self) -> Patience {
        let Retry { attempts, first_wait, longest_wait } = self.shared.settings.retry;
        Patience { left: attempts.saturating_sub(1), wait: first_wait, longest_wait }
    }

    /// The body of a URL as text, of at most `limit` bytes.
    pub fn get_text(&self, url: &str, limit: u64) -> Result<String, Error> {
        String::from_utf8(self.get_bytes(url, limit)?).map_err(|_| Error::NotText { url: url.to_owned() })
    }

    /// The body of a URL, of at most `limit` bytes.
    pub fn get_bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut patience = self.patience();
        loop {
            let error = match self.get_bytes_once(url, limit) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            if !error.failure.is_transient() || !patience.again(error.retry_after, &AtomicBool::new(false)) {
                return Err(error.failure);
            }
        }
    }

    fn get_bytes_once(&self, url: &str, limit: u64) -> Result<Vec<u8>, Refused> {
        let response = self.call(&Call::get(url))?;
        Refused::unless_ok(url, &response)?;
        let mut bytes = Vec::new();
        let mut reader = self.reader(response).take(limit.saturating_add(1));
        reader.read_to_end(&mut bytes).map_err(|err| request_error(url, err.into()))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLong { url: url.to_owned(), limit }.into());
        }
        Ok(bytes)
    }

    /// Sends a request once, also to a registry, if the URL names a blob of one.
    pub(super) fn ask(&self, call: &Call) -> Result<Response<Body>, Refused> {
        match call.url.starts_with("docker://") {
            true => oci::blob(self, call),
            false => Ok(self.call(call)?),
        }
    }

    /// Sends a request once; any status is an answer.
    pub(super) fn call(&self, call: &Call) -> Result<Response<Body>, Error> {
        let Call { method, url, .. } = *call;
        if self.is_offline() {
            return Err(Error::Offline { url: url.to_owned() });
        }
        let failed = |source: ureq::Error| request_error(url, source);
        let uri: Uri = url.parse().map_err(|err| failed(ureq::http::Error::from(err).into()))?;
        let secure = uri.scheme_str() == Some("https");
        let Some(agent) = self.shared.agents.get(&(secure, call.reach)) else {
            return Err(failed(ureq::Error::BadUri(url.to_owned())));
        };
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(headers) = request.headers_mut() {
            headers.extend(call.headers.clone());
        }
        let redirects = if call.redirects == Redirects::Follow { 10 } else { 0 };
        let response = match call.body {
            Some(body) => {
                let request = request.body(body).map_err(|err| failed(err.into()))?;
                agent.run(agent.configure_request(request).max_redirects(redirects).build())
            }
            None => {
                let request = request.body(()).map_err(|err| failed(err.into()))?;
                agent.run(agent.configure_request(request).max_redirects(redirects).build())
            }
        };
        response.map_err(failed)
    }
}

pub(super) fn request_error(url: &str, source: ureq::Error) -> Error {
    Error::Request { url: url.to_owned(), source: Box::new(source) }
}

/// A failure, and when the server asks us to come back.
pub(super) struct Refused {
    pub failure: Error,
    pub retry_after: Option<Duration>,
}

impl Refused {
    pub fn unless_ok(url: &str, response: &Response<Body>) -> Result<(), Refused> {
        match response.status().as_u16() {
            200 | 206 => Ok(()),
            status => Err(Refused {
                failure: Error::Status { url: url.to_owned(), status },
                retry_after: retry_after(response.headers()),
            }),
        }
    }

    /// As [`Refused::unless_ok`], for callers that asked for the rest of a body.
    pub fn unless_content(url: &str, response: &Response<Body>) -> Result<(), Refused> {
        if response.status() == 416 { Ok(()) } else { Refused::unless_ok(url, response) }
    }
}

impl From<Error> for Refused {
    fn from(failure: Error) -> Refused {
        Refused { failure, retry_after: None }
    }
}

/// Statuses that say "not now" rather than anything about the request.
pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// `Retry-After` in seconds; a date is as good as nothing.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Error {
    /// May another try succeed?
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Error::Status { status, .. } => is_transient_status(*status),
            Error::Request { source, .. } => match &**source {
                ureq::Error::Io(err) => !matches!(
                    err.kind(),
                    // Certificates that are not trusted, forbidden addresses, a client that was shut down.
                    std::io::ErrorKind::InvalidData
                        | std::io::ErrorKind::PermissionDenied
                        | std::io::ErrorKind::NotConnected
                ),
                ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }
}

/// Counts the tries of one request and waits between them.
pub(super) struct Patience {
    left: u32,
    wait: Duration,
    longest_wait: Duration,
}

impl Patience {
    /// Waits for the next try; false if there is none or `cancel` is set meanwhile.
    pub fn again(&mut self, asked: Option<Duration>, cancel: &AtomicBool) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let until = Instant::now() + asked.unwrap_or(self.wait).min(self.longest_wait);
        self.wait = self.wait.saturating_mul(2);
        loop {
            if cancel.load(Ordering::Relaxed) {
                return false;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return true;
            }
            std::thread::sleep(rest.min(Duration::from_millis(50)));
        }
    }
}
