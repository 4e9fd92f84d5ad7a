//! Repositories behind HTTP and on disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::common::{self, As};
use crate::repository::GitServer;
use crate::{fill, library, project, project_with_lock, realize, text};

#[test]
fn a_branch_is_pinned_until_the_lock_forgets_it() {
    let repository = library("first");
    let first = repository.head();
    let server = GitServer::start(&repository);
    for who in [As::Root, As::User] {
        repository.reset(&first);
        let url = server.url();
        let project = project(who, &format!("{{ git = \"{url}\", branch = \"main\" }}"));
        project.fails(&["build", "--locked", "t"], &["error[E0309]", "Raptor.toml:2:7", "`lib`"]);
        project.fails(&["check", "--offline", "t"], &["error[E0309]", "Raptor.toml:2:7"]);
        project.fails(&["lock", "--check", "t"], &["error[E0309]", "Raptor.toml:2:7"]);
        assert!(!project.path("Raptor.lock").exists());
        let built = realize(&project, &["t"]);
        assert_eq!(text(&built), "first");
        let lock = project.read("Raptor.lock");
        let expected =
            format!("[link.lib]\ngit = \"{url}\"\nbranch = \"main\"\nrev = \"{first}\"\ntree = \"");
        assert!(lock.contains(&expected), "{lock}");

        // Bytes as they are, links as links, and programs as programs.
        assert_eq!(fs::read(built.join("srv/files/plain")).unwrap(), b"one\r\ntwo\n");
        assert_eq!(fs::read_link(built.join("srv/files/link")).unwrap(), PathBuf::from("/etc/hostname"));
        let mode = |name: &str| fs::metadata(built.join("srv/files").join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("plain"), mode("run")), (0o644, 0o755));

        // The branch moves; the lock does not, also where nothing of it is in the store.
        fill(&repository, "second");
        repository.commit();
        let asked = server.seen();
        assert_eq!(realize(&project, &["--offline", "t"]), built);
        assert_eq!(server.seen(), asked, "no request for what is in the store");
        let again = project_with_lock(who, &project, &lock);
        again.fails(&["build", "--offline", "t"], &["error[E0602]", "Raptor.toml:2:7", "--offline"]);
        assert_eq!(realize(&again, &["--locked", "t"]).file_name(), built.file_name());
        assert_eq!(again.read("Raptor.lock"), lock);

        let changes = again.ok(&["update", "$lib"]);
        assert!(changes.contains("changed $lib") && changes.contains(&first[..12]), "{changes}");
        assert_eq!(text(&realize(&again, &["--locked", "t"])), "second");
        assert!(again.read("Raptor.lock").contains(&repository.head()));
    }
}

