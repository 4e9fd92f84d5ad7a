//! One client connection: requests in, with deadlines, one after the other even if they come at once.

use std::time::{Duration, Instant};

use super::request::{Bad, Chunks, Framing, Head, MAX_BODY, Request, Target, parse_head};
use super::wire::{IDLE_TIME, Wire};

/// Time for a request head, from its first byte.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time for a request body.
const BODY_TIME: Duration = Duration::from_secs(120);
/// What clients say that take HTTP/2 for granted.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// The receiving half of a connection.
pub struct Connection<'a> {
    wire: &'a Wire<'a>,
    /// Bytes that came, not yet used: clients may send several requests before the first answer.
    buffer: Vec<u8>,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    Request(Box<Request>),
    /// A request for a tunnel to this host and port.
    Tunnel(String),
    Bad(Bad),
    /// The client speaks HTTP/2.
    Http2,
    /// The client is gone, or too slow.
    End,
}

impl<'a> Connection<'a> {
    pub fn new(wire: &'a Wire<'a>) -> Connection<'a> {
        Connection { wire, buffer: Vec::new() }
    }

    /// What came after the last request.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// Waits for the next request.
    pub fn next(&mut self) -> Next {
        match self.head().and_then(|head| self.request(head)) {
            Ok(next) => next,
            Err(End::Gone) => Next::End,
            Err(End::Bad(_)) if self.buffer.starts_with(HTTP2) => Next::Http2,
            Err(End::Bad(bad)) => Next::Bad(bad),
        }
    }

    fn head(&mut self) -> Result<Head, End> {
        let mut deadline = None;
        loop {
            // Empty lines before a request are noise of old clients.
            let noise = self.buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.buffer.drain(..noise);
            if let Some((head, length)) = parse_head(&self.buffer, self.wire.is_secure()).map_err(End::Bad)? {
                self.buffer.drain(..length);
                return Ok(head);
            }
            if !self.buffer.is_empty() && deadline.is_none() {
                deadline = Some(Instant::now() + HEAD_TIME);
            }
            self.fill(deadline.unwrap_or_else(|| Instant::now() + IDLE_TIME))?;
        }
    }

    fn request(&mut self, head: Head) -> Result<Next, End> {
        let url = match &head.target {
            Target::Url(url) => url.clone(),
            Target::Tunnel(host) => return Ok(Next::Tunnel(host.clone())),
        };
        if head.expects_continue && head.framing != Framing::Length(0) && self.buffer.is_empty() {
            self.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| End::Gone)?;
        }
        let deadline = Instant::now() + BODY_TIME;
        let body = match head.framing {
            Framing::Length(length) => {
                while self.buffer.len() < length {
                    self.fill(deadline)?;
                }
                self.buffer.drain(..length).collect()
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                loop {
                    let used = chunks.feed(&self.buffer).map_err(End::Bad)?;
                    self.buffer.drain(..used);
                    if chunks.is_done() {
                        break chunks.body;
                    }
                    self.fill(deadline)?;
                }
            }
        };
        Ok(Next::Request(Box::new(Request { head, url, body })))
    }

    /// Reads more.
    fn fill(&mut self, deadline: Instant) -> Result<(), End> {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() || self.buffer.len() > 2 * MAX_BODY {
            return Err(End::Gone);
        }
        let mut piece = [0; 16 * 1024];
        match self.wire.read(&mut piece, deadline) {
            Ok(0) | Err(_) => Err(End::Gone),
            Ok(n_read) => {
                self.buffer.extend_from_slice(piece.get(..n_read).unwrap_or_default());
                Ok(())
            }
        }
    }
}

enum End {
    Gone,
    Bad(Bad),
}
