//! The proxy between real sockets: recording, replaying, refusing, and what clients do to it.

mod secure;

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::*;
use crate::fetch::origin::{Answer, Origin, client_with, noise, ok, sha256};
use crate::lock::EMPTY_SHA256;

const HOST: &str = "origin.example";

/// A store, and proxies that find the origin at `origin.example` and behind the mirror's name.
struct World {
    _dir: tempfile::TempDir,
    store: Store,
    origin: SocketAddr,
    allow_new: bool,
    offline: bool,
    recorded: Vec<NetworkEntry>,
    /// How the origin is reached.
    client: Client,
}

impl World {
    fn new(origin: &Origin) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let origin = origin.addr;
        let client = client_with(&[("origin.example:80", origin)]);
        World { _dir: dir, store, origin, allow_new: true, offline: false, recorded: vec![], client }
    }

    /// The same lock on a machine with an empty store.
    fn elsewhere(&self) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        World { _dir: dir, store, recorded: self.recorded.clone(), client: self.client.clone(), ..*self }
    }

    fn run<T>(&self, clients: impl FnOnce(&Guest) -> T) -> (T, Outcome) {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners =
            Listeners { http: bind(), https: bind(), dns: UdpSocket::bind("127.0.0.1:0").unwrap() };
        let guest = Guest {
            http: listeners.http.local_addr().unwrap(),
            https: listeners.https.local_addr().unwrap(),
            dns: listeners.dns.local_addr().unwrap(),
        };
        let config = ProxyConfig {
            recorded: self.recorded.clone(),
            answered: Vec::new(),
            allow_new: self.allow_new,
            offline: self.offline,
            mirrors: vec![MirrorAlias {
                name: String::new(),
                seen: "http://Mirror.example:80/debian/".into(),
                fetch_from: format!("http://{}/real/", self.origin),
                snapshots: Vec::new(),
            }],
            client: self.client.clone(),
            store: self.store.clone(),
            on_event: Arc::new(|_| ()),
        };
        let proxy = Proxy::start(listeners, config).unwrap();
        let result = clients(&guest);
        (result, proxy.finish())
    }
}

/// The sandbox's side.
struct Guest {
    http: SocketAddr,
    https: SocketAddr,
    dns: SocketAddr,
}

#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Guest {
    fn get(&self, host: &str, path: &str) -> Got {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    }

    fn send(&self, request: &str) -> Got {
        let mut all = self.send_all(request.as_bytes());
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Sends bytes, and reads answers until the connection ends.
    fn send_all(&self, bytes: &[u8]) -> Vec<Got> {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut wire = Vec::new();
        let _ = stream.read_to_end(&mut wire);
        let mut rest = &wire[..];
        let mut all = Vec::new();
        while !rest.is_empty() {
            all.push(read_answer(&mut rest));
        }
        all
    }
}

/// Takes one answer from the wire; a cut body is left as it is.
fn read_answer(rest: &mut &[u8]) -> Got {
    let end = rest.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(rest[..end].to_vec()).unwrap();
    *rest = &rest[end..];
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = Vec::new();
    if let Some(length) = length {
        let length = length.parse::<usize>().unwrap().min(rest.len());
        body = rest[..length].to_vec();
        *rest = &rest[length..];
    } else if head.contains("chunked") {
        let mut chunks = request::Chunks::default();
        // Larger than what requests may have is fine here, because the chunks of a test are not.
        let used = chunks.feed(rest).unwrap();
        assert!(chunks.is_done());
        body = chunks.body;
        *rest = &rest[used..];
    }
    Got { status, head, body }
}

