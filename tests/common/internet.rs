//! The whole internet of a test: an HTTP proxy on loopback that answers for every host.
//!
//! RUN steps may not reach servers of this machine; what they ask of any other goes through the proxy of the
//! environment, as the engine's own downloads do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The body; the rest of it, if that is asked for.
    Ok(Vec<u8>),
    /// A status and a header line.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(Vec<u8>, usize),
    /// Less than is promised, on a connection that stays open for a while.
    Stall(Vec<u8>, Duration),
}

type Handler = dyn Fn(&str, usize) -> Answer + Send + Sync;

/// It lives as long as the test process.
pub struct Internet {
    proxy: String,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Arc<Handler>>,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl Internet {
    /// `answer` gets a URL, and how often that was asked for before.
    pub fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Internet {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { answer: Mutex::new(Arc::new(answer)), seen: Mutex::default() });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = theirs.clone();
                // A client that has gone away is no concern of the proxy.
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Internet { proxy, shared }
    }

    /// From now on, answers are others, and nothing was asked before.
    pub fn becomes(&self, answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
        self.shared.seen.lock().unwrap().clear();
    }

    /// Lets a command reach it, and nothing else.
    pub fn serves<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("http_proxy", &self.proxy).env_remove("no_proxy").env_remove("https_proxy")
    }

    /// How often each URL was asked for.
    pub fn seen(&self) -> BTreeMap<String, usize> {
        self.shared.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut host = String::new();
    loop {
        let Some((words, from)) = read_head(&mut reader)? else { return Ok(()) };
        let [method, target, ..] = &words[..] else { return Ok(()) };
        if method == "CONNECT" {
            host = target.trim_end_matches(":80").to_owned();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            continue;
        }
        let url = format!("http://{host}{target}");
        let before = {
            let mut seen = shared.seen.lock().unwrap();
            let count = seen.entry(url.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let answer = shared.answer.lock().unwrap().clone();
        let length = |body: &[u8]| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        match answer(&url, before) {
            Answer::Ok(body) => {
                let head = match from.filter(|it| *it < body.len()) {
                    None => length(&body),
                    Some(from) => {
                        let (last, len) = (body.len() - 1, body.len());
                        let range = format!("Content-Range: bytes {from}-{last}/{len}");
                        format!("HTTP/1.1 206 x\r\n{range}\r\nContent-Length: {}\r\n\r\n", len - from)
                    }
                };
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body[from.filter(|it| *it < body.len()).unwrap_or(0)..])?;
            }
            Answer::Status(status, header) => {
                let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
                stream.write_all(
                    format!("HTTP/1.1 {status} x\r\n{line}Content-Length: 0\r\n\r\n").as_bytes(),
                )?;
            }
            Answer::Cut(body, sent) => {
                stream.write_all(&[length(&body).as_bytes(), &body[..sent]].concat())?;
                return Ok(());
            }
            Answer::Stall(body, time) => {
                stream.write_all(&[length(&body).as_bytes(), &body[..body.len() / 2]].concat())?;
                std::thread::sleep(time);
                return Ok(());
            }
        }
    }
}

/// The words of a request line, and where the range begins that is asked for; nothing at the end.
fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<(Vec<String>, Option<usize>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let words = line.split_whitespace().map(str::to_owned).collect();
    let (mut from, mut length) = (None, 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.trim_end().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((words, from)))
}
