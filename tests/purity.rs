//! What a build sees of its host: each fact is written into a layer under two different hosts' conditions, and the
//! layers must be the same. The rows are those of the table in `spec/sandbox.md`.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use common::{As, Project, ran};

/// A fact, how a build would write it down, and what stands in front of the command on the second host.
struct Row {
    fact: &'static str,
    script: &'static str,
    elsewhere: &'static [&'static str],
}

const fn row(fact: &'static str, script: &'static str, elsewhere: &'static [&'static str]) -> Row {
    Row { fact, script, elsewhere }
}

const HIDDEN: &[Row] = &[
    row(
        "host name",
        "hostname; cat /proc/sys/kernel/hostname; uname -n",
        &["unshare", "--uts", "sh", "-c", "hostname elsewhere; exec \"$@\"", "-"],
    ),
    row(
        "processes",
        "ps > /ps; grep -c . /ps; rm /ps; cat /proc/loadavg",
        &["unshare", "--pid", "--fork", "--mount-proc"],
    ),
    row("umask", "umask; touch /new; stat -c %a /new", &["sh", "-c", "umask 077; exec \"$@\"", "-"]),
    row("environment", "env; set", &["env", "LD_PRELOAD=", "CC=clang", "MAKEFLAGS=-j9", "TERM=xterm"]),
    row("locale", "env; date +%A", &["env", "LANG=de_DE.UTF-8", "LC_ALL=de_DE.UTF-8", "LANGUAGE=de"]),
    row("time zone", "date +%Z; ls /etc", &["env", "TZ=Asia/Tokyo"]),
    row("limits", "ulimit -n; ulimit -c; ulimit -s", &["prlimit", "--nofile=4096:8192", "--core=unlimited"]),
    row("terminal", "test -t 0 || test -t 1 || echo none", &["script", "-qec"]),
    row("signals", "grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status", &["nohup"]),
    row("supplementary groups", "id; grep Groups /proc/self/status", &["setpriv", "--groups", "4,24,27"]),
    row("uptime", "cat /proc/uptime", &["unshare", "--time", "--boottime", "86400", "--fork"]),
    row("cgroup", "cat /proc/self/cgroup", &["unshare", "--cgroup"]),
    row("processors", "cat /proc/cpuinfo /proc/stat /proc/interrupts", &["taskset", "--cpu-list", "0"]),
    row("memory", "cat /proc/meminfo /proc/vmstat /proc/swaps /proc/zoneinfo", &["setarch", "--3gb"]),
    row(
        "free space of tmpfs",
        "df -k /tmp /run /dev /dev/shm | sed 's/ .*%//'; df -i /tmp",
        &["unshare", "-m"],
    ),
    row(
        "file systems",
        "cat /proc/filesystems; ls -R /sys; cat /proc/partitions /proc/diskstats",
        &["unshare", "-m"],
    ),
    row("network", "ip addr; ip route; cat /proc/net/dev", &["unshare", "--net"]),
    row("address layout", "sed -n '/heap\\|stack/p' /proc/self/maps", &["setarch", "--addr-no-randomize"]),
];

/// What still leaks, so that the table says so for good reason: the host says the same.
const LEAKS: &[(&str, &str)] = &[
    ("kernel release", "uname -r"),
    ("kernel build", "uname -v"),
    ("number of processors", "nproc"),
    ("memory, by sysinfo(2)", "free | awk '/^Mem/ { print $2 }'"),
    ("clock, to the hour", "date -u +%Y-%m-%dT%H"),
];

/// A project that writes a fact, with a store of its own.
fn project(who: As, script: &str) -> Project {
    let escaped = script.replace('\\', "\\\\").replace('"', "\\\"");
    let fact = format!("FROM base\nRUN sh -c \"({escaped}) > /fact 2>&1; true\"\n");
    Project::busybox(who, &[("fact.rapt", &fact)])
}

