//! Something that stands between raptor and a registry, and does what networks and servers sometimes do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: String,
    pub body: String,
}

impl Seen {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Whether a layer or configuration is asked for.
    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// What is done with a request.
pub enum Fate {
    /// The registry answers it.
    Pass,
    /// This is the answer: status, headers (each with its line end) and body.
    Answer(u16, String, Vec<u8>),
    /// The registry's answer ends after so many bytes of the body.
    Cut(usize),
    /// The same, and then silence.
    Stall(usize),
    /// The registry's answer with one byte of the body changed.
    Wrong(usize),
    /// The registry's answer, which claims to be that much shorter.
    Short(usize),
}

/// A running one. It lives as long as the test process.
pub struct Between {
    /// `host:port`
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Between {
    /// Decides by the request and how many of the same path came before.
    pub fn start(registry: &str, decide: impl Fn(&Seen, usize) -> Fate + Send + Sync + 'static) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (theirs, registry, decide) = (seen.clone(), registry.to_owned(), Arc::new(decide));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, registry, decide) = (theirs.clone(), registry.clone(), decide.clone());
                // Whoever is served may go away at any time.
                std::thread::spawn(move || drop(serve(stream, &registry, &seen, &*decide)));
            }
        });
        Between { host, seen }
    }

    /// What came by so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    registry: &str,
    seen: &Mutex<Vec<Seen>>,
    decide: &(dyn Fn(&Seen, usize) -> Fate + Send + Sync),
) -> std::io::Result<()> {
    let Some(request) = read_request(&mut BufReader::new(stream.try_clone()?))? else { return Ok(()) };
    let before = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|it| it.path == request.path).count();
        seen.push(request.clone());
        before
    };
    let fate = decide(&request, before);
    if let Fate::Answer(status, headers, body) = &fate {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        return stream.write_all(&[head.as_bytes(), body].concat());
    }
    let mut answer = Vec::new();
    let mut upstream = TcpStream::connect(registry)?;
    let kept = request.headers.lines().filter(|it| !it.to_ascii_lowercase().starts_with("connection:"));
    let headers: String = kept.map(|it| format!("{it}\r\n")).collect();
    let Seen { method, path, .. } = &request;
    write!(upstream, "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")?;
    upstream.read_to_end(&mut answer)?;
    let start = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    match fate {
        Fate::Pass | Fate::Answer(..) => {}
        Fate::Cut(n) | Fate::Stall(n) => answer.truncate(start + n),
        Fate::Wrong(n) => answer[start + n] ^= 1,
        Fate::Short(n) => {
            let length = answer.len() - start;
            let head = String::from_utf8(answer[..start].to_vec()).unwrap();
            let head = head
                .replace(&format!("Content-Length: {length}"), &format!("Content-Length: {}", length - n));
            answer = [head.as_bytes(), &answer[start..answer.len() - n]].concat();
        }
    }
    stream.write_all(&answer)?;
    if let Fate::Stall(_) = fate {
        // Until the other side goes away.
        stream.set_read_timeout(Some(Duration::from_secs(50)))?;
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    // TLS is no request.
    if reader.fill_buf()?.first().is_none_or(|it| !it.is_ascii_uppercase()) {
        return Ok(None);
    }
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        headers += &line;
    }
    let mut seen = Seen { method, path, headers, body: String::new() };
    let length = seen.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut seen.body)?;
    Ok(Some(seen))
}
