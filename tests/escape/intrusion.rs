//! Steps that reach for the store, for process 1, or for the steps behind them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::common::{self, As, Project};

/// A program that is compiled for a root without libraries.
fn compile(name: &str, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape").join(name);
    let compiled = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(to).arg(source).status();
    assert!(compiled.unwrap().success());
}

#[test]
fn steps_have_no_company() {
    for who in [As::Root, As::User] {
        // Daemons that heed no signal exchange a directory and a link as fast as they can. If one of them outlived its
        // step, what the later steps write would be divided between both.
        let files: String = (0..40).map(|n| format!("WRITE {n} /at/w{n}\nMKDIR /at/m{n}\n")).collect();
        let target = format!(
            "FROM base\nCOPY --chmod 755 racer /bin/racer\nMKDIR /at\nMKDIR /etc/target\nRUN racer /at /etc/target\n\
             {files}COPY busybox /at/\n\
             RUN sh -c \"ls /at | grep -c . > /out; ls -d /proc/[0-9]* | grep -c . >> /out; wc -c < /races >> /out\"\n"
        );
        let project = Project::busybox(who, &[("main.rapt", &target)]);
        compile("racer.c", &project.path("racer"));
        project.own();
        let path = project.ok(&["realize", "main"]);
        let out = fs::read_to_string(format!("{}/out", path.trim())).unwrap();
        let mut lines = out.lines().map(|it| it.parse::<u64>().unwrap());
        // The last words of the race were a link or a directory, and so it stayed.
        assert_eq!(lines.next(), Some(81), "{who:?}: {out}");
        // Process 1, the shell, ls and grep.
        assert!(lines.next().is_some_and(|it| it <= 4), "{who:?}: {out}");
        assert!(lines.next().is_some_and(|it| it > 0), "there was no race for {who:?}: {out}");
    }
}

#[test]
fn what_is_read_cannot_be_written() {
    let results = [As::Root, As::User].map(|who| {
        let project = Project::busybox(
            who,
            &[(
                "main.rapt",
                "FROM tools\nRUN sh -c \"intruder > /out 2>&1\"\nRUN sh -c \"intruder again >> /out 2>&1\"\n",
            )],
        );
        project.write(
            "tools.rapt",
            "FROM base\nCOPY --chmod 755 intruder /bin/intruder\nWRITE \"precious\" /precious\n",
        );
        compile("intruder.c", &project.path("intruder"));
        project.own();
        let path = project.ok(&["realize", "main"]);
        let tools = project.ok(&["realize", "tools"]);
        let precious = Path::new(tools.trim()).join("precious");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{who:?}");
        assert_eq!(fs::metadata(&precious).unwrap().nlink(), 1, "{who:?}");
        // Whatever else the program reached would show here.
        project.ok(&["store", "verify"]);
        fs::read_to_string(format!("{}/out", path.trim())).unwrap()
    });
    assert_eq!(results[0], results[1]);
    insta::assert_snapshot!(results[0]);
}

/// A command of the ordinary user.
fn as_user(args: &[&Path]) -> std::process::Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", common::USER, "--regid", common::USER, "--clear-groups", "--"]);
    // While setpriv looks for a program it may still look everywhere; what it has started may not.
    command.args(["sh", "-c", "exec \"$@\"", "-"]);
    command.args(args).output().unwrap()
}

#[test]
fn nobody_runs_set_user_id_programs_out_of_the_store() {
    // Somebody has made the directory before, and open for all.
    let project = Project::busybox(As::Root, &[("main.rapt", "FROM base\nCOPY --chmod 4755 busybox /\n")]);
    fs::create_dir(project.store()).unwrap();
    fs::set_permissions(project.store(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = project.ok(&["realize", "main"]);
    let program = Path::new(path.trim()).join("busybox");
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(project.store()).unwrap().mode() & 0o7777, 0o700);
    let id = Path::new("id");
    assert!(!as_user(&[&program, id]).status.success());
    // So that this is about the store alone: with the same mode elsewhere it would be a way to become root.
    let outside = project.path("outside/busybox");
    fs::create_dir(project.path("outside")).unwrap();
    fs::copy(&program, &outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o4755)).unwrap();
    let elsewhere = as_user(&[&outside, id]);
    assert!(elsewhere.status.success(), "{}", String::from_utf8_lossy(&elsewhere.stderr));
    // Opened by somebody, it is closed again by the next build.
    fs::set_permissions(project.store(), fs::Permissions::from_mode(0o755)).unwrap();
    project.ok(&["realize", "main"]);
    assert!(!as_user(&[&program, id]).status.success());
}

#[test]
fn outputs_have_no_set_user_id() {
    let job = "[run.out]\ntarget = \"main\"\noutput = \"out\"\n";
    let target = "FROM base\nMOUNT output /output\nENTRYPOINT /bin/sh -c\n\
                  CMD \"cp /bin/busybox /output/su; chmod 6755 /output/su\"\n";
    let project = Project::busybox(As::Root, &[("main.rapt", target), ("Raptor.toml", job)]);
    project.ok(&["make", "out"]);
    assert_eq!(fs::metadata(project.path("out/su")).unwrap().mode() & 0o7777, 0o755);
}