#[test]
fn records_and_replays_without_the_origin() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/missing" => Answer::Full(404, vec![("Content-Type", "text/html".into())], b"oops 1234".to_vec()),
        "/moved" => Answer::Full(302, vec![("Location", "/text".into())], b"see there".to_vec()),
        "/chunked" => Answer::Chunked(noise(700_000)),
        "/big" => ok(noise(2_000_000)),
        "/empty" => ok(""),
        _ => Answer::Full(
            200,
            vec![
                ("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT".into()),
                ("ETag", "\"x\"".into()),
                ("Content-Encoding", "gzip".into()),
                ("Set-Cookie", "no=yes".into()),
            ],
            b"hello".to_vec(),
        ),
    });
    let mut world = World::new(&origin);
    let paths = ["/text?q=1", "/missing", "/moved", "/chunked", "/big", "/empty"];
    let visit = |guest: &Guest| {
        let mut all: Vec<Got> = paths.iter().map(|path| guest.get(HOST, path)).collect();
        all.push(guest.send("HEAD /text HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n"));
        all
    };
    let (first, outcome) = world.run(visit);
    assert_eq!(outcome.refused, []);
    let statuses: Vec<_> = first.iter().map(|got| got.status).collect();
    assert_eq!(statuses, [200, 404, 302, 200, 200, 200, 200]);
    assert_eq!(first[0].body, b"hello");
    assert!(first[1].body.is_empty(), "error pages differ from day to day");
    assert!(first[3].body == noise(700_000) && first[4].body == noise(2_000_000));
    assert!(first[3].head.contains("chunked") && first[4].head.contains("content-length: 2000000"));
    assert!(first[0].head.contains("content-encoding: gzip\r\n") && !first[0].head.contains("cookie"));
    assert!(first[6].head.contains("content-length: 5\r\n"), "the length that a GET would have");

    let entry = &outcome.used[outcome.used.len() - 1];
    assert_eq!((entry.url.as_str(), entry.size), ("http://origin.example/text?q=1", 5));
    assert_eq!(entry.sha256, sha256(b"hello"));
    let names: Vec<_> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-encoding", "etag", "last-modified"]);
    assert_eq!(outcome.used[3].sha256, EMPTY_SHA256);
    // Everything that is recorded can be written to a lock and read back.
    let lock = crate::lock::Lock {
        layers: [("base".to_owned(), outcome.used.clone())].into(),
        ..crate::lock::Lock::default()
    };
    let read = crate::lock::Lock::parse(std::path::Path::new("Raptor.lock"), &lock.render()).unwrap();
    assert_eq!(read, lock);

    let seen = origin.seen();
    assert_eq!(seen.len(), 7);
    assert_eq!(seen[0].headers["host"], HOST);
    drop(origin);
    (world.allow_new, world.offline) = (false, true);
    world.recorded = outcome.used.clone();
    let (second, again) = world.run(visit);
    assert_eq!(again, outcome);
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.status, second.status);
        assert!(first.body == second.body);
    }
}

#[test]
fn the_first_answer_wins() {
    let origin = Origin::start(|_, before| ok(before.to_string()));
    let world = World::new(&origin);
    let (all, outcome) = world.run(|guest| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| guest.get(HOST, "/n").body)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    });
    assert_eq!(all, vec![b"0".to_vec(); 8]);
    assert_eq!((origin.seen().len(), outcome.used.len()), (1, 1));
}

#[test]
fn accept_and_body_are_part_of_a_request() {
    let origin = Origin::start(|seen, _| {
        let accept = seen.headers.get("accept").cloned().unwrap_or_default();
        ok([seen.method.as_bytes(), b" ", accept.as_bytes(), b" ", &seen.body].concat())
    });
    let mut world = World::new(&origin);
    let send = |guest: &Guest| {
        let text = |rest: &str| {
            let request = format!("{rest} HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n");
            move |more: &str| String::from_utf8(guest.send(&format!("{request}{more}")).body).unwrap()
        };
        let post = text("POST /api");
        [
            text("GET /api")("\r\n"),
            text("GET /api")("Accept: application/json\r\n\r\n"),
            post("Content-Length: 3\r\n\r\none"),
            post("Content-Length: 3\r\n\r\ntwo"),
            post("Transfer-Encoding: chunked\r\n\r\n2\r\non\r\n1\r\ne\r\n0\r\n\r\n"),
            post("Content-Length: 0\r\n\r\n"),
            text("DELETE /api")("Content-Length: 3\r\n\r\nall"),
        ]
    };
    let expected = [
        "GET */* ",
        "GET application/json ",
        "POST */* one",
        "POST */* two",
        "POST */* one",
        "POST */* ",
        "DELETE */* all",
    ];
    let (all, outcome) = world.run(send);
    assert_eq!(all, expected);
    assert_eq!(outcome.refused, []);
    assert_eq!((outcome.used.len(), origin.seen().len()), (6, 6), "how a body is framed does not matter");
    let digests: Vec<_> = outcome.used.iter().filter_map(|entry| entry.body.clone()).collect();
    assert!(digests.contains(&sha256(b"one")) && digests.contains(&sha256(b"two")));

    drop(origin);
    world.recorded = outcome.used;
    world.allow_new = false;
    let (all, outcome) = world.run(send);
    assert_eq!(all, expected);
    assert_eq!(outcome.refused, []);
}

