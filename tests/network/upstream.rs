//! A web service with TLS, and a proxy that leads every host to it, as companies have them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// `me:secret-word` and `me:secret-proxy`.
const WORD: &str = "Basic bWU6c2VjcmV0LXdvcmQ=";
const PROXY: &str = "Basic bWU6c2VjcmV0LXByb3h5";

/// Service and proxy; both live as long as the test process.
pub struct Upstream {
    ca_pem: String,
    proxy: SocketAddr,
}

impl Upstream {
    pub fn start() -> Upstream {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["origin.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let service = listen(move |stream| {
            let tls = ServerConnection::new(config.clone()).unwrap();
            serve(BufReader::new(StreamOwned::new(tls, stream)));
        });
        let plain = listen(|stream| serve(BufReader::new(stream)));
        let proxy = listen(move |stream| tunnel(stream, service, plain));
        Upstream { ca_pem, proxy }
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The proxy's URL, with a user name and a password.
    pub fn proxy(&self, user: &str) -> String {
        format!("http://{user}@{}", self.proxy)
    }
}

fn listen(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let handle = handle.clone();
            std::thread::spawn(move || handle(stream.unwrap()));
        }
    });
    addr
}

/// Words of the first line, and the value of a header. `None` when the client is gone.
fn read_head(reader: &mut impl BufRead, header: &str) -> Option<(Vec<String>, Option<String>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|n| *n > 0)?;
    let mut value = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, it)) if name.eq_ignore_ascii_case(header) => value = Some(it.to_owned()),
            Some(_) => {}
            None => break,
        }
    }
    Some((first.split_whitespace().map(str::to_owned).collect(), value))
}

fn serve<S: Read + Write>(mut stream: BufReader<S>) {
    while let Some((words, auth)) = read_head(&mut stream, "authorization") {
        let target = words[1].as_str();
        let (path, n) = target.rsplit_once('/').unwrap();
        let (status, headers, body) = match (path, auth.as_deref()) {
            ("/private", Some(WORD)) => (200, String::new(), format!("private {n}")),
            ("/private", _) => (401, "WWW-Authenticate: Basic realm=\"x\"\r\n".into(), "who are you?".into()),
            ("/moved", _) if n.ends_with("?token=secret-token") => {
                let n = n.split('?').next().unwrap();
                let place = format!("Location: /signed/{n}?sig=secret-sig\r\n");
                (302, format!("{place}Set-Cookie: secret-sig\r\n"), "there".into())
            }
            ("/signed", _) if n.ends_with("?sig=secret-sig") => {
                (200, String::new(), format!("signed {}", n.split('?').next().unwrap()))
            }
            ("/open" | "/plain", _) => (200, String::new(), format!("{} {n}", &path[1..])),
            _ => (500, String::new(), "broken".into()),
        };
        let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        let stream = stream.get_mut();
        if stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// The proxy: lets those in who know its password.
fn tunnel(stream: TcpStream, service: SocketAddr, plain: SocketAddr) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some((words, auth)) = read_head(&mut reader, "proxy-authorization") else { return };
    let (mut stream, authority) = (stream, words[1].as_str());
    let target = match authority {
        "origin.example:443" => service,
        "plain.example:80" => plain,
        _ => panic!("{words:?}"),
    };
    if words[0] != "CONNECT" || auth.as_deref() != Some(PROXY) {
        let _ = stream.write_all(b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let upstream = TcpStream::connect(target).unwrap();
    stream.write_all(b"HTTP/1.1 200 ok\r\n\r\n").unwrap();
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    let (theirs, ours) = (upstream.try_clone().unwrap(), stream.try_clone().unwrap());
    std::thread::spawn(move || pump(theirs, ours));
    pump(stream, upstream);
}
