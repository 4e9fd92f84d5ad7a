//! Downloads against a real server: resuming, cuts, lies, several places, several at a time.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::super::origin::{Answer, Origin, client, noise, ok, settings, sha256};
use super::super::{Elsewhere, Settings};
use super::*;

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
    sum: AtomicU64,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    Fixture { _dir: dir, store, sum: AtomicU64::new(0) }
}

impl Fixture {
    fn download(&self, wanted: &Wanted) -> Result<PathBuf, Error> {
        client().download(wanted, &self.store, &|n| {
            self.sum.fetch_add(n, Ordering::Relaxed);
        })
    }

    fn partials(&self) -> usize {
        std::fs::read_dir(self.store.root().join("partial")).unwrap().count()
    }
}

fn wanted(urls: &[String], body: &[u8]) -> Wanted {
    Wanted { name: "it".into(), urls: urls.to_vec(), sha256: sha256(body), size: body.len() as u64 }
}

#[test]
fn fetches_once() {
    let origin = Origin::start(|_, _| ok("hello"));
    let it = fixture();
    let wanted = wanted(&[origin.url("/a")], b"hello");
    let path = it.download(&wanted).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert_eq!(it.download(&wanted).unwrap(), path);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(it.partials(), 0);
    assert_eq!(it.sum.into_inner(), 10);
    let seen = &origin.seen()[0].headers;
    assert_eq!(seen["accept-encoding"], "identity");
    assert!(seen["user-agent"].starts_with("raptor/"));
}

#[test]
fn goes_on_after_cuts() {
    let body = noise(300_000);
    let served = body.clone();
    let origin = Origin::start(move |seen, before| match before {
        0 => Answer::Cut(served.clone(), 100_000),
        1 => Answer::Full(503, vec![("Retry-After", "0".into())], vec![]),
        _ => {
            assert_eq!(seen.headers["range"], "bytes=100000-");
            ok(served.clone())
        }
    });
    let it = fixture();
    let path = it.download(&wanted(&[origin.url("/a")], &body)).unwrap();
    assert!(std::fs::read(path).unwrap() == body);
    assert_eq!(it.sum.into_inner(), 300_000);
}

#[test]
fn resumes_what_an_earlier_process_left() {
    let body = noise(50_000);
    let served = body.clone();
    let origin = Origin::start(move |_, _| ok(served.clone()));
    let it = fixture();
    let wanted = wanted(&[origin.url("/a")], &body);
    let partial = it.store.root().join("partial").join(&wanted.sha256);
    std::fs::write(&partial, &body[..20_000]).unwrap();
    it.download(&wanted).unwrap();
    assert_eq!(origin.seen().last().unwrap().headers["range"], "bytes=20000-");
    assert_eq!(it.partials(), 0);
}

#[test]
fn starts_again_when_the_beginning_was_something_else() {
    let body = noise(50_000);
    let served = body.clone();
    let origin = Origin::start(move |_, _| ok(served.clone()));
    let it = fixture();
    let wanted = wanted(&[origin.url("/a")], &body);
    let partial = it.store.root().join("partial").join(&wanted.sha256);
    for wrong in [vec![1; 20_000], vec![1; 50_000], vec![1; 60_000]] {
        std::fs::write(&partial, wrong).unwrap();
        let path = it.download(&wanted).unwrap();
        assert!(std::fs::read(path).unwrap() == body);
        // The next round must fetch again.
        std::fs::remove_dir_all(it.store.root().join("realized")).unwrap();
        std::fs::create_dir(it.store.root().join("realized")).unwrap();
    }
}

