//! Requests as clients send them: parsed from any bytes, within limits, without trust.

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Longest request line and headers, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest request body, in bytes.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
const MAX_HEADERS: usize = 128;

/// Headers that are between a client and its proxy, that we set ourselves, or that ask for part of an answer.
const NOT_FORWARDED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a request gets no answer but an error, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// HTTP status.
    pub status: u16,
    /// For the client to read.
    pub reason: &'static str,
}

fn bad(status: u16, reason: &'static str) -> Bad {
    Bad { status, reason }
}

/// Request line and headers.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: Target,
    /// Minor version of HTTP/1.
    pub minor: u8,
    /// As it goes into the key of the request: nothing for `*/*`.
    pub accept: Option<String>,
    /// What the server is told.
    pub forwarded: HeaderMap,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// The part of the answer that is wanted, as it was asked for.
    pub range: Option<Range>,
    /// The client wants another protocol than HTTP on this connection, and cannot do without.
    pub wants_websocket: bool,
    /// There is something in the headers that proves who asks.
    pub has_credentials: bool,
}

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte, or none for the last bytes.
    pub first: Option<u64>,
    /// Last byte, or how many of the last.
    pub last: Option<u64>,
    /// `ETag` or `Last-Modified` that the whole must have.
    pub unless_changed: Option<String>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// URL in normal form: host in lower case, no usual port, no fragment. It may hold a user name and a password.
    Url(String),
    /// Any connection with this host and port.
    Tunnel(String),
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// By a last chunk.
    Chunked,
}

/// A whole request.
#[derive(Debug)]
pub struct Request {
    pub head: Head,
    /// As the client asked for it, secrets included: nobody is told.
    pub url: String,
    pub body: Vec<u8>,
}

impl Request {
    /// sha256 of the body, if there is one.
    pub fn body_digest(&self) -> Option<String> {
        (!self.body.is_empty()).then(|| format!("{:x}", Sha256::digest(&self.body)))
    }
}

/// Parses the head of a request at the start of `buffer`, which came through TLS or not, and gives its length. `None`:
/// more bytes are needed.
pub fn parse_head(buffer: &[u8], secure: bool) -> Result<Option<(Head, usize)>, Bad> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let window = buffer.get(..MAX_HEAD).unwrap_or(buffer);
    let length = match parsed.parse(window) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() >= MAX_HEAD => {
            return Err(bad(431, "the request line and headers are too long"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(bad(431, "there are too many headers")),
        Err(_) => return Err(bad(400, "this is not an HTTP/1 request")),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad(400, "this is not an HTTP/1 request"));
    };
    let headers: Vec<(String, &[u8])> =
        parsed.headers.iter().map(|it| (it.name.to_ascii_lowercase(), it.value.trim_ascii())).collect();
    if !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(bad(501, "this method is not supported"));
    }
    let connection = tokens(&headers, "connection");
    let has = |token: &str| connection.iter().any(|it| it == token);
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let head = Head {
        method: method.to_owned(),
        target: parse_target(method, target, scheme, host(&headers)?)?,
        minor,
        accept: accept(&headers)?,
        forwarded: forwarded(&headers, &connection),
        framing: framing(&headers)?,
        keep_alive: minor == 1 && !has("close"),
        expects_continue: minor == 1 && tokens(&headers, "expect").iter().any(|it| it == "100-continue"),
        range: if method == "GET" { range(&headers) } else { None },
        wants_websocket: tokens(&headers, "upgrade").iter().any(|it| it == "websocket"),
        has_credentials: headers.iter().any(|(name, _)| is_credential(name)),
    };
    Ok(Some((head, length)))
}

