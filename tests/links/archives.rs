//! Tar files of a web server, good and bad ones.

use std::fs;
use std::path::PathBuf;

use crate::common::As;
use crate::common::server::Server;
use crate::{archive, project, project_with_lock, realize, text};

const BASE: &str = "MKDIR /srv\nWRITE text /srv/text\n";

#[test]
fn archives_are_packages() {
    use sha2::Digest;
    let good = archive(&[("top-1.0/base.rinc", BASE), ("top-1.0/sub/base.rinc", BASE)]);
    let sha256 = format!("{:x}", sha2::Sha256::digest(&good));
    let size = good.len();
    let flat = archive(&[("base.rinc", BASE), ("other", "")]);
    let hostile = archive(&[("top/d", "-> /tmp"), ("top/d/base.rinc", BASE)]);
    let server = Server::start(move |path| match path {
        "/good.tar.gz" => (200, String::new(), good.clone()),
        "/flat.tar.gz" => (200, String::new(), flat.clone()),
        "/hostile.tar.gz" => (200, String::new(), hostile.clone()),
        "/a.zip" => (200, String::new(), b"PK\x03\x04rest".to_vec()),
        _ => (404, String::new(), Vec::new()),
    });
    let url = server.url("/good.tar.gz");
    for who in [As::Root, As::User] {
        let unpinned = project(who, &format!("{{ url = \"{url}\" }}"));
        let built = realize(&unpinned, &["t"]);
        assert_eq!(text(&built), "text");
        let lock = unpinned.read("Raptor.lock");
        let expected =
            format!("[link.lib]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\nsize = {size}\ntree = \"");
        assert!(lock.contains(&expected), "{lock}");
        let again = project_with_lock(who, &unpinned, &lock);
        assert_eq!(realize(&again, &["--locked", "t"]).file_name(), built.file_name());
    }
    for source in [
        format!("url = \"{url}\", sha256 = \"{}\"", sha256.to_uppercase()),
        format!("url = \"{url}\", strip = 1, path = \"sub\""),
        format!("url = \"{url}\", strip = 0, path = \"top-1.0/sub\""),
        format!("url = \"{url}\", strip = 2"),
        format!("url = \"{}\"", server.url("/flat.tar.gz")),
    ] {
        let project = project(As::Root, &format!("{{ {source} }}"));
        assert_eq!(text(&realize(&project, &["t"])), "text", "{source}");
    }
    let zeros = "0".repeat(64);
    for (source, message) in [
        (format!("url = \"{url}\", sha256 = \"{zeros}\""), &*sha256),
        (format!("url = \"{url}\", path = \"nope\""), "has no directory `nope`"),
        (format!("url = \"{}\"", server.url("/hostile.tar.gz")), "top/d is a directory and something else"),
        (format!("url = \"{}\"", server.url("/a.zip")), "zip"),
        (format!("url = \"{}\"", server.url("/nope.tar.gz")), "404"),
    ] {
        let project = project(As::Root, &format!("{{ {source} }}"));
        project.fails(&["build", "t"], &["error[E0602]", "Raptor.toml:2:7", message]);
        assert!(!project.path("Raptor.lock").exists());
        assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0);
    }
    // A lock that somebody changed.
    let lock = format!(
        "version = 1\n[link.lib]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\nsize = {size}\ntree = \"{zeros}\"\n"
    );
    let project = project(As::Root, &format!("{{ url = \"{url}\" }}"));
    project.write("Raptor.lock", &lock);
    project.fails(&["build", "t"], &["error[E0602]", "gives the tree", &zeros]);
    assert_eq!(project.read("Raptor.lock"), lock);
}

#[test]
fn nothing_is_read_through_a_package_that_is_not_in_it() {
    let archive = archive(&[
        ("top/dir/hostname", "-> /etc/hostname"),
        ("top/up", "-> ../../../Raptor.toml"),
        ("top/etc", "-> /etc"),
        ("top/inside", "-> dir/real"),
        ("top/dir/real", "real"),
        ("top/include.rinc", "-> /srv/other.rinc"),
        ("top/ok.rapt", "MKDIR /srv\nCOPY inside /srv/text\nCOPY dir /srv/dir\n"),
        ("top/a.rapt", "COPY dir/hostname /x\n"),
        ("top/b.rapt", "COPY up /x\n"),
        ("top/c.rapt", "COPY etc/hostname /x\n"),
        ("top/d.rapt", "RENDER dir/hostname /x\n"),
        ("top/e.rapt", "INCLUDE include\n"),
        ("top/f.rapt", "COPY ../Raptor.toml /x\n"),
        ("top/g.rapt", "{{ load_toml('../Raptor.toml') }}\n"),
        ("top/h.rapt", "COPY ../../../../../etc/hostname /x\n"),
        ("top/i.rapt", "CMD {{ path('dir/hostname').exists() }} {{ path('dir/hostname').is_symlink() }}\n"),
    ]);
    let server = Server::start(move |_| (200, String::new(), archive.clone()));
    let project = project(As::Root, &format!("{{ url = \"{}\" }}", server.url("/a.tar.gz")));
    let built = realize(&project, &["$lib.ok"]);
    assert_eq!(text(&built), "real");
    assert_eq!(fs::read_link(built.join("srv/dir/hostname")).unwrap(), PathBuf::from("/etc/hostname"));
    for target in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let ran = project.run(&["eval", &format!("$lib.{target}")]);
        assert_eq!(ran.status, Some(1), "{target}: {}", ran.stdout);
        assert!(ran.stderr.contains(&format!("$lib/{target}.rapt:1:")), "{target}: {}", ran.stderr);
    }
    let dumped = project.ok(&["dump", "$lib.i"]);
    assert!(dumped.contains("CMD false false\n"), "{dumped}");
}
