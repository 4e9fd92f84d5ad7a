//! Tests of the lock file: what it looks like, what it refuses, and that nothing is lost on the way.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use raptor_lang::manifest::GitRef;

use super::super::{DebianPackage, DebianRepository, EMPTY_SHA256, KEPT_HEADERS, Origin};
use super::*;

const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn entry(url: &str) -> NetworkEntry {
    NetworkEntry {
        url: url.into(),
        method: "GET".into(),
        accept: None,
        body: None,
        status: 200,
        sha256: DIGEST.into(),
        size: 3,
        headers: Vec::new(),
    }
}

fn sample() -> Lock {
    let package = |name: &str, essential| DebianPackage {
        name: name.into(),
        version: "1:2.6~rc1-1+b1".into(),
        architecture: "amd64".into(),
        path: format!("pool/main/{name}.deb"),
        sha256: DIGEST.into(),
        size: 12,
        essential,
        from: None,
        wanted: false,
    };
    let pin = DebianPin {
        mirror: "http://mirror.example/debian".into(),
        date: 1_700_000_000,
        components: vec!["main".into(), "non-free-firmware".into()],
        keyring: None,
        repositories: Vec::new(),
        packages: vec![package("zlib1g", true), package("apt", false)],
        included: Vec::new(),
    };
    let repository = |name: Option<&str>, url: &str, suite: &str| DebianRepository {
        name: name.map(str::to_owned),
        url: url.into(),
        suite: suite.into(),
        components: pin.components.clone(),
        date: 1_700_000_001,
        key: None,
    };
    let flat = DebianRepository {
        components: Vec::new(),
        key: Some(DIGEST.into()),
        ..repository(Some("tools"), "https://packages.example/tools", "./")
    };
    let rich = DebianPin {
        keyring: Some(DIGEST.into()),
        repositories: vec![
            repository(None, &pin.mirror, "bookworm-updates"),
            repository(None, "http://mirror.example/debian-security", "bookworm-security"),
            flat,
        ],
        packages: vec![DebianPackage {
            from: Some("bookworm-security".into()),
            wanted: true,
            ..package("zlib1g", true)
        }],
        included: vec![DebianPackage { from: Some("tools".into()), wanted: true, ..package("less", false) }],
        ..pin.clone()
    };
    let post = NetworkEntry {
        method: "POST".into(),
        accept: Some("application/json".into()),
        body: Some(DIGEST.into()),
        status: 404,
        sha256: EMPTY_SHA256.into(),
        size: 0,
        headers: vec![("content-type".into(), "text/plain".into()), ("etag".into(), "\"a\\b\"".into())],
        ..entry("http://origin.example/api?q=1")
    };
    Lock {
        debian: [("bookworm?variant=apt".into(), pin), ("other?include=less".into(), rich)].into(),
        docker: Default::default(),
        fetch: [(
            "https://origin.example/tool-1.0.tar.gz".into(),
            FilePin { sha256: DIGEST.into(), size: 3 },
        )]
        .into(),
        link: [
            (
                "lib".into(),
                LinkPin {
                    origin: Origin::Git {
                        url: "https://origin.example/lib.git".into(),
                        at: GitRef::Branch("main".into()),
                        rev: DIGEST[..40].into(),
                    },
                    path: Some("sub/dir".into()),
                    tree: DIGEST.into(),
                },
            ),
            (
                "lib/inner".into(),
                LinkPin {
                    origin: Origin::Archive {
                        url: "https://origin.example/inner.tar.gz".into(),
                        strip: Some(2),
                        sha256: DIGEST.into(),
                        size: 3,
                    },
                    path: None,
                    tree: DIGEST.into(),
                },
            ),
        ]
        .into(),
        layers: [
            ("base".into(), vec![entry("debian:/dists/bookworm/InRelease"), post]),
            ("getty@tty1".into(), vec![entry("http://origin.example/x")]),
            ("$std.lib.tools".into(), vec![]),
        ]
        .into(),
    }
}

