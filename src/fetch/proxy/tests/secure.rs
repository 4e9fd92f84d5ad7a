//! TLS, tunnels, parts of answers, and secrets.

use std::io::Read;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::fetch::origin::settings;
use crate::fetch::{Retry, Settings};

/// An origin for https, with a certificate of this process.
fn secure_origin(
    handler: impl Fn(&request::Request) -> (u16, String, Vec<u8>) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, handler) = (stream.unwrap(), handler.clone());
            std::thread::spawn(move || {
                let Ok(wire) = Wire::accept(&stream, Vec::new(), None) else { return };
                let mut connection = Connection::new(&wire);
                while let Next::Request(request) = connection.next() {
                    let (status, headers, body) = handler(&request);
                    let head =
                        format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                    let _ = wire.write_all(&[head.as_bytes(), &body].concat());
                }
                wire.close();
            });
        }
    });
    addr
}

/// A world whose origin speaks https only.
fn secure_world(
    handler: impl Fn(&request::Request) -> (u16, String, Vec<u8>) + Clone + Send + 'static,
) -> World {
    let secure = secure_origin(handler);
    let mut world = World::new(&Origin::start(|_, _| ok("plain")));
    let ca_file = world.store.root().join("ca.pem");
    std::fs::write(&ca_file, Authority::of_process().unwrap().pem()).unwrap();
    world.client = Client::new(Settings {
        ca_file: Some(ca_file),
        registries: Default::default(),
        hosts: [("origin.example:443".to_owned(), secure)].into(),
        retry: Retry { attempts: 1, first_wait: Duration::ZERO, longest_wait: Duration::ZERO },
        ..settings()
    })
    .unwrap();
    world
}

/// A client that trusts the authority of this process, or nobody.
fn tls_client(host: &str, trusts: bool) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    if trusts {
        let pem = Authority::of_process().unwrap().pem();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    ClientConnection::new(Arc::new(config), ServerName::try_from(host.to_owned()).unwrap()).unwrap()
}

/// Sends bytes through TLS on a connection, and reads answers until it ends, which it must in order.
fn send_secure(stream: &mut TcpStream, host: &str, bytes: &str) -> std::io::Result<Vec<Got>> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = tls_client(host, true);
    let mut secure = rustls::Stream::new(&mut tls, stream);
    secure.write_all(bytes.as_bytes())?;
    let mut wire = Vec::new();
    secure.read_to_end(&mut wire)?;
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut rest = &wire[..];
    let mut all = Vec::new();
    while !rest.is_empty() {
        all.push(read_answer(&mut rest));
    }
    Ok(all)
}

fn bodies(all: &[Got]) -> Vec<String> {
    all.iter().map(|got| String::from_utf8_lossy(&got.body).into_owned()).collect()
}

#[test]
fn https_is_recorded_and_replayed() {
    let mut world = secure_world(|request| match &*request.url {
        "https://origin.example/big" => (200, String::new(), noise(2_000_000)),
        url => (200, "ETag: \"x\"\r\n".into(), url.into()),
    });
    let visit = |guest: &Guest| {
        let host = "HTTP/1.1\r\nHost: origin.example\r\n";
        let close = "Connection: close\r\n\r\n";
        let mut all = Vec::new();
        // Several requests on one connection; TLS on the port of HTTP; in a tunnel; in one with another port.
        let two = format!("GET /a {host}\r\nGET /big {host}{close}");
        all.extend(send_secure(&mut TcpStream::connect(guest.https).unwrap(), HOST, &two).unwrap());
        let one = format!("GET /b {host}{close}");
        all.extend(send_secure(&mut TcpStream::connect(guest.http).unwrap(), HOST, &one).unwrap());
        for (port, path) in [(443, "/c"), (8443, "/d")] {
            let mut stream = TcpStream::connect(guest.http).unwrap();
            write!(stream, "CONNECT origin.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = [0; 39];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 Connection established\r\n\r\n");
            let one = format!("GET {path} {host}{close}");
            all.extend(send_secure(&mut stream, HOST, &one).unwrap());
        }
        // By address, there is no name in the greeting.
        let local = send_secure(
            &mut TcpStream::connect(guest.https).unwrap(),
            "127.0.0.1",
            &format!("GET /e {host}{close}"),
        );
        all.extend(local.unwrap());
        // A plain proxy that fetches for its client.
        all.push(guest.send(&format!("GET https://origin.example/f {host}{close}")));
        all
    };
    let (first, outcome) = world.run(visit);
    assert_eq!(outcome.refused, []);
    assert!(first[1].body == noise(2_000_000));
    let url = |path: &str| format!("https://origin.example{path}");
    let mut expected = ["/a", "/b", "/c", "/d", "/e", "/f"].map(url).to_vec();
    let texts = bodies(&first);
    assert_eq!([&texts[..1], &texts[2..]].concat(), expected);
    expected.insert(2, url("/big"));
    let mut urls: Vec<_> = outcome.used.iter().map(|it| it.url.clone()).collect();
    urls.sort();
    expected.sort();
    assert_eq!(urls, expected);

    (world.allow_new, world.offline, world.recorded) = (false, true, outcome.used.clone());
    let (second, again) = world.run(visit);
    assert_eq!((&second, &again), (&first, &outcome));
    // Fetched again on another machine, and checked.
    (world.allow_new, world.offline) = (false, false);
    let (third, again) = world.elsewhere().run(visit);
    assert_eq!((bodies(&third), again), (bodies(&first), outcome));
}