#[test]
fn says_what_is_wrong() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/other" => ok("jello"),
        "/longer" => ok("hello, world"),
        "/chunked" => Answer::Chunked(b"hello, world".to_vec()),
        _ => Answer::Full(404, vec![], b"no".to_vec()),
    });
    let it = fixture();
    let check = |path: &str, expected: &str| {
        let error = it.download(&wanted(&[origin.url(path)], b"hello")).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", origin.url(path)));
        assert_eq!(it.partials(), 0);
    };
    check(
        "/other",
        &format!("wrong content: expected sha256 {}, found {}", sha256(b"hello"), sha256(b"jello")),
    );
    check("/longer", "wrong size: expected 5 bytes, found 12");
    check("/chunked", "wrong size: expected 5 bytes, found 12");
    check("/none", "the server answered 404");
    assert_eq!(origin.seen().iter().filter(|seen| seen.target == "/none").count(), 1, "404 is final");

    let error = it.download(&wanted(&[], b"hello")).unwrap_err().to_string();
    assert_eq!(error, "it: there is no URL to fetch it from");
    let hostile = Wanted { sha256: "../../x".into(), ..wanted(&[], b"") };
    assert_eq!(it.download(&hostile).unwrap_err().to_string(), "it: `../../x` is not a sha256");
}

#[test]
fn tries_every_place() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/good" => ok("hello"),
        "/lie" => ok("jello"),
        _ => Answer::Full(500, vec![], vec![]),
    });
    let it = fixture();
    let places = ["/broken", "/lie", "/good"].map(|path| origin.url(path));
    it.download(&wanted(&places, b"hello")).unwrap();
    // Nobody waits for a place while there are others.
    let n_broken = || origin.seen().iter().filter(|seen| seen.target == "/broken").count();
    assert_eq!(n_broken(), 1);

    let it = fixture();
    let error = it.download(&wanted(&places[..2], b"hello")).unwrap_err().to_string();
    assert!(error.contains("/broken: the server answered 500; "), "{error}");
    assert!(error.contains("/lie: wrong content"), "{error}");
    assert_eq!(n_broken(), 5, "once again, and then with patience");
}

#[test]
fn offline_means_the_store_only() {
    let origin = Origin::start(|_, _| ok("hello"));
    let it = fixture();
    let wanted = wanted(&[origin.url("/a")], b"hello");
    let offline = Client::new(Settings { offline: true, ..Settings::from_env() }).unwrap();
    let error = offline.download(&wanted, &it.store, &|_| ()).unwrap_err().to_string();
    assert_eq!(error, format!("{} is needed, but the network is switched off (--offline)", origin.url("/a")));
    it.download(&wanted).unwrap();
    offline.download(&wanted, &it.store, &|_| ()).unwrap();
}