#[test]
fn large_bodies_are_waited_for() {
    let origin = Origin::start(|seen, _| ok(seen.body.len().to_string()));
    let world = World::new(&origin);
    let (got, _) = world.run(|guest| {
        let mut stream = TcpStream::connect(guest.http).unwrap();
        let head = "POST / HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 2000000\r\n\
                    Expect: 100-continue\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut go = [0; 25];
        stream.read_exact(&mut go).unwrap();
        assert_eq!(go, *b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&noise(2_000_000)).unwrap();
        let mut wire = Vec::new();
        stream.read_to_end(&mut wire).unwrap();
        read_answer(&mut &wire[..])
    });
    assert_eq!(got.body, b"2000000");
    assert!(!origin.seen()[0].headers.contains_key("expect"));
}

#[test]
fn servers_are_asked_for_the_whole() {
    let origin = Origin::start(|seen, _| {
        let asks = ["range", "if-range", "if-none-match", "if-modified-since"];
        assert!(asks.iter().all(|name| !seen.headers.contains_key(*name)));
        assert_eq!(seen.headers["accept-encoding"], "identity");
        ok("hello")
    });
    let world = World::new(&origin);
    let (got, _) = world.run(|guest| {
        guest.send(
            "GET /a HTTP/1.1\r\nHost: origin.example\r\nRange: bytes=2-\r\nIf-Range: \"y\"\r\n\
             If-None-Match: \"x\"\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
             Accept-Encoding: gzip, br\r\nConnection: close\r\n\r\n",
        )
    });
    assert_eq!((got.status, got.body), (200, b"hello".to_vec()));
}

#[test]
fn mirrors_have_one_name_in_the_lock() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/real/moved" => Answer::Full(301, vec![("Location", "/real/here".into())], vec![]),
        "/real/here" => ok("here"),
        other => ok(other),
    });
    let mut world = World::new(&origin);
    let visit = |guest: &Guest| {
        let paths = ["/debian/dists/x", "/debian/moved", "/debian/a?b"];
        paths.map(|path| String::from_utf8(guest.get("mirror.example", path).body).unwrap())
    };
    let (bodies, outcome) = world.run(visit);
    assert_eq!(bodies, ["/real/dists/x", "here", "/real/a?b"]);
    let urls: Vec<_> = outcome.used.iter().map(|entry| entry.url.as_str()).collect();
    assert_eq!(urls, ["debian:/a?b", "debian:/dists/x", "debian:/moved"]);

    // Fetched again through the mirror of the other machine.
    world.recorded = outcome.used.clone();
    world.allow_new = false;
    let (again, second) = world.elsewhere().run(visit);
    assert_eq!((again, second), (bodies, outcome));

    let (_, outcome) = world.run(|guest| {
        ["/debian/../x", "/debianx", "/other"].map(|path| guest.get("mirror.example", path).status)
    });
    let urls: Vec<_> = outcome.refused.iter().map(|refusal| refusal.url.as_str()).collect();
    let outside = ["debian/../x", "debianx", "other"].map(|path| format!("http://mirror.example/{path}"));
    assert_eq!(urls, outside);
}

