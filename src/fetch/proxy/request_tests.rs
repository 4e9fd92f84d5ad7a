//! Tests of the request parser: what is understood, what is refused, and that no bytes hurt.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Head, Bad> {
    let text = text.replace('\n', "\r\n");
    let (head, length) = parse_head(text.as_bytes(), false)?.expect("a whole head");
    assert_eq!(length, text.len());
    Ok(head)
}

#[test]
fn targets() {
    let check = |line: &str, host: &str, expected: Result<&str, &str>| {
        let found = parse(&format!("{line} HTTP/1.1\nHost: {host}\n\n"));
        let found = match &found {
            Ok(head) => Ok(match &head.target {
                Target::Url(url) => url.clone(),
                Target::Tunnel(host) => format!("tunnel to {host}"),
            }),
            Err(bad) => Err(bad.reason),
        };
        assert_eq!(found.as_deref().map_err(|it| *it), expected, "for {line} of {host}");
    };
    check("GET /a?b=c", "Origin.example", Ok("http://origin.example/a?b=c"));
    check("GET /a#b", "origin.example:80", Ok("http://origin.example/a"));
    check("GET //a", "origin.example:8080", Ok("http://origin.example:8080//a"));
    check("GET /", "[::1]:80", Ok("http://[::1]/"));
    check("GET http://Other.example:80/x", "origin.example", Ok("http://other.example/x"));
    check("GET HTTP://other.example?q", "origin.example", Ok("http://other.example/?q"));
    check("GET https://other.example/x", "origin.example", Ok("https://other.example/x"));
    check("GET https://Me:X@Other.example:443", "x", Ok("https://Me:X@other.example/"));
    check("CONNECT Other.example:443", "other.example:443", Ok("tunnel to other.example:443"));
    check("GET ftp://other.example/x", "x", Err("FTP is not recorded; only http and https are"));
    check("GET gopher://x/", "x", Err("this is not recorded; only http and https are"));
    check("GET x", "x", Err("the request target is neither a path nor a URL"));
    check("OPTIONS *", "x", Err("the request target is neither a path nor a URL"));
    check("GET /", "user@host", Err("there is more than one host, or a strange one"));
    for host in ["", "a b", "host:port", "host:99999", "[::1", "[x]", "a/b", "h\u{e9}"] {
        check("GET /", host, Err("the host is not valid"));
    }
    check("GET /\u{e9}", "x", Err("the path is not valid in a URL"));
    check("get /", "x", Err("this method is not supported"));
}

#[test]
fn headers() {
    let get = |headers: &str| parse(&format!("GET / HTTP/1.1\nHost: x\n{headers}\n"));
    let head = get("Accept: */*\nRange: bytes=1-\nIf-None-Match: x\nX-Hop: 1\nConnection: close, X-Hop\n\
                    User-Agent: me\nAccept-Encoding: gzip\nProxy-Connection: x\nX-Kept: 1\nX-Kept: 2\n")
    .unwrap();
    assert!(!head.keep_alive);
    assert_eq!(head.accept, None);
    let mut names: Vec<_> = head.forwarded.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    names.sort();
    assert_eq!(names, ["accept: \"*/*\"", "user-agent: \"me\"", "x-kept: \"1\"", "x-kept: \"2\""]);
    assert_eq!(get("Accept: a\nAccept: b\n").unwrap().accept.as_deref(), Some("a, b"));
    assert_eq!(get("Accept: \u{e9}\n").unwrap_err().status, 400);
    assert_eq!(get("Host: y\n").unwrap_err().reason, "there is more than one host, or a strange one");
    assert_eq!(parse("GET / HTTP/1.1\n\n").unwrap_err().reason, "the Host header is missing");
    assert!(!parse("GET / HTTP/1.0\nHost: x\n\n").unwrap().keep_alive);
    let many = "A: b\n".repeat(MAX_HEADERS);
    assert_eq!(get(&many).unwrap_err().status, 431);
    let long = vec![b'a'; MAX_HEAD];
    assert_eq!(parse_head(&[b"GET /", &long[..]].concat(), false).unwrap_err().status, 431);
}