#[test]
fn nothing_of_git_on_this_machine_counts() {
    let repository = library("text");
    repository.write(".gitattributes", "* text eol=crlf filter=loud ident\nfiles/run export-ignore\n");
    repository.write("sub/deep/base.rinc", "MKDIR /srv\nWRITE deep /srv/text\n");
    let head = repository.commit();
    repository.git(&["tag", "--annotate", "--message", "A tag", "v1"]);
    let server = GitServer::start(&repository);
    let bare = tempfile::tempdir_in(common::scratch()).unwrap();
    let (from, to) = (repository.path(".git"), bare.path().join("bare.git"));
    repository.git(&["clone", "--quiet", "--bare", from.to_str().unwrap(), to.to_str().unwrap()]);
    let home = tempfile::tempdir().unwrap();
    let config = "[core]\nautocrlf = true\n[filter \"loud\"]\nsmudge = tr a-z A-Z\n\
                  [url \"http://nowhere.example/\"]\ninsteadOf = http://\n[credential]\nhelper = /bin/false\n";
    fs::write(home.path().join(".gitconfig"), config).unwrap();

    let url = server.url();
    let sources = [
        format!("git = \"{url}\", rev = \"{head}\""),
        format!("git = \"{url}\", tag = \"v1\""),
        format!("git = \"file://{}\", tag = \"v1\"", to.display()),
        format!("git = \"{}\", branch = \"main\"", from.display()),
    ];
    let store = tempfile::tempdir_in(common::scratch()).unwrap();
    let stored = repository.git(&["cat-file", "blob", "HEAD:files/plain"]);
    assert_eq!(stored, "one\ntwo\n", "a checkout of git would have CR LF");
    let mut trees = Vec::new();
    for source in &sources {
        let project = project(As::Root, &format!("{{ {source} }}"));
        let mut command = project.command(&["realize", "t"]);
        command.env("HOME", home.path()).env("RAPTOR_STORE", store.path());
        command.env("GIT_DIR", "/nonexistent").env("GIT_ALTERNATE_OBJECT_DIRECTORIES", "/nonexistent");
        let ran = common::ran(command.output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let lock = project.read("Raptor.lock");
        assert!(lock.contains(&format!("rev = \"{head}\"")), "{lock}");
        trees.push((lock.lines().last().unwrap().to_owned(), ran.stdout.clone()));
        let built = PathBuf::from(ran.stdout.trim());
        assert_eq!(fs::read_to_string(built.join("srv/files/plain")).unwrap(), stored);
    }
    assert!(trees.iter().all(|it| *it == trees[0]), "one tree for all: {trees:?}");

    let part = project(As::Root, &format!("{{ {}, path = \"sub/deep\" }}", sources[2]));
    assert_eq!(text(&realize(&part, &["t"])), "deep");
    assert!(part.read("Raptor.lock").contains("path = \"sub/deep\""));
}

#[test]
fn repositories_that_cannot_be_used_are_told() {
    let repository = library("text");
    let first = repository.head();
    repository.write("sub/file", "x");
    repository.git(&["add", "--all"]);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},sub/module")]);
    repository.git(&["commit", "--quiet", "--message", "A submodule"]);
    repository.git(&["branch", "module"]);
    repository.reset(&first);
    repository.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    repository.commit();
    repository.git(&["branch", "lfs"]);
    repository.reset(&first);
    let gone = repository.commit();
    let server = GitServer::start(&repository);
    let url = server.url();
    let pinned = project(As::Root, &format!("{{ git = \"{url}\", branch = \"main\" }}"));
    pinned.ok(&["build", "t"]);
    // Somebody rewrites the branch, and the server throws away what it led to.
    repository.reset(&first);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["prune", "--expire=now"]);
    let again = project_with_lock(As::Root, &pinned, &pinned.read("Raptor.lock"));
    again.fails(
        &["build", "t"],
        &["error[E0602]", "Raptor.toml:2:7", &format!("has no commit {gone}"), "Raptor.lock"],
    );

    let missing = "0".repeat(40);
    for (source, message) in [
        (format!("git = \"{url}\", branch = \"nope\""), "has no branch `nope`"),
        (format!("git = \"{url}\", tag = \"nope\""), "has no tag `nope`"),
        (format!("git = \"{url}\", rev = \"{missing}\""), "has no commit 0000"),
        (format!("git = \"{url}\", branch = \"module\""), "sub/module is a submodule"),
        (format!("git = \"{url}\", branch = \"lfs\""), "big.bin is kept in Git LFS"),
        (
            format!("git = \"{url}\", branch = \"main\", path = \"files/plain\""),
            "has no directory `files/plain`",
        ),
        (
            format!("git = \"{}\", branch = \"nope\"", repository.path(".git").display()),
            "has no branch `nope`",
        ),
        ("git = \"/nonexistent\", branch = \"main\"".to_owned(), "/nonexistent"),
        (format!("git = \"{url}/nope\", branch = \"main\""), "404"),
    ] {
        let project = project(As::Root, &format!("{{ {source} }}"));
        project.fails(&["build", "t"], &["error[E0602]", "Raptor.toml:2:7", "`lib`", message]);
        assert!(!project.path("Raptor.lock").exists());
        assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0);
    }
    let secret = project(As::Root, "{ git = \"https://me:hunter2@git.example/a\", branch = \"main\" }");
    let ran = secret.fails(&["build", "t"], &["error[E0402]", "password", "Raptor.toml:2:15"]);
    assert!(
        !ran.stderr.lines().any(|it| it.starts_with("error") && it.contains("hunter2")),
        "{}",
        ran.stderr
    );
}

#[test]
fn servers_that_falter_are_asked_again() {
    let repository = library("text");
    let server = GitServer::start(&repository);
    server.spoil(|path, n| match (path, n) {
        (_, 0) => Some(b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_vec()),
        // Cut in the middle of an answer.
        (_, 1) => Some(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n001e# service=git-upload-pack\n".to_vec()),
        (_, 2) => Some(b"HTTP/1.1 302 Found\r\nLocation: /moved/library.git/info/refs?service=git-upload-pack\r\nContent-Length: 0\r\n\r\n".to_vec()),
        (path, _) if !path.starts_with("/moved") => Some(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => None,
    });
    let project = project(As::Root, &format!("{{ git = \"{}\", branch = \"main\" }}", server.url()));
    assert_eq!(text(&realize(&project, &["t"])), "text");
    assert!(project.read("Raptor.lock").contains(server.url()), "the lock has what Raptor.toml has");
}