#[test]
fn bodies_can_be_fetched_before_the_build() {
    let origin = Origin::start(|seen, _| ok([seen.target.as_bytes(), &seen.body].concat()));
    let mut world = World::new(&origin);
    let visit = |guest: &Guest| {
        guest.get("mirror.example", "/debian/a");
        guest.get(HOST, "/b");
        guest.send("POST /c HTTP/1.0\r\nHost: origin.example\r\nContent-Length: 2\r\n\r\nhi").body
    };
    let (_, outcome) = world.run(visit);
    world.recorded = outcome.used.clone();
    let mirror = MirrorAlias {
        name: String::new(),
        seen: "http://mirror.example/debian".into(),
        fetch_from: format!("http://{}/real/", origin.addr),
        snapshots: Vec::new(),
    };
    assert_eq!(missing_bodies(&world.recorded, std::slice::from_ref(&mirror), &world.store).unwrap(), []);

    let mut world = world.elsewhere();
    let wanted = missing_bodies(&world.recorded, std::slice::from_ref(&mirror), &world.store).unwrap();
    let urls: Vec<_> = wanted.iter().flat_map(|wanted| wanted.urls.clone()).collect();
    assert_eq!(urls, [origin.url("/real/a"), "http://origin.example/b".to_owned()]);
    let client = client_with(&[("origin.example:80", world.origin)]);
    client.download_all(&wanted, &world.store, &|_| (), &Default::default()).unwrap();
    assert_eq!(missing_bodies(&world.recorded, &[mirror], &world.store).unwrap(), []);
    // Only the POST still needs the network.
    world.offline = true;
    let (_, outcome) = world.run(visit);
    let refused: Vec<_> = outcome.refused.iter().map(|refusal| refusal.method.as_str()).collect();
    assert_eq!((outcome.used.len(), refused), (2, vec!["POST"]));
}

