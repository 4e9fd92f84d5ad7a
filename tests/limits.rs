//! Limits on steps, and what is kept of steps that fail.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{As, Project, Ran, ran};

/// Makes files, changes and deletes what it was given, and fails in its fourth step.
const FAILING: &str = "\
FROM base
ENV COLOR=red
RUN sh -c \"mkdir -p /srv/work /srv/old\"
WORKDIR /srv/work
RUN sh -c \"echo one > one; chown 1000:1001 one; chmod 640 one; ln one two; rm -r /etc; mkdir /etc\"
RUN sh -c \"echo partial > partial; echo said; exit 7\"
";

fn project(who: As, main: &str) -> Project {
    Project::busybox(who, &[("main.rapt", main)])
}

/// The id that an error tells to look at.
fn told(ran: &Ran) -> String {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("help: raptor shell "));
    line.unwrap_or_else(|| panic!("{}", ran.stderr)).split(' ').next().unwrap().to_owned()
}

/// What a command in a failed state prints.
fn look(project: &Project, state: &str, script: &str) -> String {
    project.ok(&["shell", state, "--", "sh", "-c", script])
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).map(|it| it.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}

fn running(pattern: &str) -> bool {
    Command::new("pgrep").args(["-f", pattern]).stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_step_that_takes_too_long_ends() {
    for who in [As::Root, As::User] {
        let project =
            project(who, "FROM base\nRUN true\nRUN sh -c \"echo begun; sleep 60101 & sleep 60101\"\n");
        project.fails(
            &["build", "--timeout", "6s", "main"],
            &[
                "main: step 2 failed",
                "| begun",
                "ended: it took longer than 6 s",
                "help: allow more with --timeout TIME",
            ],
        );
        assert!(!running("^sleep 60101"), "{who:?}");
        assert!(names(&project.store().join("tmp")).is_empty());
    }
}

#[test]
fn each_step_has_the_whole_time() {
    let project = project(As::Root, "FROM base\nRUN sleep 6\nRUN sleep 6\nRUN sleep 6\n");
    project.ok(&["build", "--timeout", "15s", "main"]);
}

#[test]
fn limits_are_no_part_of_what_is_built() {
    let project = project(As::Root, "FROM base\nRUN sh -c \"df -k /tmp /run /dev/shm > /df\"\n");
    let path = project.ok(&["realize", "--memory", "300M", "--disk", "300M", "--timeout", "5m", "main"]);
    let json = project.ok(&["build", "--json", "--memory", "400M", "main"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["built"], 0);
    assert_eq!(project.ok(&["eval", "--memory", "1M", "main"]), project.ok(&["eval", "main"]));
    // What file systems in memory have room for says nothing of the machine.
    let df = fs::read_to_string(format!("{}/df", path.trim())).unwrap();
    let sizes: Vec<&str> = df.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(sizes, ["67108864"; 3], "{df}");
}

#[test]
fn containers_have_limits_too() {
    for who in [As::Root, As::User] {
        let project = project(who, "FROM base\n");
        let bomb = ["run", "--memory", "64M", "main", "timeout 100 tail -c 900000000 /dev/zero"];
        project.fails(&bomb, &["ended: it took more memory than 64 MiB", "help: allow more with --memory"]);
        let slow = ["run", "--timeout", "1s", "main", "sleep 60102"];
        project.fails(&slow, &["ended: it took longer than 1 s", "help: allow more with --timeout"]);
        assert!(!running("^sleep 60102"));
    }
}

#[test]
fn the_kernel_takes_programs_first_if_memory_runs_out() {
    for who in [As::Root, As::User] {
        let project = project(who, "FROM base\nRUN sh -c \"cat /proc/self/oom_score_adj > /out\"\n");
        let path = project.ok(&["realize", "main"]);
        assert_eq!(fs::read_to_string(format!("{}/out", path.trim())).unwrap(), "1000\n");
    }
}

#[test]
fn the_state_of_a_failed_step_can_be_looked_at() {
    for who in [As::Root, As::User] {
        let project = project(who, FAILING);
        let ran =
            project.fails(&["build", "main"], &["help: --keep-failed keeps the state", "exit status 7"]);
        assert!(!ran.stderr.contains("raptor shell "), "{}", ran.stderr);
        assert!(names(&project.store().join("failed")).is_empty());

        let ran = project.fails(&["build", "--keep-failed", "main"], &["| said", "exit status 7"]);
        let id = told(&ran);
        assert!(ran.stderr.contains("looks at the state in which step 4 failed"), "{}", ran.stderr);
        assert!(names(&project.store().join("tmp")).is_empty());
        let script = "pwd; cat two partial; echo $COLOR; stat -c '%u %g %a %h' one; ls /etc | wc -l; \
                      ip link | grep -c ^; id -u; echo more >> one; rm partial; echo x > /etc/new";
        let expected = "/srv/work\none\npartial\nred\n1000 1001 640 2\n0\n2\n0\n";
        assert_eq!(look(&project, &id, script), expected, "{who:?}");
        // Nothing that is done there stays.
        assert_eq!(look(&project, "main", script), expected, "{who:?}");

        let mut shell = project.command(&["shell", "-q", &id]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(b"cat one; cd /; exit 5\n").unwrap();
        let ran = common::ran(shell.wait_with_output().unwrap());
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(5), "one\n"));
        assert!(names(&project.store().join("tmp")).is_empty());

        // The project may go on; the state stays what it was.
        let change = |text: &str| fs::write(project.path("main.rapt"), text).unwrap();
        change(&FAILING.replace("exit 7", "exit 0"));
        project.fails(&["shell", "main"], &["no state of a failed step of main is kept", "--keep-failed"]);
        change("nonsense");
        assert_eq!(look(&project, &id, script), expected);
        project.fails(&["shell", "0123456789abcdef"], &["0123456789abcdef"]);
    }
}

#[test]
fn the_state_of_a_failed_job_has_its_mounts() {
    let tool = "FROM base\nMOUNT --simple --optional cache /cache\nMOUNT --simple output /output\n\
                MOUNT --overlay input /input\n\
                CMD \"echo half > /cache/c; echo part > /output/x; mkdir /output/d; exit 2\"\n";
    let toml = "[run.job]\ntarget = \"tool\"\ninput = \"base\"\noutput = \"out\"\n";
    for who in [As::Root, As::User] {
        let project = Project::busybox(who, &[("tool.rapt", tool), ("Raptor.toml", toml)]);
        let ran = project.fails(&["make", "--keep-failed", "job"], &["exit status 2"]);
        let script = "cat /cache/c /output/x /input/etc/passwd; echo new > /cache/new; echo y >> /output/x; rmdir /output/d";
        for state in [told(&ran), "job".to_owned()] {
            assert_eq!(look(&project, &state, script), "half\npart\nroot:x:0:0::/root:/bin/sh\n", "{who:?}");
        }
    }
}

#[test]
fn the_state_of_a_step_that_met_a_limit_is_kept() {
    for who in [As::Root, As::User] {
        let project = project(who, "FROM base\nRUN sh -c \"echo half > /half; sleep 60103\"\n");
        let ran = project.fails(&["build", "--timeout", "6s", "--keep-failed", "main"], &["longer than 6 s"]);
        assert_eq!(look(&project, &told(&ran), "cat /half"), "half\n");
        let bomb = "FROM base\nRUN sh -c \"echo half > /half; timeout 100 tail -c 900000000 /dev/zero\"\n";
        fs::write(project.path("main.rapt"), bomb).unwrap();
        let ran = project.fails(&["build", "--memory", "64M", "--keep-failed", "main"], &["64 MiB"]);
        assert_eq!(look(&project, &told(&ran), "cat /half"), "half\n");
    }
}

#[test]
fn collecting_garbage_removes_old_states() {
    for who in [As::Root, As::User] {
        let project = project(who, FAILING);
        let states = || names(&project.store().join("failed")).len();
        let id = told(&project.fails(&["build", "--keep-failed", "main"], &[]));
        // The same failure once more takes the place of the first.
        assert_eq!(told(&project.fails(&["build", "--keep-failed", "main"], &[])), id);
        assert_eq!((states(), names(&project.store().join("tmp")).len()), (1, 0));
        project.ok(&["store", "verify"]);

        // It keeps nothing alive, but whoever looks does.
        let mut shell = project.command(&["shell", "-q", &id, "--", "cat", "one", "-"]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 4];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut first).unwrap();
        project.ok(&["store", "gc", "--older-than", "0s"]);
        assert_eq!(states(), 1);
        project
            .fails(&["build", "--keep-failed", "main"], &["help: the state is not kept: one of an earlier"]);
        // The work directory of the shell and its lock.
        assert_eq!((states(), names(&project.store().join("tmp")).len()), (1, 2));
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());

        project.ok(&["store", "gc"]);
        assert_eq!(states(), 1, "a new state stays for a day");
        project.fails(&["shell", &id], &["no longer in the store", "build again with --keep-failed"]);
        let dry = project.run(&["store", "gc", "-v", "--dry-run", "--older-than", "0s"]);
        assert!(dry.stderr.contains(&format!("failed/{id}")), "{}", dry.stderr);
        assert_eq!(states(), 1);
        project.ok(&["store", "gc", "--older-than", "0s"]);
        assert_eq!(states(), 0);
        project.fails(&["build", "--keep-failed", "main"], &[]);
        project.ok(&["store", "gc", "--max-size", "1G"]);
        assert_eq!((states(), names(&project.store().join("tmp")).len()), (0, 0));
    }
}

