//! An HTTP proxy on loopback that is the whole internet of a test, and counts what it is asked for.
//!
//! RUN steps may not reach servers of this machine; what they ask of any other goes through the proxy of the
//! environment, as the engine's own downloads do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where its files are; an address that nobody has, for busybox knows no names.
pub const URL: &str = "http://192.0.2.1";

/// A running proxy; it lives as long as the test process.
pub struct Origin {
    proxy: String,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Everything has other bodies now.
    pub changed: Arc<AtomicBool>,
}

impl Origin {
    /// Every path has a body of its own.
    pub fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let changed = Arc::new(AtomicBool::new(false));
        let theirs = (seen.clone(), changed.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, changed) = theirs.clone();
                // A client that was killed is no concern of the proxy.
                std::thread::spawn(move || drop(serve(stream, &seen, &changed)));
            }
        });
        Origin { proxy, seen, changed }
    }

    /// Lets a command reach it, and nothing else.
    pub fn serves<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("http_proxy", &self.proxy).env_remove("no_proxy")
    }

    /// How often each path was asked for.
    pub fn seen(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap().clone()
    }
}

/// What a path has.
pub fn body(path: &str) -> String {
    format!("this is {path}\n").repeat(3000)
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<BTreeMap<String, usize>>,
    changed: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        while line.trim_end() != "" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let [method, path, ..] = &words[..] else { return Ok(()) };
        if method == "CONNECT" {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            continue;
        }
        *seen.lock().unwrap().entry(path.clone()).or_default() += 1;
        let mut body = body(path);
        if changed.load(Ordering::Relaxed) {
            body = body.replace("this", "that");
        }
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )?;
    }
}
