//! FETCH, end to end: files of a server on loopback, pinned by the statement or by the lock.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use common::server::Server;
use common::{As, Project};

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const HELLO_BLAKE3: &str = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f";

fn server() -> Server {
    Server::start(|path| match path {
        "/hello" | "/dir/hello-1.0.txt?x=1" => (200, String::new(), b"hello".to_vec()),
        "/moved" => (301, "Location: /hello\r\n".into(), b"elsewhere".to_vec()),
        _ => (404, String::new(), b"nothing".to_vec()),
    })
}

fn realize(project: &Project, args: &[&str]) -> PathBuf {
    PathBuf::from(project.ok(&[&["realize"], args].concat()).trim())
}

#[test]
fn a_digest_in_the_statement_needs_no_lock() {
    let server = server();
    let file = format!(
        "MKDIR /srv\nFETCH --sha256 {HELLO} {} /srv/a\nFETCH --blake3 {HELLO_BLAKE3} --chmod 755 --chown 1:2 {} /srv/b\n\
         FETCH --sha256 {HELLO} {} /srv/\n",
        server.url("/hello"),
        server.url("/moved"),
        server.url("/dir/hello-1.0.txt?x=1"),
    );
    let hashes = [As::Root, As::User].map(|who| {
        let project = Project::of(who, &[("t.rapt", &file)]).with_empty_store();
        let srv = realize(&project, &["--locked", "t"]).join("srv");
        let stat = |name: &str| {
            let stat = fs::metadata(srv.join(name)).unwrap();
            (fs::read_to_string(srv.join(name)).unwrap(), stat.mode() & 0o7777, stat.mtime())
        };
        assert_eq!(stat("a"), ("hello".into(), 0o644, 315_532_800));
        assert_eq!(stat("b"), ("hello".into(), 0o755, 315_532_800));
        assert_eq!(stat("hello-1.0.txt"), stat("a"));
        assert!(!project.path("Raptor.lock").exists());
        if who == As::Root {
            let owner = fs::metadata(srv.join("b")).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (1, 2));
        }
        let asked = server.seen().len();
        // What is in the store is not fetched again, from wherever it is wanted.
        project.write("t.rapt", &file.replace("/moved", "/hello?again"));
        assert_eq!(realize(&project, &["--offline", "t"]), srv.parent().unwrap());
        assert_eq!(server.seen().len(), asked);
        srv.parent().unwrap().file_name().unwrap().to_owned()
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn without_a_digest_the_lock_pins_it() {
    let server = server();
    let url = server.url("/hello");
    let files = [("t.rapt", &*format!("MKDIR /srv\nFETCH {url} /srv/a\n"))];
    let project = Project::new(&files).with_empty_store();
    project.fails(&["build", "--locked", "t"], &["error[E0309]", &url, "t.rapt:2:1", "Raptor.lock"]);
    project.fails(&["build", "--offline", "t"], &["error[E0309]", &url, "t.rapt:2:1"]);
    project.ok(&["check", "t"]);
    assert_eq!(server.seen(), [""; 0]);

    let built = realize(&project, &["t"]);
    let lock = project.read("Raptor.lock");
    assert!(lock.contains(&format!("[fetch.\"{url}\"]\nsha256 = \"{HELLO}\"\nsize = 5\n")), "{lock}");
    assert_eq!(server.seen(), ["/hello"], "once for pinning and building");

    let again = Project::new(&[files[0], ("Raptor.lock", &lock)]).with_empty_store();
    let ran = again.fails(&["build", "--offline", "t"], &["--offline", &url, "t.rapt:2:1"]);
    assert!(!ran.stderr.contains("E0309"), "{}", ran.stderr);
    assert_eq!(realize(&again, &["--locked", "t"]).file_name(), built.file_name());
    assert_eq!(again.read("Raptor.lock"), lock);
    // Nothing of it is left to do.
    let report: serde_json::Value = serde_json::from_str(&again.ok(&["build", "--json", "t"])).unwrap();
    assert_eq!(report["built"], 0);
}

#[test]
fn other_content_is_refused_with_both_digests_and_the_place() {
    let server = server();
    let url = server.url("/hello");
    let wrong = "0".repeat(64);
    for (files, expected) in [
        (vec![("t.rapt", format!("MKDIR /srv\nFETCH --sha256 {wrong} {url} /srv/a\n"))], HELLO),
        (vec![("t.rapt", format!("MKDIR /srv\nFETCH --blake3 {wrong} {url} /srv/a\n"))], HELLO_BLAKE3),
        (
            vec![
                ("t.rapt", "MKDIR /srv\nINCLUDE i\n".to_owned()),
                ("i.rinc", format!("\nFETCH {url} /srv/a\n")),
                ("Raptor.lock", format!("version = 1\n[fetch.\"{url}\"]\nsha256 = \"{wrong}\"\nsize = 5\n")),
            ],
            HELLO,
        ),
    ] {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let project = Project::new(&files).with_empty_store();
        let place = if files.len() > 1 { "i.rinc:2:1" } else { "t.rapt:2:1" };
        project.fails(&["build", "t"], &["error[E0602]", &wrong, expected, place]);
        assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn what_cannot_be_fetched_is_told_with_its_place() {
    let server = server();
    let gone = server.url("/gone");
    for (statement, messages) in [
        (format!("FETCH {gone} /a"), vec!["error[E0602]", &*gone, "404"]),
        (format!("FETCH --sha256 {HELLO} {gone} /a"), vec!["error[E0602]", &*gone, "404"]),
        ("FETCH http://me:hush@127.0.0.1/a /a".into(), vec!["error[E0306]", "user name or password"]),
        (format!("FETCH {} /srv/", server.url("/")), vec!["error[E0306]", "names no file"]),
    ] {
        let project = Project::new(&[("t.rapt", &format!("MKDIR /srv\n{statement}\n"))]);
        let ran = project.fails(&["build", "t"], &messages);
        assert!(ran.stderr.contains("t.rapt:2:"), "no place in:\n{}", ran.stderr);
        assert!(!project.path("Raptor.lock").exists());
    }
}

#[test]
fn a_file_may_have_several_places() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let n_cuts = AtomicUsize::new(0);
    let other = Server::start(|_| (200, String::new(), b"other".to_vec()));
    let server = Server::start(move |path| match path {
        "/hello" => (200, String::new(), b"hello".to_vec()),
        // Less than it says, the first time.
        "/cut" if n_cuts.fetch_add(1, Ordering::Relaxed) == 0 => {
            (200, "Content-Length: 5\r\n\r\nhe".to_owned(), Vec::new())
        }
        "/cut" => (200, String::new(), b"hello".to_vec()),
        _ => (404, String::new(), Vec::new()),
    });
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/hello", listener.local_addr().unwrap())
    };
    let (right, wrong) = (server.url("/hello"), other.url("/hello"));
    let urls = |first: &str| format!("urls = [\"{first}\", \"{right}\"]\n");
    let file = ("t.rapt", "MKDIR /srv\nFETCH @tool /srv/\nFETCH --chmod 755 @tool /srv/run\n");
    let missing = server.url("/missing");
    for (first, digest) in [
        (dead.as_str(), format!("sha256 = \"{HELLO}\"\n")),
        (&missing, format!("blake3 = \"{HELLO_BLAKE3}\"\n")),
        (&wrong, format!("sha256 = \"{HELLO}\"\n")),
        (&wrong, format!("blake3 = \"{HELLO_BLAKE3}\"\n")),
        (&server.url("/cut"), format!("sha256 = \"{HELLO}\"\n")),
    ] {
        let manifest = format!("[fetch.tool]\n{}{digest}", urls(first));
        let project = Project::new(&[("Raptor.toml", &manifest), file]).with_empty_store();
        let srv = realize(&project, &["--locked", "t"]).join("srv");
        assert_eq!(fs::read_to_string(srv.join("run")).unwrap(), "hello", "{manifest}");
        assert!(!project.path("Raptor.lock").exists());
    }

    // Without a digest, what came first is pinned, and the order of places may change.
    let manifest = format!("[fetch.tool]\n{}", urls(&missing));
    let file = ("t.rapt", "MKDIR /srv\nFETCH @tool /srv/tool\n");
    let project = Project::new(&[("Raptor.toml", &manifest), file]).with_empty_store();
    project.fails(&["build", "--locked", "t"], &["error[E0309]", "t.rapt:2:1"]);
    let built = realize(&project, &["t"]);
    assert!(project.read("Raptor.lock").contains(&format!("[fetch.\"{missing}\"]\nsha256 = \"{HELLO}\"")));
    project
        .write("Raptor.toml", &format!("[fetch.tool]\nurls = [\"{wrong}\", \"{right}\", \"{missing}\"]\n"));
    let again = project.with_empty_store();
    assert_eq!(realize(&again, &["--locked", "t"]).file_name(), built.file_name());

    again.write(
        "Raptor.toml",
        &format!("[fetch.tool]\nurls = [\"{wrong}\", \"{missing}\"]\nsha256 = \"{HELLO}\"\n"),
    );
    let fresh = Project::new(&[("Raptor.toml", &again.read("Raptor.toml")), file]).with_empty_store();
    fresh.fails(&["build", "t"], &["error[E0602]", "t.rapt:2:1", "wrong content", "404"]);
    again.write("Raptor.toml", &format!("[fetch.tools]\nurl = \"{right}\"\n"));
    again.fails(&["build", "t"], &["error[E0306]", "no [fetch.tool]", "t.rapt:2:7"]);
    again.write("Raptor.toml", &format!("[fetch.tool]\nurl = \"{right}\"\n[fetch.tools]\nurl = \"{right}\"\n[run.j]\ntarget = \"t\"\nargs = [\"x\"]\n"));
    again.ok(&["check"]);
    let ran = again.run(&["check"]);
    assert!(
        ran.stderr.contains("warning[W0516]") && ran.stderr.contains("Raptor.toml:3:8"),
        "{}",
        ran.stderr
    );
}