#[test]
fn looks_like_this() {
    insta::assert_snapshot!(sample().render(), @r##"
    # What builds of this project saw of the internet. Written by raptor; made to be committed.
    version = 1

    [debian."bookworm?variant=apt"]
    mirror = "http://mirror.example/debian"
    date = 1700000000
    components = ["main", "non-free-firmware"]
    packages = [
      { name = "zlib1g", version = "1:2.6~rc1-1+b1", arch = "amd64", path = "pool/main/zlib1g.deb", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 12, essential = true },
      { name = "apt", version = "1:2.6~rc1-1+b1", arch = "amd64", path = "pool/main/apt.deb", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 12 },
    ]

    [debian."other?include=less"]
    mirror = "http://mirror.example/debian"
    date = 1700000000
    components = ["main", "non-free-firmware"]
    keyring = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    repositories = [
      { suite = "bookworm-updates", date = 1700000001 },
      { url = "http://mirror.example/debian-security", suite = "bookworm-security", date = 1700000001 },
      { name = "tools", url = "https://packages.example/tools", suite = "./", components = [], date = 1700000001, key = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" },
    ]
    packages = [
      { name = "zlib1g", version = "1:2.6~rc1-1+b1", arch = "amd64", path = "pool/main/zlib1g.deb", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 12, from = "bookworm-security", wanted = true, essential = true },
    ]
    included = [
      { name = "less", version = "1:2.6~rc1-1+b1", arch = "amd64", path = "pool/main/less.deb", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 12, from = "tools", wanted = true },
    ]

    [fetch."https://origin.example/tool-1.0.tar.gz"]
    sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    size = 3

    [link.lib]
    git = "https://origin.example/lib.git"
    branch = "main"
    path = "sub/dir"
    rev = "2c26b46b68ffc68ff99b453c1d30413413422d70"
    tree = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

    [link."lib/inner"]
    url = "https://origin.example/inner.tar.gz"
    sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    size = 3
    strip = 2
    tree = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

    [layers."$std.lib.tools"]
    requests = [
    ]

    [layers.base]
    requests = [
      { url = "debian:/dists/bookworm/InRelease", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 3 },
      { method = "POST", url = "http://origin.example/api?q=1", accept = "application/json", body = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", status = 404, headers = { content-type = "text/plain", etag = "\"a\\b\"" } },
    ]

    [layers."getty@tty1"]
    requests = [
      { url = "http://origin.example/x", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size = 3 },
    ]
    "##);
}

#[test]
fn saves_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Raptor.lock");
    assert_eq!(Lock::load(&path).unwrap(), Lock::default());
    Lock::default().save(&path).unwrap();
    assert!(!path.exists());

    let lock = sample();
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap(), lock);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&path);
    lock.save(&path).unwrap();
    assert_eq!(inode(&path), before);

    Lock::default().save(&path).unwrap();
    assert_eq!(Lock::load(&path).unwrap(), Lock::default());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn refuses() {
    let check = |text: &str, expected: &str| {
        let text = text.replace("DIGEST", DIGEST);
        let found = Lock::parse(Path::new("Raptor.lock"), &text).unwrap_err().to_string();
        assert_eq!(found, expected, "for:\n{text}");
    };
    check("", "Raptor.lock:1:1: `version` is missing");
    check(
        "version = 7\nfuture = true",
        "Raptor.lock has version 7; this raptor reads version 1: use a newer raptor",
    );
    check("version = 0", "Raptor.lock:1:11: the version is below 1");
    check("version = 1\nlayer = 3", "Raptor.lock:2:1: unknown field `layer`");
    check("version = 1\nlayers = 3", "Raptor.lock:2:10: `layers` is not a table");
    check(
        "version = 1\nlayers =\n",
        "Raptor.lock:2:9: string values must be quoted, expected literal string",
    );
    check("version = 1\n<<<<<<< ours\n", "Raptor.lock:2:1: a merge conflict is not resolved here");
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"ftp://x\" }]",
        "Raptor.lock:3:21: `url` is not an http, https or debian URL",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [\n { url = \"http://x/\" },\n { url = \"http://x/\" },\n]",
        "Raptor.lock:5:2: the request `GET http://x/` is here twice",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", sha256 = \"ABC\", size = 1 }]",
        "Raptor.lock:3:43: `sha256` is not a sha256 in 64 lower-case hex digits",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", sha256 = \"DIGEST\" }]",
        "Raptor.lock:3:13: `size` is missing",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", sha256 = \"DIGEST\", size = 0 }]",
        "Raptor.lock:3:118: `size` and `sha256` contradict each other",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", status = 503 }]",
        "Raptor.lock:3:43: `status` is not between 200 and 499",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", headers = { etag = \"a\\r\\nx: y\" } }]",
        "Raptor.lock:3:53: `etag` is not a header value",
    );
    check(
        "version = 1\n[layers.a]\nrequests = [{ url = \"http://x/\", headers = { set-cookie = \"a\" } }]",
        "Raptor.lock:3:59: the header `set-cookie` does not belong in a lock",
    );
    check(
        "version = 1\n[fetch.x]\nsha256 = \"DIGEST\"\nsize = 1",
        "Raptor.lock:2:1: `x` is not an http or https URL",
    );
    check("version = 1\n[fetch.\"http://x/\"]\nsha256 = \"DIGEST\"", "Raptor.lock:2:1: `size` is missing");
    let package = "version = 1\n[debian.b]\nmirror = \"http://mirror.example\"\ndate = 1\ncomponents = []\n\
                   packages = [{ name = \"a\", version = \"1\", arch = \"all\", path = \"PATH\", \
                   sha256 = \"DIGEST\", size = SIZE }]";
    for path in ["../x", "/etc/x", "a/../b", "a//b", ""] {
        check(
            &package.replace("PATH", path).replace("SIZE", "1"),
            "Raptor.lock:6:63: `path` is not a relative path without `..`",
        );
    }
    let from = package.replace("PATH", "a").replace("size = SIZE", "size = 1, from = \"x\"");
    check(&from, "Raptor.lock:6:162: there is no repository `x`");
    let twice = "\nrepositories = [{ name = \"x\", suite = \"a\", date = 1 }, \
                 { name = \"x\", url = \"http://other.example\", suite = \"b\", date = 1 }]";
    check(&(from + twice), "Raptor.lock:7:56: `x` has two URLs");
    check(&package.replace("PATH", "a").replace("SIZE", "-1"), "Raptor.lock:6:152: `size` is negative");
}

#[test]
fn tells_where_it_is_not_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Raptor.lock");
    std::fs::write(&path, b"version = 1\n# \xff").unwrap();
    let found = Lock::load(&path).unwrap_err().to_string();
    assert!(found.ends_with("Raptor.lock:2:3: this is not UTF-8"), "{found}");
}