#[test]
fn plain_http_is_understood_on_the_other_port() {
    let origin = Origin::start(|_, _| ok("hello"));
    let mut world = World::new(&origin);
    world.client = client_with(&[("origin.example:443", origin.addr)]);
    let (got, outcome) = world.run(|guest| {
        let guest = Guest { http: guest.https, ..*guest };
        guest.get("origin.example:443", "/")
    });
    assert_eq!(got.body, b"hello");
    assert_eq!(outcome.used[0].url, "http://origin.example:443/");
}

#[test]
fn programs_that_trust_nobody() {
    let world = secure_world(|_| (200, String::new(), b"hello".to_vec()));
    let distrust = |guest: &Guest, host: &str| {
        let mut stream = TcpStream::connect(guest.https).unwrap();
        let mut tls = tls_client(host, false);
        assert!(rustls::Stream::new(&mut tls, &mut stream).write_all(b"GET / ").is_err());
    };
    let ((), outcome) = world.run(|guest| {
        for host in [HOST, "other.example"] {
            distrust(guest, host);
        }
        // Neither is a word that is no TLS after all, but who says nothing wants nothing.
        for hello in [&b"\x16not TLS at all"[..], b""] {
            let mut stream = TcpStream::connect(guest.https).unwrap();
            stream.write_all(hello).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let one = "GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n";
        send_secure(&mut TcpStream::connect(guest.https).unwrap(), HOST, one).unwrap();
    });
    let refused: Vec<_> = outcome.refused.iter().map(|it| (it.method.as_str(), it.url.as_str())).collect();
    assert_eq!(refused, [("CONNECT", "https://127.0.0.1/"), ("CONNECT", "https://other.example/")]);
    assert_eq!(
        outcome.refused[1].reason,
        "TLS failed: the program answered with the alert UnknownCA; does the program trust /run/raptor/ca.crt?"
    );
}

#[test]
fn parts_are_taken_from_the_whole() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/big" => Answer::Full(200, vec![("ETag", "\"x\"".into())], noise(1_000_000)),
        "/gone" => Answer::Full(404, vec![], b"no".to_vec()),
        _ => ok(""),
    });
    let mut world = World::new(&origin);
    let visit = |guest: &Guest| {
        let get = |path: &str, range: &str| {
            guest.send(&format!(
                "GET {path} HTTP/1.1\r\nHost: origin.example\r\nRange: bytes={range}\r\nConnection: close\r\n\r\n"
            ))
        };
        [
            get("/big", "600000-"),
            get("/big", "0-9"),
            get("/big", "-10"),
            get("/big", "1000000-"),
            get("/big", "5-\r\nIf-Range: \"x\""),
            get("/big", "5-\r\nIf-Range: \"y\""),
            get("/big", "0-1,5-6"),
            get("/gone", "5-"),
            get("/empty", "0-"),
        ]
    };
    let (got, outcome) = world.run(visit);
    assert_eq!(got.each_ref().map(|it| it.status), [206, 206, 206, 416, 206, 200, 200, 404, 200]);
    let whole = noise(1_000_000);
    assert!(got[0].body == whole[600_000..] && got[1].body == whole[..10]);
    assert!(got[2].body == whole[999_990..] && got[4].body == whole[5..]);
    assert!(got[5].body == whole && got[6].body == whole);
    assert!(got[0].head.contains("content-range: bytes 600000-999999/1000000\r\n"), "{}", got[0].head);
    assert!(got[3].head.contains("content-range: bytes */1000000\r\n") && got[3].body.is_empty());
    assert_eq!((outcome.used.len(), origin.seen().len(), outcome.refused.len()), (3, 3, 0));
    assert_eq!(outcome.used[0].status, 200, "nothing of a part is recorded");
    (world.allow_new, world.offline, world.recorded) = (false, true, outcome.used.clone());
    assert_eq!(world.run(visit), (got, outcome));
}

