//! State directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::common::{As, Project, ran};
use crate::{BOTH, Running, nothing_left, project, wait_until};

/// Names below a directory that root may read.
fn names(project: &Project, dir: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(project.path(dir))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn changes_stay_whatever_the_status() {
    for who in BOTH {
        let project = project(who);
        let run = |script: &str| project.run(&["run", "-q", "-s", "new/state", "base", script]);
        assert_eq!(
            run("mkdir /srv; echo 1 > /srv/x; chown 7:8 /srv/x; rm /etc/passwd; exit 9").status,
            Some(9)
        );
        let ran = run("cat /srv/x; stat -c %u:%g /srv/x; ls /etc; echo 2 > /srv/x; kill -9 $$");
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(137), "1\n7:8\nresolv.conf\n"), "{}", ran.stderr);
        assert_eq!(run("cat /srv/x").stdout, "2\n");
        // Nothing of how the sandbox is made: no mount points, no resolv.conf.
        assert_eq!(names(&project, "new/state"), ["state.json", "upper"]);
        assert_eq!(names(&project, "new/state/upper"), ["etc", "srv"]);
        assert_eq!(names(&project, "new/state/upper/etc"), ["passwd"], "a whiteout");
        assert_eq!(fs::metadata(project.path("new/state")).unwrap().mode() & 0o777, 0o700);
        nothing_left(&project);
    }
}

#[test]
fn one_user_at_a_time() {
    for who in BOTH {
        let project = project(who);
        let running = Running::script(&project, &["-s", "state"], "echo 1 > /x; echo ready; exec sleep 4600");
        project.fails(&["run", "-q", "-s", "state", "base", "true"], &["state is in use by another raptor"]);
        project.ok(&["run", "-q", "-s", "other", "base", "true"]);
        running.signal(libc::SIGTERM);
        assert_eq!(running.status(), Some(143));
        assert_eq!(project.ok(&["run", "-q", "-s", "state", "base", "cat /x"]), "1\n");
    }
}

#[test]
fn a_state_survives_kill_9() {
    for who in BOTH {
        let project = project(who);
        for n in 0..3 {
            let script = format!("echo {n} >> /kept; echo ready; exec sleep 4700");
            let mut running = Running::script(&project, &["-s", "state"], &script);
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            // The lock is held until the last process is gone.
            wait_until("the end", || project.run(&["run", "-s", "state", "base", "true"]).status == Some(0));
        }
        assert_eq!(project.ok(&["run", "-q", "-s", "state", "base", "cat /kept"]), "0\n1\n2\n");
        nothing_left(&project);
    }
}

#[test]
fn a_state_is_for_the_layers_it_was_made_on() {
    for who in BOTH {
        let project = project(who);
        project.write("v.rapt", "FROM base\nWRITE \"1\" /version\n");
        let run = |more: &[&str], target: &str, script: &str| {
            project.run(&[&["run", "-q", "-s", "state"], more, &[target, script]].concat())
        };
        assert_eq!(run(&[], "v", "echo mine > /mine").status, Some(0));
        let ran = run(&[], "entry", "x");
        assert_eq!(ran.status, Some(1));
        assert!(ran.stderr.contains("was made on `v`, not on `entry`"), "{}", ran.stderr);
        project.write("v.rapt", "FROM base\nWRITE \"2\" /version\n");
        let ran = run(&[], "v", "cat /version /mine");
        assert_eq!(ran.status, Some(1));
        assert!(ran.stderr.contains("was made on `v` as it was before"), "{}", ran.stderr);
        assert!(ran.stderr.contains("--stale-state keep"), "{}", ran.stderr);
        assert_eq!(run(&["--stale-state", "keep"], "v", "cat /version /mine").stdout, "2mine\n");
        assert_eq!(run(&[], "v", "cat /version /mine").stdout, "2mine\n");
        // Dropping is for what is stale, and nothing else.
        assert_eq!(run(&["--stale-state", "drop"], "v", "cat /mine").stdout, "mine\n");
        project.write("v.rapt", "FROM base\nWRITE \"3\" /version\n");
        assert_eq!(run(&["--stale-state", "drop"], "v", "cat /version; ls /mine").stdout, "3");
        assert_eq!(run(&[], "v", "cat /version").stdout, "3");
    }
}

#[test]
fn other_directories_are_left_alone() {
    for who in BOTH {
        let project = project(who);
        project.write("mine/work/x", "precious");
        let wrong = ["mine is neither empty nor a state directory"];
        project.fails(&["run", "-q", "-s", "mine", "bad", "-I", ".", "-O", "o"], &wrong);
        assert_eq!(project.read("mine/work/x"), "precious");
        project.write("mine/state.json", "{");
        project.fails(&["run", "-q", "-s", "mine", "base", "true"], &["mine/state.json is damaged"]);
        project.fails(&["run", "-q", "-s", "base.rapt", "base", "true"], &["base.rapt"]);
        assert!(!project.path("own-store/realized").join("x").exists());
    }
}

#[test]
fn ids_and_file_systems_must_fit() {
    let root = project(As::Root);
    fs::create_dir(root.path("state")).unwrap();
    assert!(Command::new("chown").args(["7:7"]).arg(root.path("state")).status().unwrap().success());
    root.fails(&["run", "-q", "-s", "state", "base", "true"], &["state belongs to user 7"]);

    // A state of other ids: as after a change of /etc/subuid.
    let user = project(As::User);
    user.ok(&["run", "-q", "-s", "state", "base", "echo 1 > /x"]);
    let record = user.read("state/state.json").replace("and ", "and 9");
    user.write("state/state.json", &record);
    user.fails(&["run", "-q", "-s", "state", "base", "true"], &["has files of other ids", "yours are now"]);

    for (mount, message) in [
        ("mount -t ramfs none state2", "no extended attributes"),
        (
            "mkdir u w; mount -t overlay none -o lowerdir=/etc,upperdir=u,workdir=w state2; mkdir state2/s",
            "overlay",
        ),
    ] {
        fs::create_dir_all(root.path("state2")).unwrap();
        let raptor = root.command(&["run", "-q", "-s", "state2/s", "bad", "-I", ".", "-O", "o"]);
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &format!("{mount}; exec \"$@\""), "-"])
            .arg(raptor.get_program())
            .args(raptor.get_args())
            .current_dir(root.path(""))
            .env("RAPTOR_STORE", root.store())
            .output()
            .unwrap();
        let ran = ran(output);
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        for part in ["cannot be a state directory", message, "help: choose a directory on ext4"] {
            assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
        }
    }
    // Empty ones that exist are fine, whatever their mode.
    fs::create_dir(root.path("fresh")).unwrap();
    fs::set_permissions(root.path("fresh"), fs::Permissions::from_mode(0o755)).unwrap();
    root.ok(&["run", "-q", "-s", "fresh", "base", "true"]);
}