#[test]
fn locked_refuses_what_is_new() {
    let origin = Origin::start(|_, _| ok("hello"));
    let mut world = World::new(&origin);
    world.allow_new = false;
    let (got, outcome) = world.run(|guest| guest.get(HOST, "/a"));
    let reason = "this request is not in Raptor.lock, and --locked allows no other";
    assert_eq!(got.status, 504);
    assert_eq!(
        String::from_utf8(got.body).unwrap(),
        format!("raptor: GET http://origin.example/a: {reason}\n")
    );
    let (method, url) = ("GET".into(), "http://origin.example/a".into());
    let refusal = Refusal { method, url, reason: reason.into(), is_lost: false };
    assert_eq!(outcome, Outcome { used: vec![], refused: vec![refusal] });

    (world.allow_new, world.offline) = (true, true);
    let (_, outcome) = world.run(|guest| guest.get(HOST, "/a"));
    assert!(outcome.refused[0].reason.ends_with("the network is switched off (--offline)"));
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn what_is_fetched_again_must_be_the_same() {
    let origin = Origin::start(|seen, before| match (&*seen.target, before) {
        ("/same", _) => ok("same"),
        ("/big", 0) => ok(noise(1_000_000)),
        ("/big", _) => ok([noise(999_999), vec![0]].concat()),
        ("/longer", 1..) => ok("hello, world"),
        ("/gone", 1..) => Answer::Full(410, vec![], vec![]),
        (path, 0) => ok(path),
        _ => ok("jello"),
    });
    let mut world = World::new(&origin);
    let paths = ["/same", "/other", "/longer", "/gone", "/big"];
    let (_, outcome) = world.run(|guest| paths.map(|path| guest.get(HOST, path)));
    world.recorded = outcome.used;
    let world = world.elsewhere();
    let (got, outcome) = world.run(|guest| paths.map(|path| guest.get(HOST, path)));
    assert_eq!(got.each_ref().map(|got| got.status), [200, 504, 504, 504, 504]);
    assert!(got[4].body.len() < 1000, "a client gets nothing of a wrong body");
    assert_eq!(outcome.used.len(), 1);
    let reasons: Vec<_> = outcome.refused.iter().map(|refusal| refusal.reason.clone()).collect();
    let (expected, found) = (sha256(&noise(1_000_000)), sha256(&[noise(999_999), vec![0]].concat()));
    assert_eq!(
        reasons,
        [
            format!("http://origin.example/big: wrong content: expected sha256 {expected}, found {found}"),
            "http://origin.example/gone: the server answered 410".to_owned(),
            "http://origin.example/longer: wrong size: expected 7 bytes, found 12".to_owned(),
            "http://origin.example/other: wrong size: expected 6 bytes, found 5".to_owned(),
        ]
    );
    let jello = world.store.fetched(&sha256(b"jello"), 5).unwrap();
    assert_eq!(jello, None);
}

#[test]
fn cut_bodies_are_mended_or_refused() {
    let origin = Origin::start(|seen, before| match (&*seen.target, before) {
        ("/mended", 0) => Answer::Cut(noise(1_000_000), 600_000),
        ("/mended", 1) => Answer::Cut(noise(1_000_000), 100_000),
        ("/mended", _) => ok(noise(1_000_000)),
        ("/changed", 0) => Answer::Cut(noise(1_000_000), 600_000),
        ("/changed", _) => ok(vec![0; 1_000_000]),
        ("/small", _) => Answer::Cut(b"hello".to_vec(), 2),
        _ => Answer::Cut(noise(1_000_000), 600_000),
    });
    let world = World::new(&origin);
    let (got, outcome) =
        world.run(|guest| ["/mended", "/changed", "/small", "/cut"].map(|path| guest.get(HOST, path)));
    assert!(got[0].body == noise(1_000_000));
    assert!(got[1].body.len() < 1_000_000 && got[3].body.len() < 1_000_000);
    assert_eq!(got[2].status, 504);
    let used: Vec<_> = outcome.used.iter().map(|entry| entry.url.as_str()).collect();
    assert_eq!(used, ["http://origin.example/mended"]);
    let refused: Vec<_> = outcome.refused.iter().map(|refusal| refusal.url.as_str()).collect();
    assert_eq!(refused, ["/changed", "/cut", "/small"].map(|path| format!("http://origin.example{path}")));
    assert_eq!(
        std::fs::read_dir(world.store.root().join("trees")).unwrap().count(),
        1,
        "only the whole body is stored"
    );
}

#[test]
fn troubled_servers() {
    let origin = Origin::start(|seen, before| match (&*seen.target, before) {
        ("/flaky", 0) => Answer::Full(503, vec![("Retry-After", "0".into())], vec![]),
        ("/flaky", _) => ok("hello"),
        ("/busy", _) => Answer::Full(429, vec![], b"later".to_vec()),
        _ => Answer::Full(500, vec![("Content-Type", "text/html".into())], b"broken".to_vec()),
    });
    let world = World::new(&origin);
    let (got, outcome) = world.run(|guest| {
        let known = ["/flaky", "/busy", "/broken"].map(|path| guest.get(HOST, path));
        let unknown = guest.get("nobody.invalid", "/");
        let internal = ["localhost", "127.0.0.1:1", "[::1]", "169.254.169.254"].map(|it| guest.get(it, "/"));
        (known, unknown.status, internal.map(|got| got.status))
    });
    let (known, unknown, internal) = got;
    assert_eq!(known.each_ref().map(|got| got.status), [200, 429, 500]);
    assert_eq!(known[2].body, b"broken");
    assert!(known[2].head.contains("content-type: text/html\r\n"));
    assert_eq!((unknown, internal), (504, [504; 4]));
    assert_eq!(outcome.used.len(), 1);
    let reasons: Vec<_> = outcome.refused.iter().map(|it| format!("{} {}", it.url, it.reason)).collect();
    assert_eq!(reasons.len(), 7);
    assert!(reasons.contains(&"http://origin.example/broken the server answered 500".to_owned()));
    let internal = "http://127.0.0.1:1/ the services of this machine are not part of a build";
    assert!(reasons.contains(&internal.to_owned()), "{reasons:#?}");
}

#[test]
fn a_request_that_succeeds_later_is_forgiven() {
    let origin = Origin::start(|_, before| match before {
        // One more than the patience of the proxy.
        0..3 => Answer::Full(503, vec![], vec![]),
        _ => ok("hello"),
    });
    let world = World::new(&origin);
    let (statuses, outcome) = world.run(|guest| [(); 2].map(|()| guest.get(HOST, "/a").status));
    assert_eq!(statuses, [503, 200]);
    assert_eq!((outcome.used.len(), outcome.refused), (1, vec![]));
}

#[test]
fn pipelined_requests() {
    let origin = Origin::start(|seen, _| ok([seen.target.as_bytes(), b" ", &seen.body].concat()));
    let world = World::new(&origin);
    let (got, outcome) = world.run(|guest| {
        let host = "HTTP/1.1\r\nHost: origin.example\r\n";
        guest.send_all(
            format!(
                "GET /a {host}\r\nGET /b {host}\r\n\r\nPOST /c {host}Content-Length: 2\r\n\r\nhi\
                 POST /d {host}Transfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n\
                 GET http://origin.example/e {host}Connection: close\r\n\r\nGET /never {host}\r\n"
            )
            .as_bytes(),
        )
    });
    let bodies: Vec<_> = got.iter().map(|got| String::from_utf8_lossy(&got.body).into_owned()).collect();
    assert_eq!(bodies, ["/a ", "/b ", "/c hi", "/d ho", "/e "]);
    assert_eq!(outcome.used.len(), 5);
    assert!(!got[3].head.contains("connection: close") && got[4].head.contains("connection: close"));
}

#[test]
fn keep_alive_and_old_clients() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/chunked" => Answer::Chunked(noise(600_000)),
        _ => ok("hello"),
    });
    let world = World::new(&origin);
    world.run(|guest| {
        let mut stream = TcpStream::connect(guest.http).unwrap();
        for _ in 0..3 {
            stream.write_all(b"GET /a HTTP/1.1\r\nHost: origin.example\r\n\r\n").unwrap();
            let mut wire = vec![0; 300];
            let length = stream.read(&mut wire).unwrap();
            assert!(wire[..length].ends_with(b"\r\n\r\nhello"));
        }
        // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
        let mut stream = TcpStream::connect(guest.http).unwrap();
        stream.write_all(b"GET /chunked HTTP/1.0\r\nHost: origin.example\r\n\r\n").unwrap();
        let mut wire = Vec::new();
        stream.read_to_end(&mut wire).unwrap();
        assert!(wire.ends_with(&noise(600_000)) && !wire.starts_with(b"HTTP/1.1 200 OK\r\ntransfer"));
    });
}