fn any_entry() -> impl Strategy<Value = NetworkEntry> {
    let header = prop::sample::subsequence(KEPT_HEADERS, 0..=KEPT_HEADERS.len());
    (
        "(http://|https://|debian:/|debian:x-y/)[!-~]{1,20}",
        prop::sample::select(vec!["GET", "HEAD", "POST"]),
        prop::option::of("[ -~]{1,12}"),
        prop::option::of("[0-9a-f]{64}"),
        200u16..500,
        prop::option::of(("[0-9a-f]{64}", 1u64..1 << 40)),
        (header, "[ -~]{0,12}"),
    )
        .prop_map(|(url, method, accept, body, status, content, (names, value))| {
            let (sha256, size) = content.unwrap_or((EMPTY_SHA256.into(), 0));
            let headers = names.into_iter().map(|name| (name.to_owned(), value.clone())).collect();
            NetworkEntry { url, method: method.into(), accept, body, status, sha256, size, headers }
        })
}

fn any_pin() -> impl Strategy<Value = DebianPin> {
    let package =
        ("[a-z][a-z0-9+.-]{0,8}", "[0-9a-zA-Z.+:~-]{1,8}", "[!-.0-~]{3,9}", 0u64..1 << 40, any::<bool>());
    ("[!-~]{0,9}", any::<i64>(), vec("[a-z]{1,5}", 0..3), vec(package, 0..5)).prop_map(
        |(mirror, date, components, packages)| DebianPin {
            mirror: format!("http://{mirror}"),
            date,
            components,
            keyring: None,
            repositories: Vec::new(),
            included: Vec::new(),
            packages: (packages.into_iter().enumerate())
                .map(|(idx, (name, version, path, size, essential))| DebianPackage {
                    name: format!("{name}{idx}"),
                    version,
                    architecture: "amd64".into(),
                    path: format!("pool/{path}"),
                    sha256: DIGEST.into(),
                    size,
                    essential,
                    from: None,
                    wanted: essential,
                })
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        debian in btree_map("\\PC{0,12}", any_pin(), 0..3),
        fetch in btree_map("https?://[!-~]{1,20}", ("[0-9a-f]{64}", 0u64..1 << 40), 0..3),
        layers in btree_map(any::<String>(), vec(any_entry(), 0..4), 0..3),
    ) {
        let fetch = fetch.into_iter().map(|(url, (sha256, size))| (url, FilePin { sha256, size })).collect();
        let mut lock = Lock { debian, fetch, layers, ..Lock::default() };
        for entries in lock.layers.values_mut() {
            entries.sort();
            entries.dedup_by_key(|it| (it.url.clone(), it.method.clone(), it.accept.clone(), it.body.clone()));
        }
        let text = lock.render();
        prop_assert_eq!(Lock::parse(Path::new("Raptor.lock"), &text).unwrap(), lock);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}|version = 1\n\\[layers\\.a\\]\nrequests = \\[\\PC{0,40}") {
        let _ = Lock::parse(Path::new("Raptor.lock"), &text);
    }
}