fn values<'a>(headers: &'a [(String, &'a [u8])], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(it, _)| it == name).map(|(_, value)| *value)
}

/// The comma-separated words of a header, in lower case.
fn tokens(headers: &[(String, &[u8])], name: &str) -> Vec<String> {
    values(headers, name)
        .flat_map(|value| value.split(|b| *b == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        .filter(|token| !token.is_empty())
        .collect()
}

fn host<'a>(headers: &'a [(String, &'a [u8])]) -> Result<&'a str, Bad> {
    let mut hosts = values(headers, "host");
    match (hosts.next().map(std::str::from_utf8), hosts.next()) {
        (Some(Ok(host)), None) if !host.contains('@') => Ok(host),
        (None, None) => Err(bad(400, "the Host header is missing")),
        _ => Err(bad(400, "there is more than one host, or a strange one")),
    }
}

/// What URLs begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

fn parse_target(method: &str, target: &str, scheme: Scheme, host: &str) -> Result<Target, Bad> {
    if method == "CONNECT" {
        return Ok(Target::Tunnel(authority(without_user(target).1, "")?));
    }
    if let Some(path) = target.strip_prefix('/') {
        return url(scheme, host, &format!("/{path}")).map(Target::Url);
    }
    let Some((named, rest)) = target.split_once("://") else {
        return Err(bad(400, "the request target is neither a path nor a URL"));
    };
    let scheme = match named.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "ftp" => return Err(bad(501, "FTP is not recorded; only http and https are")),
        _ => return Err(bad(501, "this is not recorded; only http and https are")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    url(scheme, host, path).map(Target::Url)
}

/// User and password of an authority, and the rest.
fn without_user(authority: &str) -> (&str, &str) {
    authority.rsplit_once('@').unwrap_or(("", authority))
}

/// A URL in normal form.
pub fn url(scheme: Scheme, host: &str, path: &str) -> Result<String, Bad> {
    let (user, host) = without_user(host);
    let at = if user.is_empty() { "" } else { "@" };
    let (name, port) = if scheme == Scheme::Https { ("https", ":443") } else { ("http", ":80") };
    let host = authority(host, port)?;
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("{name}://{user}{at}{host}{slash}{path}");
    match url.bytes().all(|b| b.is_ascii_graphic()) && url.parse::<Uri>().is_ok() {
        true => Ok(url),
        false => Err(bad(400, "the path is not valid in a URL")),
    }
}

fn authority(host: &str, default_port: &str) -> Result<String, Bad> {
    let wrong = bad(400, "the host is not valid");
    let lower = host.to_ascii_lowercase();
    let lower = lower.strip_suffix(default_port).unwrap_or(&lower);
    let (name, port) = match lower.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((name, port)) if name.parse::<std::net::Ipv6Addr>().is_ok() => (name, port.strip_prefix(':')),
        Some(_) => return Err(wrong),
        None => match lower.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (lower, None),
        },
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let good = !name.is_empty() && name.bytes().all(is_name) && port.is_none_or(is_port);
    if good { Ok(lower.to_owned()) } else { Err(wrong) }
}

fn accept(headers: &[(String, &[u8])]) -> Result<Option<String>, Bad> {
    let values: Vec<String> =
        values(headers, "accept").map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    let accept = values.join(", ");
    if !accept.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(bad(400, "the Accept header is not ASCII"));
    }
    Ok(Some(accept).filter(|it| !it.is_empty() && it != "*/*"))
}

/// One range of bytes; several at once are as good as none.
fn range(headers: &[(String, &[u8])]) -> Option<Range> {
    let text = |name: &str| {
        let mut all = values(headers, name);
        let first = all.next().and_then(|it| std::str::from_utf8(it).ok());
        first.filter(|_| all.next().is_none())
    };
    let (first, last) = text("range")?.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    let makes_sense = match (first, last) {
        (None, None) => false,
        (Some(first), Some(last)) => first <= last,
        _ => true,
    };
    let unless_changed = text("if-range").map(str::to_owned);
    makes_sense.then_some(Range { first, last, unless_changed })
}

/// Whether a header proves who asks.
fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "cookie") || name.contains("token") || name.contains("api-key")
}

fn forwarded(headers: &[(String, &[u8])], connection: &[String]) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers {
        if NOT_FORWARDED.contains(&name.as_str()) || name.starts_with("if-") || connection.contains(name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            forwarded.append(name, value);
        }
    }
    forwarded
}

fn framing(headers: &[(String, &[u8])]) -> Result<Framing, Bad> {
    let encodings = tokens(headers, "transfer-encoding");
    let lengths = tokens(headers, "content-length");
    // Who trusts both can be made to see other requests than the next one does.
    match (encodings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [length]) if length.bytes().all(|b| b.is_ascii_digit()) => {
            match length.parse::<usize>().ok().filter(|length| *length <= MAX_BODY) {
                Some(length) => Ok(Framing::Length(length)),
                None => Err(TOO_LONG),
            }
        }
        ([encoding], []) if encoding == "chunked" => Ok(Framing::Chunked),
        ([_, ..], []) => Err(bad(501, "this Transfer-Encoding is not supported")),
        _ => Err(bad(400, "the length of the body is not clear")),
    }
}

const TOO_LONG: Bad = Bad { status: 413, reason: "the request body is too long" };

/// Collects a chunked body from pieces of any size.
#[derive(Debug, Default)]
pub struct Chunks {
    pub body: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
    Done,
}

impl Chunks {
    /// Takes what it can from the start of `input` and says how much; what is left is needed again, with more.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, Bad> {
        let strange = bad(400, "a chunk of the request body is malformed");
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.state {
                State::Done => return Ok(used),
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        used += length;
                        let size = usize::try_from(size).map_err(|_| TOO_LONG)?;
                        if size > MAX_BODY - self.body.len() {
                            return Err(TOO_LONG);
                        }
                        self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if rest.len() < 1024 => return Ok(used),
                    _ => return Err(strange),
                },
                State::Data(missing) => {
                    let part = rest.get(..missing).unwrap_or(rest);
                    if part.is_empty() {
                        return Ok(used);
                    }
                    self.body.extend_from_slice(part);
                    used += part.len();
                    let missing = missing - part.len();
                    self.state = if missing == 0 { State::DataEnd } else { State::Data(missing) };
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(used),
                    _ => return Err(strange),
                },
                State::Trailer => match rest.iter().position(|b| *b == b'\n') {
                    Some(end) => {
                        let line = rest.get(..end).unwrap_or_default();
                        used += end + 1;
                        if line.is_empty() || line == b"\r" {
                            self.state = State::Done;
                        }
                    }
                    None if rest.len() < 4096 => return Ok(used),
                    None => return Err(strange),
                },
            }
        }
    }

    /// The last chunk was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
