//! A web server on loopback that lives as long as the test process, and counts what it is asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A running server.
pub struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server that answers a path with status, headers (each with its line end) and body.
    pub fn start(answer: impl Fn(&str) -> (u16, String, Vec<u8>) + Send + 'static) -> Server {
        Server::at("127.0.0.1:0", answer)
    }

    /// The same, where it is wanted.
    pub fn at(addr: &str, answer: impl Fn(&str) -> (u16, String, Vec<u8>) + Send + 'static) -> Server {
        let listener = TcpListener::bind(addr).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let theirs = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { continue };
                while line.trim_end() != "" {
                    line.clear();
                    let _ = reader.read_line(&mut line);
                }
                let (status, headers, body) = answer(&path);
                theirs.lock().unwrap().push(path);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // The client may have gone away.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Server { url, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Paths asked for so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}
