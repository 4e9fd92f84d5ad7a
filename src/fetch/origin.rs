//! A small origin server for tests: scripted answers over real sockets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Client, Elsewhere, Retry, Settings};

/// A request that the origin saw.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What the origin does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, headers, body with its length; `Range` is honoured for status 200.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// As `Full`, but chunked.
    Chunked(Vec<u8>),
    /// Claims the whole body and closes after so many bytes (counted from the start of the answer).
    Cut(Vec<u8>, usize),
    /// As `Cut`, with headers.
    CutWith(Vec<(&'static str, String)>, Vec<u8>, usize),
    /// Sends the beginning, then is silent.
    Stall(Vec<u8>, usize),
    /// Sends a byte at a time, with this between them.
    Drip(Vec<u8>, Duration),
}

pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
    Answer::Full(200, vec![("Content-Type", "text/plain".into())], body.into())
}

type Handler = dyn Fn(&Seen, usize) -> Answer + Send + Sync;

/// The server; ends when dropped.
pub struct Origin {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Origin {
    /// The handler gets the request and how often its target was asked for before.
    pub fn start(handler: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::<Seen>::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let acceptor = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (seen, stop, handler) = (seen.clone(), stop.clone(), handler.clone());
                    std::thread::spawn(move || serve(stream.unwrap(), &seen, &stop, &*handler));
                }
            }
        });
        Origin { addr, seen, stop, acceptor: Some(acceptor) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        self.acceptor.take().unwrap().join().unwrap();
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool, handler: &Handler) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while !stop.load(Ordering::SeqCst) {
        let Some(request) = read_request(&mut reader) else { return };
        let before = {
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|it| it.target == request.target).count();
            seen.push(request.clone());
            before
        };
        let done = match handler(&request, before) {
            Answer::Full(status, headers, body) => {
                let from = request.headers.get("range").filter(|_| status == 200).map(|range| {
                    range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
                });
                let (status, part) = match from {
                    Some(from) => (206, &body[from..]),
                    None => (status, &body[..]),
                };
                let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", part.len());
                if let Some(from) = from {
                    head += &format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                }
                headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
                let part = if request.method == "HEAD" { &[][..] } else { part };
                writer.write_all(&[head.as_bytes(), b"\r\n", part].concat())
            }
            Answer::Chunked(body) => {
                let mut out = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in body.chunks(1000) {
                    out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    out.extend(chunk);
                    out.extend(b"\r\n");
                }
                out.extend(b"0\r\n\r\n");
                writer.write_all(&out)
            }
            Answer::CutWith(headers, body, n_sent) => {
                let mut head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n", body.len());
                headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
                let _ = writer.write_all(&[head.as_bytes(), b"\r\n", &body[..n_sent]].concat());
                return;
            }
            Answer::Cut(body, n_sent) => {
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = writer.write_all(&[head.as_bytes(), &body[..n_sent]].concat());
                return;
            }
            Answer::Drip(body, pause) => {
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", body.len());
                let mut sent = writer.write_all(head.as_bytes());
                for byte in body {
                    std::thread::sleep(pause);
                    sent = sent.and_then(|()| writer.write_all(&[byte]));
                    if sent.is_err() {
                        return;
                    }
                }
                sent
            }
            Answer::Stall(body, n_sent) => {
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = writer.write_all(&[head.as_bytes(), &body[..n_sent]].concat());
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        if done.is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, target, headers, body })
}

/// A client without proxies and with little patience.
pub fn client() -> Client {
    client_with(&[])
}

/// A client that finds these hosts (`host:port`) at these addresses.
pub fn client_with(hosts: &[(&str, SocketAddr)]) -> Client {
    let hosts = hosts.iter().map(|(name, addr)| (name.to_string(), *addr)).collect();
    Client::new(Settings { hosts, ..settings() }).unwrap()
}

/// Settings without proxies and with little patience.
pub fn settings() -> Settings {
    Settings {
        offline: false,
        http_proxy: None,
        https_proxy: None,
        no_proxy: vec![],
        ca_file: None,
        registries: Default::default(),
        hosts: BTreeMap::new(),
        retry: Retry {
            attempts: 3,
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(50),
        },
        silence: Duration::from_secs(60),
        elsewhere: Elsewhere::default(),
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Bytes that do not repeat soon.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}