#[test]
fn several_at_a_time() {
    let origin = Origin::start(|seen, _| ok(seen.target.clone()));
    let it = fixture();
    let all: Vec<Wanted> = (0..40)
        .map(|idx| {
            let path = format!("/{}", idx % 30);
            wanted(&[origin.url(&path)], path.as_bytes())
        })
        .collect();
    let paths = client().download_all(&all, &it.store, &|_| (), &Default::default()).unwrap();
    for (wanted, path) in all.iter().zip(&paths) {
        assert_eq!(sha256(&std::fs::read(path).unwrap()), wanted.sha256);
    }
    assert_eq!(origin.seen().len(), 30, "two that want the same file share it");
    assert_eq!(
        client().download_all(&[], &it.store, &|_| (), &Default::default()).unwrap(),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn the_first_failure_ends_it() {
    let origin = Origin::start(|seen, _| match &*seen.target {
        "/bad" => Answer::Full(404, vec![], vec![]),
        _ => ok(seen.target.clone()),
    });
    let it = fixture();
    let mut all: Vec<Wanted> = (0..400)
        .map(|idx| format!("/{idx}"))
        .map(|path| wanted(&[origin.url(&path)], path.as_bytes()))
        .collect();
    all.insert(3, wanted(&[origin.url("/bad")], b"x"));
    let error = client().download_all(&all, &it.store, &|_| (), &Default::default()).unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(origin.seen().len() < 400, "the rest is not fetched");
}

#[test]
fn small_texts() {
    let origin = Origin::start(|seen, before| match &*seen.target {
        "/flaky" if before == 0 => Answer::Cut(b"hello".to_vec(), 2),
        "/binary" => ok([0xff]),
        "/moved" => Answer::Full(302, vec![("Location", "/flaky".into())], vec![]),
        _ => ok("hello"),
    });
    let get = |path: &str, limit| client().get_text(&origin.url(path), limit).map_err(|err| err.to_string());
    assert_eq!(get("/flaky", 5).unwrap(), "hello");
    assert_eq!(get("/moved", 5).unwrap(), "hello");
    assert!(get("/a", 4).unwrap_err().ends_with("/a: longer than 4 bytes"));
    assert!(get("/binary", 4).unwrap_err().ends_with("/binary: not UTF-8 text"));
}

#[test]
fn servers_that_send_next_to_nothing_are_given_up() {
    let origin = Origin::start(|seen, before| match (&*seen.target, before) {
        ("/silent" | "/recovers", 0) | ("/silent", _) => Answer::Stall(noise(100_000), 1000),
        ("/drips", _) => Answer::Drip(noise(100_000), Duration::from_millis(5)),
        _ => ok(noise(100_000)),
    });
    let client = Client::new(Settings { silence: Duration::from_millis(400), ..settings() }).unwrap();
    let it = fixture();
    for path in ["/silent", "/drips"] {
        let wanted = wanted(&[origin.url(path)], &noise(100_000));
        let error = client.download(&wanted, &it.store, &|_| ()).unwrap_err();
        assert!(error.is_transient(), "{error}");
        let asked = origin.seen().iter().filter(|seen| seen.target == path).count();
        assert_eq!(asked, 3, "a few bytes more are no progress");
        let expected = Some(&Digest::Sha256(wanted.sha256.clone()));
        let key = Some(&Key::new([0; 32]));
        let stop = AtomicBool::new(false);
        let error =
            client.download_sizeless(&wanted.urls, expected, key, &it.store, &|_| (), &stop).unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    client.download(&wanted(&[origin.url("/recovers")], &noise(100_000)), &it.store, &|_| ()).unwrap();
}

#[test]
fn caches_are_asked_last_and_not_believed() {
    let (good, lie) = ("a".repeat(64), "b".repeat(64));
    let key = |body: &[u8]| Key::fetched(&sha256(body), body.len() as u64);
    let record = |hash: &str| format!("{{\"output\":\"{hash}\",\"millis\":0,\"check\":\"\"}}");
    let answers = [
        (format!("/one/realized/{}.json", key(b"hello")), record(&lie)),
        (format!("/one/trees/{lie}"), "jello".to_owned()),
        (format!("/two/realized/{}.json", key(b"hello")), record(&good)),
        (format!("/two/trees/{good}"), "hello".to_owned()),
        (format!("/two/realized/{}.json", key(b"other")), "no record".to_owned()),
    ];
    let origin = Origin::start(move |seen, _| match answers.iter().find(|(path, _)| *path == seen.target) {
        Some((_, text)) => ok(text.clone()),
        None => Answer::Full(404, vec![], vec![]),
    });
    let caches = ["/one", "/two"].map(|path| ("X", origin.url(path))).to_vec();
    let elsewhere = Elsewhere::new(None, caches).unwrap();
    let client = Client::new(Settings { elsewhere, ..settings() }).unwrap();
    let it = fixture();
    let path = client.download(&wanted(&[origin.url("/gone")], b"hello"), &it.store, &|_| ()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"hello");
    let asked: Vec<String> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(asked[0], "/gone");
    assert!(asked[1].starts_with("/one/realized/") && asked[3].starts_with("/two/realized/"), "{asked:?}");
    let error = client.download(&wanted(&[origin.url("/gone")], b"other"), &it.store, &|_| ()).unwrap_err();
    let error = error.to_string();
    for said in ["/gone: the server answered 404", "/one/realized/", "no record of a store"] {
        assert!(error.contains(said), "no `{said}` in {error}");
    }
    assert_eq!(it.partials(), 0);
}
