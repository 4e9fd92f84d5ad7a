//! git's smart protocol over our own HTTP client, so that proxies, certificates, time limits and the off switch are
//! those of all other requests, and no setting of git's on this machine counts.

use std::any::Any;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse,
};
use ureq::ResponseExt;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::super::http::{Call, Client, Error, Redirects, Refused, request_error};
use super::super::settings::Reach;

/// Most bytes of one answer: a server that never ends must not fill the disk.
const MAX_BYTES: u64 = 16 << 30;

/// A connection to one server, as far as there is such a thing in HTTP.
pub(super) struct Wire<'a> {
    client: &'a Client,
    cancel: &'a AtomicBool,
    /// Where the first answer came from, after redirects.
    base: Option<String>,
    failure: Failure,
}

/// What went wrong, in our own words; git's library passes texts only.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Refused>>>);

impl Failure {
    /// The failure, if a request failed.
    pub(super) fn take(&self) -> Option<Refused> {
        lock(&self.0).take()
    }

    fn put(&self, refused: Refused) -> std::io::Error {
        let error = std::io::Error::other(refused.failure.to_string());
        *lock(&self.0) = Some(refused);
        error
    }
}

impl<'a> Wire<'a> {
    pub(super) fn new(client: &'a Client, cancel: &'a AtomicBool, failure: Failure) -> Wire<'a> {
        Wire { client, cancel, base: None, failure }
    }
}

/// A request that is sent once its body is written, and its answer.
struct Exchange<'a> {
    client: &'a Client,
    cancel: &'a AtomicBool,
    failure: Failure,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Headers, one per line.
    head: Cursor<Vec<u8>>,
    answer: Option<BufReader<Box<dyn Read + Send>>>,
}

type Shared<'a> = Arc<Mutex<Exchange<'a>>>;

/// The body of the request.
pub(super) struct Request<'a>(Shared<'a>);

/// Headers of the answer, one per line.
pub(super) struct Head<'a> {
    exchange: Shared<'a>,
    line: Vec<u8>,
}

/// The body of the answer.
pub(super) struct Answer<'a> {
    exchange: Shared<'a>,
    buffer: Vec<u8>,
    start: usize,
    left: u64,
}

impl<'a> Http for Wire<'a> {
    type Headers = Head<'a>;
    type ResponseBody = Answer<'a>;
    type PostBody = Request<'a>;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Head<'a>, Answer<'a>>> {
        let exchange = self.exchange(url, base_url, headers);
        let end = lock(&exchange).send("GET", Redirects::Follow).map_err(gix::Error::from_error)?;
        let tail = url.strip_prefix(base_url).unwrap_or_default();
        if end != url {
            // git does not follow redirects that change what is asked for, and never out of TLS.
            let base =
                end.strip_suffix(tail).filter(|_| !url.starts_with("https:") || end.starts_with("https:"));
            let Some(base) = base else {
                let message = format!("{url}: a redirect to {end} is not followed");
                return Err(gix::Error::from_error(std::io::Error::other(message)));
            };
            self.base = Some(base.to_owned());
        }
        let (headers, body) = answers(exchange);
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Head<'a>, Answer<'a>, Request<'a>>> {
        let exchange = self.exchange(url, base_url, headers);
        let post_body = Request(exchange.clone());
        let (headers, body) = answers(exchange);
        Ok(PostResponse { post_body, headers, body })
    }

    fn configure(&mut self, _: &dyn Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.base.clone()
    }
}

impl<'a> Wire<'a> {
    fn exchange(
        &self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Shared<'a> {
        let url = match &self.base {
            Some(base) => format!("{base}{}", url.strip_prefix(base_url).unwrap_or_default()),
            None => url.to_owned(),
        };
        let mut map = HeaderMap::new();
        for line in headers {
            let Some((name, value)) = line.as_ref().split_once(':') else { continue };
            // Our own client says who we are.
            let name = name.parse::<HeaderName>().ok().filter(|it| it.as_str() != "user-agent");
            map.extend(name.zip(HeaderValue::from_str(value.trim()).ok()));
        }
        Arc::new(Mutex::new(Exchange {
            client: self.client,
            cancel: self.cancel,
            failure: self.failure.clone(),
            url,
            headers: map,
            body: Vec::new(),
            head: Cursor::default(),
            answer: None,
        }))
    }
}

impl Exchange<'_> {
    /// Sends the request; the URL that answered.
    fn send(&mut self, method: &str, redirects: Redirects) -> std::io::Result<String> {
        let body = (method == "POST").then_some(self.body.as_slice());
        let headers = self.headers.clone();
        let call = Call { method, url: &self.url, headers, body, redirects, reach: Reach::Any };
        let answered = self.client.call(&call).map_err(Refused::from);
        let response = answered
            .and_then(|it| Refused::unless_ok(&self.url, &it).map(|()| it))
            .map_err(|refused| self.failure.put(refused))?;
        let end = response.get_uri().to_string();
        let mut head = Vec::new();
        for (name, value) in response.headers() {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
        self.head = Cursor::new(head);
        self.answer = Some(BufReader::new(Box::new(self.client.reader(response))));
        Ok(end)
    }

    fn answer(&mut self) -> std::io::Result<&mut BufReader<Box<dyn Read + Send>>> {
        if self.answer.is_none() {
            self.send("POST", Redirects::Keep)?;
        }
        self.answer.as_mut().ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(self.failure.put(Error::Cancelled.into()));
        }
        let url = self.url.clone();
        let read = self.answer()?.read(buffer);
        read.map_err(|err| self.failure.put(request_error(&url, err.into()).into()))
    }
}

fn answers(exchange: Shared<'_>) -> (Head<'_>, Answer<'_>) {
    let head = Head { exchange: exchange.clone(), line: Vec::new() };
    (head, Answer { exchange, buffer: Vec::new(), start: 0, left: MAX_BYTES })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Write for Request<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).body.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl BufRead for Head<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.line.is_empty() {
            let mut exchange = lock(&self.exchange);
            exchange.answer()?;
            exchange.head.read_until(b'\n', &mut self.line)?;
        }
        Ok(&self.line)
    }

    fn consume(&mut self, n: usize) {
        self.line.drain(..n.min(self.line.len()));
    }
}

impl Read for Head<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        read_buffered(self, buffer)
    }
}

impl BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.buffer.resize(64 * 1024, 0);
            self.start = 0;
            let read = lock(&self.exchange).read(&mut self.buffer);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            let n = read? as u64;
            self.left = self.left.checked_sub(n).ok_or_else(|| {
                std::io::Error::other(format!("the answer has more than {MAX_BYTES} bytes"))
            })?;
        }
        Ok(self.buffer.get(self.start..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.buffer.len());
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> std::io::Result<usize> {
    let n = reader.fill_buf()?.read(buffer)?;
    reader.consume(n);
    Ok(n)
}
