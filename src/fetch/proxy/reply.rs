//! One answer on its way to a client.
//!
//! The last piece of a body is held back until the body is known to be right: a client either gets a whole
//! and true answer, or notices that it did not. Small answers are sent in one go, so a failure while they
//! arrive can still become an error text.

use super::request::Head;
use super::wire::Wire;

/// Bytes that are held back before anything is sent.
const HELD: usize = 256 * 1024;

/// An answer in the making.
pub struct Reply<'a> {
    wire: &'a Wire<'a>,
    minor: u8,
    head_only: bool,
    keep_alive: bool,
    start: Start,
    held: Vec<u8>,
    state: State,
}

/// Status line and headers.
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Length of the body, if it is known before the body is.
    pub length: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is on the wire.
    Held,
    Plain,
    Chunked,
    /// The client does not listen any more.
    Gone,
}

impl<'a> Reply<'a> {
    pub fn new(wire: &'a Wire<'a>, head: &Head) -> Reply<'a> {
        Reply {
            head_only: head.method == "HEAD",
            keep_alive: head.keep_alive,
            ..Reply::plain(wire, head.minor)
        }
    }

    /// For requests that could not be read: their connection cannot be used again.
    pub fn last(wire: &'a Wire<'a>) -> Reply<'a> {
        Reply::plain(wire, 1)
    }

    fn plain(wire: &'a Wire<'a>, minor: u8) -> Reply<'a> {
        Reply {
            wire,
            minor,
            head_only: false,
            keep_alive: false,
            start: Start::default(),
            held: Vec::new(),
            state: State::Held,
        }
    }

    /// Another one, that nobody hears.
    pub fn unheard(&self) -> Reply<'a> {
        Reply { state: State::Gone, ..Reply::plain(self.wire, self.minor) }
    }

    /// Something of it may have reached the client.
    pub fn is_on_its_way(&self) -> bool {
        self.state != State::Held
    }

    /// Begins, or begins anew while nothing is on its way.
    pub fn begin(&mut self, start: Start) {
        if self.state == State::Held {
            self.start = start;
            self.held.clear();
        }
    }

    /// The next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.held.len() + bytes.len() > HELD && !self.held.is_empty() {
            self.send_held();
        }
        if self.state != State::Gone {
            self.held.extend_from_slice(bytes);
        }
    }

    /// Ends the answer; true if the connection can be used again.
    pub fn finish(mut self) -> bool {
        if self.state == State::Held {
            self.start.length = Some(self.held.len() as u64);
        }
        self.send_held();
        if self.state == State::Chunked {
            self.write(b"0\r\n\r\n");
        }
        self.state != State::Gone && self.keep_alive
    }

    /// Ends with an error text, or with a cut when it is too late for that.
    pub fn fail(mut self, status: u16, text: &str) -> bool {
        if self.is_on_its_way() {
            self.wire.cut();
            return false;
        }
        let content_type = ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned());
        self.begin(Start { status, headers: vec![content_type], length: None });
        self.push(format!("raptor: {text}\n").as_bytes());
        self.finish()
    }

    fn send_held(&mut self) {
        let mut out = if self.state == State::Held { self.head().into_bytes() } else { Vec::new() };
        let held = std::mem::take(&mut self.held);
        if !self.head_only && !held.is_empty() {
            let is_chunk = self.state == State::Chunked;
            if is_chunk {
                out.extend_from_slice(format!("{:x}\r\n", held.len()).as_bytes());
            }
            out.extend_from_slice(&held);
            out.extend_from_slice(if is_chunk { b"\r\n" } else { b"" });
        }
        self.write(&out);
    }

    /// Chooses how the end of the body is told, and renders the head.
    fn head(&mut self) -> String {
        let Start { status, headers, length } = std::mem::take(&mut self.start);
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.state = State::Plain;
        match length {
            // What the length of the body would be is not known here, and 204 and 304 have none.
            _ if self.head_only || matches!(status, 204 | 304) => {}
            Some(length) => head += &format!("content-length: {length}\r\n"),
            None if self.minor == 0 => self.keep_alive = false,
            None => {
                head += "transfer-encoding: chunked\r\n";
                self.state = State::Chunked;
            }
        }
        head += if self.keep_alive { "\r\n" } else { "connection: close\r\n\r\n" };
        head
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.state != State::Gone && self.wire.write_all(bytes).is_err() {
            self.state = State::Gone;
        }
    }
}

fn reason(status: u16) -> &'static str {
    let known = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("Answer")
}
