//! Programs: what they see, what they may do, how they end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raptor::sandbox::{
    self, Attrs, Caller, Capture, Error, Event, InteractRequest, Listeners, Network, Step, StepFailure,
};

use crate::world::{World, failure, message, sh, write};

#[test]
fn programs_see_a_fixed_world() {
    let world = World::new();
    let out = world.sh(
        "id -u; hostname; umask; ulimit -n; pwd; ls /; ls /dev; test ! -t 0; cat /proc/self/comm; \
         echo $HOME $SOURCE_DATE_EPOCH $TZ; cat /dev/null; echo err >&2; echo dev > /dev/stderr; ls /proc/self/fd",
    );
    assert_eq!(
        out.split_whitespace().collect::<Vec<_>>().join(" "),
        "0 raptor 0022 1024 / bin dev etc lib proc run sys tmp usr var \
         fd full null ptmx pts random shm stderr stdin stdout tty urandom zero cat /root 1700000000 UTC err dev \
         0 1 2 3"
    );
    // Nothing of the host: no mounts but ours, no processes but ours, no address but loopback.
    let out = world.sh("cat /proc/mounts; echo; ls -d /proc/[0-9]*; cat /proc/net/dev | grep : ");
    let secret = world.dir.path().file_name().unwrap().to_string_lossy().to_string();
    assert!(!out.contains(&secret) && !out.contains("/home"), "{out}");
    assert_eq!(out.matches("/proc/").count() - out.matches(" /proc/").count(), 2, "{out}");
    assert!(out.contains("lo:") && !out.contains("eth"), "{out}");
}

#[test]
fn programs_are_confined() {
    let world = World::new();
    for (script, why) in [
        ("mount -t tmpfs none /var", "permission denied"),
        ("mknod /var/x b 8 0", "not permitted"),
        ("hostname x", "not permitted"),
        ("echo x > /proc/sys/kernel/hostname", ""),
        ("echo x > /sys/x", "Read-only"),
        ("cat /proc/1/environ", "denied"),
        ("nc -w 1 192.0.2.1 80", "unreachable"),
    ] {
        let result = world.run(&world.request(vec![sh(script)]));
        let output = world.output.lock().unwrap().clone();
        let failure = failure(result);
        assert!(matches!(failure, (0, StepFailure::Exit(_))), "{script}: {failure:?} {output}");
        assert!(output.contains(why), "{script}: {output}");
    }
    assert_eq!(
        world
            .sh("grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["CapEff:", "00000000800405ff", "NoNewPrivs:", "1", "Seccomp:", "2"]
    );
}

#[test]
fn failures_name_the_step() {
    let world = World::new();
    let run = |argv: &[&str], cwd: &str| {
        let argv = argv.iter().map(|s| s.to_string()).collect();
        world.run(&world.request(vec![sh("true"), Step::Run { argv, env: BTreeMap::new(), cwd: cwd.into() }]))
    };
    assert_eq!(failure(run(&["sh", "-c", "exit 3"], "/")), (1, StepFailure::Exit(3)));
    assert_eq!(failure(run(&["sh", "-c", "kill -9 $$"], "/")), (1, StepFailure::Signal(9)));
    assert!(message(run(&["nothing"], "/")).contains("nothing: not found in PATH (/usr/local/sbin:"));
    assert!(message(run(&["/bin/nothing"], "/")).contains("/bin/nothing: there is no such file"));
    assert!(message(run(&["/etc/passwd"], "/")).contains("/etc/passwd: not executable"));
    assert!(message(run(&["true"], "/nowhere")).contains("working directory /nowhere"));
    let steps = |step| world.run(&world.request(vec![step]));
    assert!(
        message(steps(write("/no/such/file", ""))).contains("/no does not exist")
            || message(steps(write("/no/such/file", ""))).contains("/no/such does not exist")
    );
    assert!(
        message(steps(Step::Workdir { path: "/etc/passwd".into() }))
            .contains("/etc/passwd is not a directory")
    );
    let attrs = Attrs { user: Some("nobody".into()), ..Attrs::default() };
    let step = Step::Mkdir { path: "/x".into(), parents: false, attrs };
    assert!(message(steps(step)).contains("user `nobody` is not in /etc/passwd"));

    let mut request = world.request(Vec::new());
    request.lower.push("../work".into());
    assert!(
        matches!(world.run(&request), Err(Error::Setup(why)) if why.contains("`../work` is no name of a tree"))
    );
    request.lower = vec!["missing".into()];
    assert!(matches!(world.run(&request), Err(Error::Setup(why)) if why.contains("tree missing")));
}

#[test]
fn the_proxy_is_the_whole_internet() {
    let world = World::new();
    let script = "wget -q -O - http://127.0.0.1/a; wget -q -O - http://192.0.2.7/b";
    let mut request = world.request(vec![sh(script)]);
    request.network = Network::Proxy;
    let mut served = None;
    let mut serve = |listeners: Listeners| {
        served = Some(std::thread::spawn(move || {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listeners.http.accept().unwrap();
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..n]).lines().next().unwrap().to_string());
                stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes").unwrap();
            }
            asked
        }));
    };
    let mut output = Vec::new();
    let mut on_event = |event| {
        if let Event::Output(bytes) = event {
            output.extend(bytes);
        }
    };
    sandbox::run(&world.launcher, &request, Some(&mut serve), &AtomicBool::new(false), &mut on_event)
        .unwrap();
    assert_eq!(served.unwrap().join().unwrap(), ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
    assert_eq!(output, b"yesyes");
}