#[test]
fn nothing_is_left_of_a_killed_build() {
    for who in [As::Root, As::User] {
        let project = project(who, "FROM base\nRUN sh -c \"echo x > /x; sleep 60104\"\n");
        let mut build =
            project.start(&["build", "--keep-failed", "--memory", "100M", "--disk", "1G", "main"]);
        while !running("^sleep 60104") {
            assert!(build.try_wait().unwrap().is_none(), "the build has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        build.kill().unwrap();
        build.wait().unwrap();
        while running("^sleep 60104") {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Its work directory is free once the last of its processes is gone.
        while !names(&project.store().join("tmp")).is_empty() {
            project.ok(&["build", "base"]);
        }
        assert!(names(&project.store().join("failed")).is_empty());
        project.ok(&["store", "verify"]);
    }
}

#[test]
fn a_user_without_enough_ids_is_told_what_to_do() {
    let project = project(As::User, "FROM base\n");
    let user = common::USER;
    let first = |file: &str| -> u32 {
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{user}:"))).unwrap().to_owned();
        line.split(':').next().unwrap().parse().unwrap()
    };
    let build = |file: &str, text: &str| {
        project.write("ids", text);
        // Something that is not built yet.
        project.write("main.rapt", &format!("FROM base\nWRITE \"{file} {}\" /ids\n", text.trim()));
        let script = format!("mount --bind ids {file}; exec \"$@\"");
        let before = ["unshare", "--mount", "sh", "-c", &script, "-"];
        ran(project.command_behind(&before, &["build", "main"]).output().unwrap())
    };
    for file in ["/etc/subuid", "/etc/subgid"] {
        let first = first(file);
        let few = format!("has only 65534 ids in {file}, and 65535 are needed");
        let none = format!("has no range of ids in {file}");
        for (text, said) in
            [(format!("{user}:{first}:65534\n"), few), ("other:100000:65536\n".to_owned(), none)]
        {
            let ran = build(file, &text);
            assert_eq!(ran.status, Some(1), "{}", ran.stderr);
            assert!(
                ran.stderr.contains(&format!("user {user} {said}; run as root: usermod ")),
                "{}",
                ran.stderr
            );
        }
        let enough = build(file, &format!("{user}:{first}:65535\n"));
        assert_eq!(enough.status, Some(0), "{}", enough.stderr);
    }
}