#[test]
fn secrets_are_neither_recorded_nor_told() {
    let origin = Origin::start(|seen, _| {
        let auth = seen.headers.get("authorization").cloned();
        match (&*seen.target, auth) {
            ("/private", None) => {
                Answer::Full(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], vec![])
            }
            ("/private", Some(it)) if it == "Basic bWU6c2VjcmV0LXdvcmQ=" => ok("for you"),
            ("/hidden", None) => Answer::Full(404, vec![], vec![]),
            ("/hidden", Some(_)) => ok("found"),
            ("/moved", _) => Answer::Full(
                302,
                vec![
                    ("Location", "/signed?name=a&sig=secret-sig".into()),
                    ("Set-Cookie", "secret-cookie".into()),
                ],
                vec![],
            ),
            ("/signed?name=a&sig=secret-sig", _) => ok("signed"),
            ("/list?token=secret-token", _) => ok("list"),
            _ => Answer::Full(500, vec![], vec![]),
        }
    });
    let mut world = World::new(&origin);
    let visit = |guest: &Guest| {
        let host = "HTTP/1.1\r\nHost: origin.example\r\n";
        let auth = "Authorization: Basic bWU6c2VjcmV0LXdvcmQ=\r\n";
        let get =
            |path: &str, more: &str| guest.send(&format!("GET {path} {host}{more}Connection: close\r\n\r\n"));
        let all = [
            get("/private", ""),
            get("/private", auth),
            get("/private", ""),
            get("/hidden", ""),
            get("/hidden", auth),
            get("http://me:secret-word@origin.example/private", ""),
            get("/moved", ""),
            get("/signed?name=a&sig=***", ""),
            get("/list?token=secret-token", ""),
            get("/list?token=other-secret", ""),
            get("/broken?token=secret-token", ""),
        ];
        all.map(|got| (got.status, got.head, String::from_utf8(got.body).unwrap()))
    };
    let (got, outcome) = world.run(visit);
    let statuses = got.each_ref().map(|(status, _, _)| *status);
    assert_eq!(statuses, [401, 200, 200, 404, 200, 200, 302, 200, 200, 504, 500]);
    assert!(got[0].1.contains("www-authenticate: Basic realm=\"x\"\r\n"));
    assert!(got[6].1.contains("location: /signed?name=a&sig=***\r\n"), "{}", got[6].1);
    assert_eq!((&*got[5].2, &*got[7].2, &*got[8].2), ("for you", "signed", "list"));
    let reasons: Vec<_> = outcome.refused.iter().map(|it| format!("{} {}", it.url, it.reason)).collect();
    assert_eq!(
        reasons,
        [
            "http://origin.example/broken?token=*** the server answered 500",
            "http://origin.example/list?token=*** an earlier request differs from it in nothing but a secret",
        ]
    );
    assert!(!format!("{outcome:?}{got:?}").contains("secret-"), "{outcome:#?}");
    let urls: Vec<_> = outcome.used.iter().map(|it| (it.url.as_str(), it.status)).collect();
    let url = |path: &str| format!("http://origin.example{path}");
    let [hidden, list, moved, private, signed] =
        ["/hidden", "/list?token=***", "/moved", "/private", "/signed?name=a&sig=***"].map(url);
    let expected = [(hidden, 200), (list, 200), (moved, 302), (private, 200), (signed, 200)];
    assert_eq!(urls, expected.each_ref().map(|(url, status)| (url.as_str(), *status)));

    // Who asks later needs no secret.
    (world.allow_new, world.offline, world.recorded) = (false, true, outcome.used.clone());
    let (again, replayed) = world.run(visit);
    assert_eq!(replayed.used, outcome.used);
    assert_eq!((again[0].0, again[3].0), (200, 200));
    (world.allow_new, world.offline) = (false, false);
    let (_, elsewhere) = world.elsewhere().run(|guest| guest.get(HOST, "/signed?name=a&sig=***"));
    let reason = "its URL had a secret, which is not recorded, so it cannot be fetched again";
    assert_eq!(elsewhere.refused[0].reason, reason);
}

#[test]
fn other_protocols_are_refused() {
    let origin = Origin::start(|_, _| ok("hello"));
    let world = World::new(&origin);
    let (got, outcome) = world.run(|guest| {
        let host = "HTTP/1.1\r\nHost: origin.example\r\nConnection: close, Upgrade\r\n";
        [
            guest.send(&format!("GET /chat {host}Upgrade: websocket\r\n\r\n")),
            guest.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            guest.send(&format!("GET ftp://origin.example/ {host}\r\n")),
            // An offer, which a server need not take.
            guest.send(&format!("GET /a {host}Upgrade: h2c\r\n\r\n")),
        ]
    });
    assert_eq!(got.each_ref().map(|it| it.status), [504, 505, 501, 200]);
    let refused: Vec<_> =
        outcome.refused.iter().map(|it| format!("{} {}: {}", it.method, it.url, it.reason)).collect();
    assert_eq!(
        refused,
        [
            "GET http://origin.example/chat: WebSocket connections are not recorded",
            "PRI http://127.0.0.1/: HTTP/2 without TLS is not recorded; HTTP/1.1 is",
        ]
    );
}
