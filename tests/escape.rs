//! Hostile RUN steps: nothing gets out of the sandbox, for root and for an ordinary user.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use common::{As, Project};

/// A project on a root of busybox alone, with a store of its own.
fn project(who: As, target: &str) -> Project {
    Project::busybox(who, &[("main.rapt", &format!("FROM base\n{target}"))])
}

/// What a build of `main` wrote to `/out`.
fn output(project: &Project) -> String {
    let path = project.ok(&["realize", "main"]);
    fs::read_to_string(format!("{}/out", path.trim())).unwrap()
}

#[test]
fn system_calls_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("hostile");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape/hostile.c");
    let compiled = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status();
    assert!(compiled.unwrap().success());
    let name = format!("raptor-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let results = [As::Root, As::User].map(|who| {
        let project = project(
            who,
            "COPY --chmod 755 hostile /bin/hostile\nINCLUDE secret\nRUN sh -c \"hostile > /out 2>&1\"\n",
        );
        fs::copy(&program, project.path("hostile")).unwrap();
        let secret = project.path("main.rapt");
        project.write("secret.rinc", &format!("ENV SECRET=\"{}\" SOCKET=\"{name}\"\n", secret.display()));
        output(&project)
    });
    assert_eq!(results[0], results[1]);
    insta::assert_snapshot!(results[0]);
}

#[test]
fn links_lead_nowhere() {
    for who in [As::Root, As::User] {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path();
        fs::set_permissions(host, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(host.join("secret"), "host").unwrap();
        fs::set_permissions(host.join("secret"), fs::Permissions::from_mode(0o666)).unwrap();
        let target = format!(
            "RUN sh -c \"mkdir -p {host}; ln -s {host} /direct; ln -s /proc/1/root{host} /init; \
             ln -s ../../../../../../../..{host} /up; ln -s {host}/secret /file; echo inside > {host}/secret\"\n\
             WRITE a /direct/write\nCOPY busybox /direct/copy\nMKDIR /up/mkdir\nWRITE b /up/up\nWRITE c /file\n\
             RUN sh -c \"cat {host}/secret > /out; ls {host} >> /out\"\n",
            host = host.display()
        );
        assert_eq!(output(&project(who, &target)), "ccopy\nmkdir\nsecret\nup\nwrite\n", "{who:?}");
        assert_eq!(fs::read_to_string(host.join("secret")).unwrap(), "host");
        assert_eq!(fs::read_dir(host).unwrap().count(), 1);
        // A link into the process's own view of init is no way either.
        project(who, &format!("RUN ln -s /proc/1/root{} /init\nWRITE x /init/secret\n", host.display()))
            .fails(&["realize", "main"], &["WRITE x /init/secret"]);
    }
}

#[test]
fn a_fork_bomb_meets_a_limit_and_ends_with_its_step() {
    for who in [As::Root, As::User] {
        let script =
            "n=0; while (sleep 4242 &) 2>/dev/null; do n=$((n+1)); done; echo $n > /count; echo ended > /out";
        let project = project(who, &format!("RUN sh -c \"{script}\"\n"));
        assert_eq!(output(&project), "ended\n");
        let left = Command::new("pgrep").args(["-f", "^sleep 4242"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{who:?}");
    }
}

#[test]
fn set_user_id_files_stay_where_only_their_owner_gets() {
    let project = project(As::Root, "RUN sh -c \"cp /bin/busybox /su; chmod 4755 /su; id -u > /out\"\n");
    let path = project.ok(&["realize", "main"]);
    let run = Command::new("setpriv")
        .args(["--reuid", common::USER, "--regid", common::USER, "--clear-groups", "--"])
        .arg(format!("{}/su", path.trim()))
        .output()
        .unwrap();
    assert!(!run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}
