//! Hostile RUN steps: nothing gets out of the sandbox, for root and for an ordinary user.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "escape/intrusion.rs"]
mod intrusion;

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
    let name = format!("raptor-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let results = [As::Root, As::User].map(|who| {
        let project = project(
            who,
            "COPY --chmod 755 hostile /bin/hostile\nINCLUDE secret\nRUN sh -c \"hostile > /out 2>&1\"\n",
        );
        compile(&project, "hostile");
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

/// Puts a static program made of `tests/escape/NAME.c` into a project.
fn compile(project: &Project, name: &str) {
    let source = format!("{}/tests/escape/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(name);
    let compiled = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status();
    assert!(compiled.unwrap().success());
    fs::copy(&program, project.path(name)).unwrap();
    project.own();
}

#[test]
fn memory_bombs_end_with_their_step_and_say_why() {
    let ways = [
        "anonymous",
        "shared",
        "processes",
        "memfd",
        "sysv",
        "namespace",
        "/tmp",
        "/dev/shm",
        "/run",
        "/dev",
    ];
    for who in [As::Root, As::User] {
        let project = project(who, "");
        compile(&project, "bomb");
        for way in ways {
            let steps = format!("COPY --chmod 755 bomb /bin/bomb\nMKDIR /mnt\nRUN bomb {way}\n");
            project.write("main.rapt", &format!("FROM base\n{steps}"));
            let ran = project.fails(
                &["build", "--memory", "96M", "main"],
                &[
                    &format!("main: step 3 failed: RUN bomb {way}"),
                    &format!("| taking by {way}"),
                    "ended: it took more memory than 96 MiB",
                    "help: allow more with --memory SIZE",
                ],
            );
            assert!(!ran.stderr.contains("nobody minds"), "{}", ran.stderr);
            let left = Command::new("pgrep").args(["-f", &format!("^bomb {way}$")]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{who:?} {way}");
        }
    }
}

#[test]
fn processes_of_all_users_together_meet_a_limit() {
    for who in [As::Root, As::User] {
        let project = project(who, "COPY --chmod 755 bomb /bin/bomb\nRUN bomb users\n");
        compile(&project, "bomb");
        project.fails(&["build", "main"], &["ended: it had more than 8192 processes"]);
        let left = Command::new("pgrep").args(["-f", "^bomb users"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{who:?}");
    }
}

#[test]
fn memory_is_watched_with_the_callers_proc_too() {
    // Whoever has something mounted in /proc, as containers do, gets no new one in a sandbox.
    let script = "mount -t tmpfs none /proc/fs; exec \"$@\"";
    let before = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "-"];
    for who in [As::Root, As::User] {
        // A number that is not the shell's own comes from outside.
        let project = project(who, "RUN sh -c \"read pid rest < /proc/self/stat; test $pid != $$\"\n");
        compile(&project, "bomb");
        let run = |args: &[&str]| common::ran(project.command_behind(&before, args).output().unwrap());
        let fine = run(&["build", "--memory", "200M", "main"]);
        assert_eq!(fine.status, Some(0), "{}", fine.stderr);
        for way in ["anonymous", "processes", "/tmp"] {
            fs::write(
                project.path("main.rapt"),
                format!("FROM base\nCOPY --chmod 755 bomb /bin/bang\nRUN bang {way}\n"),
            )
            .unwrap();
            let ran = run(&["build", "--memory", "96M", "main"]);
            assert!(ran.stderr.contains("ended: it took more memory than 96 MiB"), "{way}: {}", ran.stderr);
        }
    }
}

#[test]
fn what_processes_share_counts_once() {
    for who in [As::Root, As::User] {
        let project = project(who, "COPY --chmod 755 bomb /bin/bomb\nRUN sh -c \"bomb forks > /out\"\n");
        compile(&project, "bomb");
        let path = project.ok(&["realize", "--memory", "200M", "main"]);
        assert_eq!(fs::read_to_string(format!("{}/out", path.trim())).unwrap(), "shared\n");
    }
}

#[test]
fn disk_bombs_end_with_their_step_and_say_why() {
    let big = "RUN sh -c \"echo writing; cat /dev/zero > /big\"";
    let deleted = "RUN sh -c \"exec 3> /big; rm /big; echo writing; cat /dev/zero >&3; sleep 777\"";
    let small = "RUN sh -c \"echo writing; i=0; while true; do i=$((i+1)); echo $i > /$i; done\"";
    for who in [As::Root, As::User] {
        let project = project(who, "");
        for step in [big, small] {
            project.write("main.rapt", &format!("FROM base\n{step}\n"));
            project.fails(
                &["build", "--disk", "16M", "main"],
                &[
                    "main: step 1 failed",
                    "| writing",
                    "ended: it wrote more than 16 MiB",
                    "help: allow more with --disk SIZE",
                ],
            );
            assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0);
        }
    }
    // A file without a name takes the disk all the same, and some of it always stays free.
    for (step, options, said) in [
        (deleted, "size=400m", "ended: it left less than 8 MiB free on the disk of the store"),
        (small, "nr_inodes=4000", "ended: it left room for less than 80 files on the disk of the store"),
    ] {
        let project = project(As::Root, &format!("{step}\n"));
        fs::create_dir(project.store()).unwrap();
        let script = format!("mount -t tmpfs -o mode=700,{options} none own-store; exec \"$@\"");
        let mut command =
            project.command_behind(&["unshare", "--mount", "sh", "-c", &script, "-"], &["build", "main"]);
        let ran = common::ran(command.output().unwrap());
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        for said in [said, "raptor store gc"] {
            assert!(ran.stderr.contains(said), "no `{said}` in:\n{}", ran.stderr);
        }
    }
}

#[test]
fn set_user_id_files_stay_where_only_their_owner_gets() {
    let project = project(
        As::Root,
        "RUN sh -c \"cp /bin/busybox /busybox-su; chmod 4755 /busybox-su; id -u > /out\"\n",
    );
    let path = project.ok(&["realize", "main"]);
    let run = Command::new("setpriv")
        .args(["--reuid", common::USER, "--regid", common::USER, "--clear-groups", "--"])
        // Not by setpriv itself, which may still enter every directory, and not as `su`, which fails anyway.
        .args(["sh", "-c", "exec \"$0\" true"])
        .arg(format!("{}/busybox-su", path.trim()))
        .output()
        .unwrap();
    assert!(!run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}