#[test]
fn hostile_clients() {
    let origin = Origin::start(|_, _| ok("hello"));
    let world = World::new(&origin);
    let (_, outcome) = world.run(|guest| {
        let status = |bytes: &[u8]| guest.send_all(bytes).first().map(|got| got.status);
        assert_eq!(status(b"nonsense\r\n\r\n"), Some(400));
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), Some(400));
        assert_eq!(status(&[b"GET /".as_slice(), &[b'a'; 70_000]].concat()), Some(431));
        assert_eq!(
            status(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Some(400)
        );
        // More connections than are served at a time, all silent, and then they are gone.
        let silent: Vec<_> =
            (0..MAX_CONNECTIONS + 8).map(|_| TcpStream::connect(guest.http).unwrap()).collect();
        drop(silent);
        assert_eq!(guest.get(HOST, "/a").status, 200);
    });
    assert_eq!((outcome.used.len(), outcome.refused), (1, vec![]));
}

#[test]
fn bodies_are_recorded_whole_even_if_the_client_leaves() {
    let origin = Origin::start(|_, _| ok(noise(8_000_000)));
    let world = World::new(&origin);
    let ((), outcome) = world.run(|guest| {
        let mut stream = TcpStream::connect(guest.http).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: origin.example\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    });
    assert_eq!(outcome.refused, []);
    assert_eq!(outcome.used[0].size, 8_000_000);
}

#[test]
fn ends_while_a_server_is_silent() {
    let origin = Origin::start(|_, _| Answer::Stall(noise(1_000_000), 500_000));
    let world = World::new(&origin);
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = Listeners { http: bind(), https: bind(), dns: UdpSocket::bind("127.0.0.1:0").unwrap() };
    let addr = listeners.http.local_addr().unwrap();
    let config = ProxyConfig {
        recorded: vec![],
        answered: Vec::new(),
        allow_new: true,
        offline: false,
        mirrors: vec![],
        client: client_with(&[("origin.example:80", world.origin)]),
        store: world.store.clone(),
        on_event: Arc::new(|_| ()),
    };
    let mut proxy = Proxy::start(listeners, config).unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: origin.example\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    let begin = Instant::now();
    proxy.stop(Duration::from_millis(100));
    assert!(begin.elapsed() < Duration::from_secs(5));
    let (used, refused) = proxy.shared.exchange.table.take();
    assert_eq!(used, []);
    assert_eq!(refused[0].reason, "the build ended before the whole answer was here");
}

#[test]
fn names() {
    let origin = Origin::start(|_, _| ok("hello"));
    let world = World::new(&origin);
    let ((), outcome) = world.run(|guest| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(b"noise", guest.dns).unwrap();
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01";
        socket.send_to(query, guest.dns).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert!(answer[..length].ends_with(&[127, 0, 0, 1]));
    });
    assert_eq!(outcome.refused, []);
}