#[test]
fn name_servers_are_the_proxy_too() {
    let world = World::new();
    let mut request = world
        .request(vec![write("/etc/resolv.conf", "nameserver 10.1.2.3\n"), sh("nslookup some.name || true")]);
    request.network = Network::Proxy;
    let mut served = None;
    let mut serve = |listeners: Listeners| {
        served = Some(std::thread::spawn(move || {
            // One question for an IPv4 address, one for IPv6: back as answers without records.
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (n, from) = listeners.dns.recv_from(&mut buffer).unwrap();
                buffer[2] |= 0x80;
                listeners.dns.send_to(&buffer[..n], from).unwrap();
            }
        }));
    };
    let mut on_event = |_| {};
    let start = Instant::now();
    sandbox::run(&world.launcher, &request, Some(&mut serve), &AtomicBool::new(false), &mut on_event)
        .unwrap();
    served.unwrap().join().unwrap();
    // The answers came from the address that was asked, or the program would wait for others.
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(world.upper(), ["etc d755", "etc/resolv.conf f644"]);
}

#[test]
fn cancelling_leaves_nothing() {
    let world = World::new();
    let cancel = Arc::new(AtomicBool::new(false));
    // A number of our own: the same test may run as another user.
    let seconds = 100_000 + std::process::id();
    let script = format!("sleep {seconds} & sleep {seconds} & echo up; sleep {seconds}");
    let request = world.request(vec![sh(&script)]);
    let later = cancel.clone();
    let start = Instant::now();
    let mut on_event = |event| {
        if matches!(event, Event::Output(_)) {
            later.store(true, Ordering::Relaxed);
        }
    };
    let result = sandbox::run(&world.launcher, &request, None, &cancel, &mut on_event);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    let running =
        fs::read_dir("/proc").unwrap().filter_map(|e| fs::read(e.unwrap().path().join("cmdline")).ok());
    let sleeping = format!("sleep\0{seconds}\0").into_bytes();
    assert!(!running.into_iter().any(|line| line == sleeping));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*world.dir.path().to_string_lossy()), "{mounts}");
    sandbox::remove(&world.launcher, &request.work).unwrap();
    assert!(!request.work.exists());
}

#[test]
fn daemons_end_with_their_step() {
    let world = World::new();
    let steps = vec![sh("(sleep 986 &) ; echo started"), sh("ls -d /proc/[0-9]* | grep -c .")];
    world.run(&world.request(steps)).unwrap();
    // Process 1, ls and grep, perhaps the shell.
    let out = world.output.lock().unwrap().clone();
    assert!(["started\n3\n", "started\n4\n"].contains(&out.as_str()), "{out}");
}

#[test]
fn interactive_status() {
    let world = World::new();
    let run = |script: &str| {
        let mut request = world.request(vec![sh("echo before")]);
        request.capture = Capture::Discard;
        let argv = ["sh", "-c", script].map(String::from).into();
        let interaction = InteractRequest { request, argv, env: BTreeMap::new(), cwd: "/etc".into() };
        let (caller, cancel) = (Caller::default(), AtomicBool::new(false));
        sandbox::interact(&world.launcher, &interaction, &caller, &cancel, &mut |_| {}).unwrap().status
    };
    assert_eq!(run("test $(pwd) = /etc && exit 42"), 42);
    assert_eq!(run("kill -15 $$"), 143);
    assert_eq!(run("true"), 0);
}