#[test]
fn ranges() {
    let check = |text: &str, expected: Option<(Option<u64>, Option<u64>)>| {
        let head = parse(&format!("GET / HTTP/1.1\nHost: x\nRange: {text}\n\n")).unwrap();
        assert_eq!(head.range.map(|it| (it.first, it.last)), expected, "for {text}");
    };
    check("bytes=0-9", Some((Some(0), Some(9))));
    check("bytes=5-", Some((Some(5), None)));
    check("bytes=-5", Some((None, Some(5))));
    for text in ["bytes=9-0", "bytes=-", "bytes=0-1,5-", "bytes=+1-", "lines=1-2", "bytes=1", ""] {
        check(text, None);
    }
    let head = parse("GET / HTTP/1.1\nHost: x\nRange: bytes=1-\nIf-Range: \"x\"\n\n").unwrap();
    assert_eq!(head.range.unwrap().unless_changed.as_deref(), Some("\"x\""));
    assert!(parse("POST / HTTP/1.1\nHost: x\nRange: bytes=1-\n\n").unwrap().range.is_none());
}

#[test]
fn framings() {
    let check = |headers: &str, expected: Result<Framing, u16>| {
        let found = parse(&format!("POST / HTTP/1.1\nHost: x\n{headers}\n"));
        assert_eq!(found.map(|head| head.framing).map_err(|bad| bad.status), expected, "for {headers}");
    };
    check("", Ok(Framing::Length(0)));
    check("Content-Length: 7\n", Ok(Framing::Length(7)));
    check("Transfer-Encoding: Chunked\n", Ok(Framing::Chunked));
    check("Content-Length: 7\nContent-Length: 7\n", Err(400));
    check("Content-Length: 7\nTransfer-Encoding: chunked\n", Err(400));
    check("Content-Length: +7\n", Err(400));
    check("Content-Length: -7\n", Err(400));
    check("Transfer-Encoding: gzip, chunked\n", Err(501));
    check("Content-Length: 16777217\n", Err(413));
    check("Content-Length: 99999999999999999999999\n", Err(413));
}

#[test]
fn chunks() {
    let feed = |input: &[u8]| {
        let mut chunks = Chunks::default();
        let used = chunks.feed(input).map_err(|bad| bad.status)?;
        Ok((String::from_utf8(chunks.body.clone()).unwrap(), used, chunks.is_done()))
    };
    let whole = b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\nGET";
    assert_eq!(feed(whole), Ok(("hello!".into(), whole.len() - 3, true)));
    assert_eq!(feed(b"5\r\nhel"), Ok(("hel".into(), 6, false)));
    assert_eq!(feed(b"5\r\nhelloX"), Err(400));
    assert_eq!(feed(b"zz\r\n"), Err(400));
    assert_eq!(feed(b"ffffffff\r\n"), Err(413));
    assert_eq!(feed(b"fffffffffffffffff\r\n"), Err(400));
    assert_eq!(feed(&[b"1;".as_slice(), &[b'a'; 2000]].concat()), Err(400));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_head(&bytes, true);
        let _ = Chunks::default().feed(&bytes);
    }

    #[test]
    fn no_request_panics(
        method in "[A-Z]{1,4}|\\PC{0,3}", target in "/?(https?://)?[ -~]{0,9}\\PC{0,2}",
        host in "[\\[\\]a-z0-9.:@-]{0,9}\\PC?",
        headers in "((Accept|Connection|Content-Length|Range|Transfer-Encoding|X): ?[ -~é]{0,9}\r\n){0,4}",
        secure: bool,
    ) {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        if let Ok(Some((Head { target: Target::Url(url), .. }, length))) = parse_head(text.as_bytes(), secure) {
            prop_assert!(length <= text.len());
            // What we accept can be fetched and written into a lock, and is already in its normal form.
            let uri: Uri = url.parse().unwrap();
            prop_assert!(url.bytes().all(|b| b.is_ascii_graphic()));
            let authority = uri.authority().unwrap().to_string();
            let scheme = if url.starts_with("https:") { Scheme::Https } else { Scheme::Http };
            let path = &url[url.find("://").unwrap() + 3 + authority.len()..];
            prop_assert_eq!(super::url(scheme, &authority, path), Ok(url.clone()));
        }
    }

    #[test]
    fn chunks_come_in_any_pieces(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        width in 1usize..20,
    ) {
        let mut wire = Vec::new();
        for piece in &pieces {
            wire.extend(format!("{:x}\r\n", piece.len()).bytes());
            wire.extend(piece);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        let mut chunks = Chunks::default();
        let mut buffer = Vec::new();
        for part in wire.chunks(width) {
            buffer.extend(part);
            let used = chunks.feed(&buffer).unwrap();
            buffer.drain(..used);
        }
        prop_assert!(chunks.is_done());
        prop_assert_eq!(chunks.body, pieces.concat());
    }
}