/// The layer with the fact, and the fact.
fn build(project: &Project, before: &[&str]) -> (String, String) {
    let plain = project.command(&["realize", "fact"]);
    let mut command = match before {
        [] => project.command(&["realize", "fact"]),
        ["script", option] => {
            // `script` takes a command line, and mixes what the program says with what it prints.
            let line = format!("{} realize fact > out", plain.get_program().to_string_lossy());
            let mut command = Command::new("script");
            command.arg(option).arg(line).arg("/dev/null");
            command
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(plain.get_program()).args(plain.get_args());
            command
        }
    };
    if !before.is_empty() {
        command.current_dir(project.path("")).stdin(std::process::Stdio::null());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
    }
    let ran = ran(command.output().unwrap());
    assert_eq!(ran.status, Some(0), "{before:?}: {}", ran.stderr);
    let out = if before.first() == Some(&"script") { project.read("out") } else { ran.stdout };
    let path = out.trim().to_owned();
    let fact = std::fs::read_to_string(format!("{path}/fact")).unwrap_or_default();
    (path.rsplit('/').next().unwrap().to_owned(), fact)
}

#[test]
fn hidden_facts_do_not_reach_a_layer() {
    for Row { fact, script, elsewhere } in HIDDEN {
        let here = build(&project(As::Root, script), &[]);
        let there = build(&project(As::Root, script), elsewhere);
        assert!(!here.1.is_empty(), "{fact}: `{script}` says nothing");
        assert_eq!(here, there, "{fact}");
    }
}

#[test]
fn ordinary_users_see_what_root_sees() {
    for Row { fact, script, .. } in HIDDEN {
        assert_eq!(build(&project(As::Root, script), &[]), build(&project(As::User, script), &[]), "{fact}");
    }
}

#[test]
fn known_leaks_are_those_of_the_table() {
    for (fact, script) in LEAKS {
        let (_, inside) = build(&project(As::Root, script), &[]);
        let outside = ran(Command::new("busybox").args(["sh", "-c", script]).output().unwrap());
        assert_eq!(inside, outside.stdout, "{fact} is hidden now: move the row, here and in spec/sandbox.md");
    }
}

#[test]
fn everything_in_proc_that_is_no_process_is_constant() {
    let script = "cd /proc; for f in $(ls | grep -v '[0-9]'); do case $f in self|thread-self|mounts|net|sysvipc) ;; \
                  *) test -d $f || { echo == $f; cat $f; } ;; esac; done; \
                  echo == sys; find sys -type f | sort | while read f; do echo $f $(cat $f); done; \
                  find acpi bus driver fs irq pressure tty -type f 2>/dev/null";
    let (_, fact) = build(&project(As::Root, script), &[]);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let version = std::fs::read_to_string("/proc/version").unwrap();
    assert!(!fact.contains(boot_id.trim()) && !fact.contains(version.trim()), "{fact}");
    // Entries differ from kernel to kernel; those with a text are few and known.
    let texts: String = fact
        .split("== ")
        .filter(|entry| entry.trim().contains('\n'))
        .map(|entry| format!("== {entry}"))
        .collect();
    insta::assert_snapshot!(texts);
}

#[test]
fn the_file_system_of_the_store_does_not_matter() {
    let script = "mkdir /d; cd /d; for i in 9 3 7 1 5; do echo $i > f$i; done; ls; stat -c %h /d";
    let here = build(&project(As::Root, script), &[]);
    let elsewhere = project(As::Root, script);
    std::fs::create_dir(elsewhere.path("own-store")).unwrap();
    let mount = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none own-store; exec \"$@\"", "-"];
    let plain = elsewhere.command(&["realize", "fact"]);
    let mut command = Command::new(mount[0]);
    command.args(&mount[1..]).arg(plain.get_program()).args(plain.get_args()).current_dir(elsewhere.path(""));
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let there = ran(command.output().unwrap());
    assert_eq!(there.status, Some(0), "{}", there.stderr);
    assert_eq!(there.stdout.trim().rsplit('/').next().unwrap(), here.0);
}
