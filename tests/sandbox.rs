//! Sandboxes from the outside. The root of all tests is the host's static busybox (package busybox-static).
//!
//! As root, everything runs a second time as the ordinary user `raptor-test`, who is added if missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raptor::sandbox::{
    self, Attrs, Capture, CopySource, Error, Event, InteractRequest, Launcher, Listeners, Mount, MountSource,
    Network, Report, Request, Step, StepFailure,
};
use raptor::tree::TreeHash;

const EPOCH: i64 = 1_700_000_000;
const USER: &str = "raptor-test";

/// A temporary directory with trees, the lowest being busybox.
struct World {
    dir: tempfile::TempDir,
    launcher: Launcher,
    output: Arc<Mutex<String>>,
}

fn launcher() -> Launcher {
    let exe = std::env::var_os("RAPTOR_TEST_EXE").unwrap_or_else(|| env!("CARGO_BIN_EXE_raptor").into());
    Launcher { exe: PathBuf::from(exe) }
}

impl World {
    fn new() -> World {
        sandbox::check_host().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().join("trees/base");
        for name in ["bin", "etc/dir", "lib", "usr/bin", "var/full/sub", "var/log"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", base.join("bin/busybox")).expect("package busybox-static is needed");
        let applets = "sh cat ls mkdir rm mv echo id true false sleep ln chmod chown touch wget mount hostname \
                       env stat find mknod grep head nslookup kill ulimit dd printf tty test unshare ip cp nc";
        for applet in applets.split_whitespace() {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\nstaff:x:50:\n"),
            ("etc/dir/a", "a"),
            ("etc/dir/b", "b"),
            ("var/full/sub/c", "c"),
            ("var/full/d", "d"),
        ] {
            fs::write(base.join(path), text).unwrap();
        }
        World { dir, launcher: launcher(), output: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A request on the base, with an empty work dir.
    fn request(&self, steps: Vec<Step>) -> Request {
        let work = self.path("work");
        sandbox::remove(&self.launcher, &work).unwrap();
        fs::create_dir(&work).unwrap();
        Request {
            trees: self.path("trees"),
            work,
            lower: vec!["base".into()],
            capture: Capture::Layer,
            mounts: Vec::new(),
            run_files: BTreeMap::new(),
            steps,
            network: Network::None,
            epoch: EPOCH,
        }
    }

    fn run(&self, request: &Request) -> Result<Report, Error> {
        self.output.lock().unwrap().clear();
        let mut on_event = |event| {
            if let Event::Output(bytes) = event {
                self.output.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        sandbox::run(&self.launcher, request, None, &AtomicBool::new(false), &mut on_event)
    }

    /// Output of a shell script.
    fn sh(&self, script: &str) -> String {
        let report = self.run(&self.request(vec![sh(script)]));
        let output = self.output.lock().unwrap().clone();
        report.unwrap_or_else(|err| panic!("{err}\n{output}"));
        output
    }

    /// Everything in the captured layer, one line each: kind, mode, path.
    fn upper(&self) -> Vec<String> {
        list(&self.path("work/upper"))
    }

    /// The layer that a script makes.
    fn layer(&self, script: &str) -> Vec<String> {
        self.sh(script);
        self.upper()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["work", "trees"] {
            let _ = sandbox::remove(&self.launcher, &self.path(name));
        }
    }
}

fn list(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_file() => 'f',
            _ => 'w',
        };
        if kind == 'd' {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let name = path.strip_prefix(dir).unwrap().display().to_string();
        if kind != 'w' && !name.is_empty() {
            assert_eq!(meta.mtime_nsec(), 0, "{name}");
            assert!(meta.mtime() <= EPOCH, "{name}");
        }
        if !name.is_empty() {
            let mode = if kind == 'w' || kind == 'l' { 0 } else { meta.mode() & 0o7777 };
            lines.push(format!("{name} {kind}{mode:o}"));
        }
        for (name, _) in raptor::tree::xattrs(&path, |_| true).unwrap() {
            assert!(!name.to_string_lossy().contains("overlay"), "{name:?} of {path:?}");
        }
    }
    lines.sort();
    lines
}

fn sh(script: &str) -> Step {
    let argv = ["sh", "-ec", script].map(String::from).into();
    Step::Run { argv, env: BTreeMap::new(), cwd: "/".into() }
}

fn write(path: &str, text: &str) -> Step {
    Step::Write { text: text.into(), path: path.into(), attrs: Attrs::default() }
}

fn failure(result: Result<Report, Error>) -> (usize, StepFailure) {
    match result {
        Err(Error::StepFailed { idx, failure }) => (idx, failure),
        other => panic!("{other:?}"),
    }
}

fn message(result: Result<Report, Error>) -> String {
    match failure(result) {
        (_, StepFailure::Message(message)) => message,
        (_, other) => panic!("{other:?}"),
    }
}

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
fn file_steps() {
    let world = World::new();
    let source = world.path("trees/src");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/x"), "x").unwrap();
    fs::set_permissions(source.join("sub/x"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    fs::write(world.path("trees/one"), "1").unwrap();
    let from = |tree: &str, name: &str| CopySource { tree: tree.into(), name: name.into() };
    let copy = |sources, dest: &str| Step::Copy { sources, dest: dest.into(), attrs: Attrs::default() };
    let attrs = Attrs { mode: Some(0o4755), user: Some("user".into()), group: Some("50".into()) };
    // A link inside leads to a place inside.
    let steps = vec![
        sh("ln -s /etc/absolute /etc/link"),
        write("/etc/link", "through"),
        Step::Mkdir { path: "/a/b/c".into(), parents: true, attrs: attrs.clone() },
        Step::Mkdir { path: "/etc".into(), parents: true, attrs: Attrs::default() },
        copy(vec![from("src", "src")], "/a/copy"),
        copy(vec![from("one", "one.txt"), from("one", "two.txt")], "/a/copy/sub/"),
        copy(vec![from("one", "n")], "/a/b"),
        Step::Copy { sources: vec![from("one", "n")], dest: "/a/named".into(), attrs },
        sh("stat -c '%n %u:%g %a' /a/named /a/b /a/b/c /a/copy/sub/x; cat /a/named /a/b/n; ls /a/copy/sub"),
    ];
    let report = world.run(&world.request(steps)).unwrap();
    assert_eq!(
        world.output.lock().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        "/a/named 1000:50 4755 /a/b 0:0 755 /a/b/c 1000:50 4755 /a/copy/sub/x 0:0 755 11one.txt two.txt x"
    );
    let upper = world.upper();
    for line in ["etc/absolute f644", "a/copy/link l0", "a/copy/sub/x f755", "a/named f4755", "a/b/c d4755"] {
        assert!(upper.contains(&line.to_string()), "{line} not in {upper:?}");
    }
    assert_eq!(report.layer.unwrap(), sandbox::hash(&world.launcher, &world.path("work/upper")).unwrap());
    assert!(
        message(world.run(&world.request(vec![copy(vec![from("one", "1")], "/no/")])))
            .contains("no such dir")
    );
}

#[test]
fn layers_say_only_what_differs() {
    let world = World::new();
    assert_eq!(world.layer("true"), [""; 0]);
    // Touched, rewritten with the same content, made and removed again.
    assert_eq!(
        world.layer("touch /etc/dir/a; cp /etc/dir/b /b; mv /b /etc/dir/b; mkdir /x; rm -r /x"),
        [""; 0]
    );
    assert_eq!(
        world.layer("chmod 700 /etc/dir/a; chmod 711 /etc"),
        ["etc d711", "etc/dir d755", "etc/dir/a f700"]
    );
    assert_eq!(
        world.layer("rm /etc/dir/a; rm -r /var/full"),
        ["etc d755", "etc/dir d755", "etc/dir/a w0", "var d755", "var/full w0"]
    );
    // A new directory in the place of an old one shows nothing of the old one.
    assert_eq!(
        world.layer("rm -r /var/full; mkdir -p /var/full/sub; echo new > /var/full/e"),
        [
            "var d755",
            "var/full d755",
            "var/full/d w0",
            "var/full/e f644",
            "var/full/sub d755",
            "var/full/sub/c w0"
        ]
    );
    // One that replaces nothing is no replacement.
    assert_eq!(world.layer("mkdir /t; touch /t/x; mv /t /u"), ["u d755", "u/x f644"]);
    assert_eq!(world.layer("rm -r /etc/dir; echo f > /etc/dir"), ["etc d755", "etc/dir f644"]);
    // Noise goes.
    let noise = "mkdir -p /etc/ssh /var/log/apt /tmp/x /run/y; echo 1 > /etc/machine-id; echo k > /etc/ssh/ssh_host_rsa_key;
                 echo l > /var/log/dpkg.log; echo l > /var/log/apt/history.log; echo p > /etc/passwd-; echo t > /tmp/x/t";
    assert_eq!(
        world.layer(noise),
        ["etc d755", "etc/machine-id f0", "etc/ssh d755", "var d755", "var/log d755", "var/log/apt d755"]
            .map(|l| l.replace("f0", "f644"))
    );
}

#[test]
fn layers_on_layers() {
    let world = World::new();
    world.sh("rm /etc/dir/a; echo 2 > /etc/dir/b; mkdir -p /var/full/new; echo n > /var/full/new/n");
    fs::rename(world.path("work/upper"), world.path("trees/second")).unwrap();
    let on_two = |script: &str| {
        let mut request = world.request(vec![sh(script)]);
        request.lower.push("second".into());
        world.run(&request).unwrap();
        (world.output.lock().unwrap().clone(), world.upper())
    };
    assert_eq!(on_two("cat /etc/dir/*; ls /var/full").0, "2\nd\nnew\nsub\n");
    assert_eq!(
        on_two("rm -r /etc/dir; mkdir /etc/dir; echo a > /etc/dir/a").1,
        ["etc d755", "etc/dir d755", "etc/dir/a f644", "etc/dir/b w0"]
    );
    assert_eq!(on_two("echo 2 > /etc/dir/b").1, [""; 0]);
    assert_eq!(
        on_two("printf b > /etc/dir/b; touch /etc/dir/a; rm /etc/dir/a").1,
        ["etc d755", "etc/dir d755", "etc/dir/b f644"]
    );
}

#[test]
fn from_nothing() {
    let world = World::new();
    let source = CopySource { tree: "base".into(), name: "base".into() };
    let copy = Step::Copy { sources: vec![source], dest: "/".into(), attrs: Attrs::default() };
    let tmp = Step::Mkdir {
        path: "/tmp".into(),
        parents: false,
        attrs: Attrs { mode: Some(0o1777), ..Attrs::default() },
    };
    let mut request = world.request(vec![copy, tmp, sh("rm /etc/dir/a; mkdir /empty; echo x > /tmp/x")]);
    request.lower.clear();
    let first =
        world.run(&request).unwrap_or_else(|err| panic!("{err} {}", world.output.lock().unwrap())).layer;
    let upper = world.upper();
    assert!(
        upper.contains(&"tmp d1777".to_string()) && upper.contains(&"empty d755".to_string()),
        "{upper:?}"
    );
    assert!(
        !upper
            .iter()
            .any(|l| ["proc", "dev", "run", "sys", "tmp/x", "etc/dir/a"].iter().any(|p| l.starts_with(p))),
        "{upper:?}"
    );
    sandbox::remove(&world.launcher, &request.work).unwrap();
    fs::create_dir(&request.work).unwrap();
    assert_eq!(world.run(&request).unwrap().layer, first);
}

#[test]
fn mounts_and_outputs() {
    let world = World::new();
    fs::create_dir_all(world.path("trees/top/etc/dir")).unwrap();
    fs::write(world.path("trees/top/etc/dir/z"), "z").unwrap();
    fs::write(world.path("trees/file"), "file").unwrap();
    fs::create_dir(world.path("host")).unwrap();
    let mount = |dest: &str, source| Mount { dest: dest.into(), source };
    let output = |name: &str, file| MountSource::Output { name: name.into(), file };
    let request = |script: &str| {
        let mut request = world.request(vec![sh(script)]);
        request.mounts = vec![
            mount("/input", MountSource::Tmpfs),
            mount("/input/base", MountSource::Tree("base".into())),
            mount("/input/file", MountSource::Tree("file".into())),
            mount("/merged", MountSource::Overlay(vec!["base".into(), "top".into()])),
            mount("/text", MountSource::Text("text".into())),
            mount("/cache", MountSource::Scratch),
            mount("/out/file", output("file", true)),
            mount("/out/dir", output("dir", false)),
            mount("/host", MountSource::Host { path: world.path("host"), readonly: false }),
            mount("/host-ro", MountSource::Host { path: world.path("host"), readonly: true }),
        ];
        request.run_files = [("apt/conf".to_string(), "conf".to_string())].into();
        request
    };
    let script = "cat /input/file /text /run/raptor/apt/conf; ls /input/base/etc/dir /merged/etc/dir; \
                  echo o > /out/file; mkdir /out/dir/d; touch /cache/x; echo h > /host/h; cat /host-ro/h; \
                  ! touch /host-ro/x /input/base/x /merged/x /text 2>/dev/null";
    let report =
        world.run(&request(script)).unwrap_or_else(|err| panic!("{err} {}", world.output.lock().unwrap()));
    let out = world.output.lock().unwrap().clone();
    assert_eq!(out, "filetextconf/input/base/etc/dir:\na\nb\n\n/merged/etc/dir:\na\nb\nz\nh\n");
    assert_eq!(world.upper(), [""; 0]);
    assert_eq!(report.outputs.keys().collect::<Vec<_>>(), ["dir", "file"]);
    assert_eq!(list(&world.path("work/out")), ["dir d755", "dir/d d755", "file f644"]);
    assert_eq!(fs::read_to_string(world.path("work/out/file")).unwrap(), "o\n");
    assert_eq!(fs::read_to_string(world.path("host/h")).unwrap(), "h\n");
    assert_eq!(
        fs::metadata(world.path("host/h")).unwrap().uid(),
        fs::metadata(world.path("host")).unwrap().uid()
    );
    assert!(!world.path("work/scratch").exists() && !world.path("work/work").exists());
    assert!(matches!(world.run(&request("true")), Err(Error::EmptyOutput(name)) if name == "file"));
}

#[test]
fn kept_and_discarded() {
    let world = World::new();
    let mut request = world.request(vec![sh("echo x >> /x; rm -rf /etc/dir; cat /x")]);
    request.capture = Capture::Keep;
    world.run(&request).unwrap();
    world.run(&request).unwrap();
    assert_eq!(*world.output.lock().unwrap(), "x\nx\n");
    request = world.request(vec![sh("echo x > /x")]);
    request.capture = Capture::Discard;
    assert_eq!(world.run(&request).unwrap().layer, None);
    assert_eq!(list(&world.path("work")), [""; 0]);
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
            let mut buffer = [0; 512];
            let (n, from) = listeners.dns.recv_from(&mut buffer).unwrap();
            // The question back as an answer without records.
            buffer[2] |= 0x80;
            listeners.dns.send_to(&buffer[..n], from).unwrap();
            n
        }));
    };
    let mut on_event = |_| {};
    let start = Instant::now();
    sandbox::run(&world.launcher, &request, Some(&mut serve), &AtomicBool::new(false), &mut on_event)
        .unwrap();
    assert!(served.unwrap().join().unwrap() > 12);
    assert!(start.elapsed() < Duration::from_secs(12));
    assert_eq!(world.upper(), ["etc d755", "etc/resolv.conf f644"]);
}

#[test]
fn cancelling_leaves_nothing() {
    let world = World::new();
    let cancel = Arc::new(AtomicBool::new(false));
    let request = world.request(vec![sh("sleep 987 & sleep 987 & echo up; sleep 987")]);
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
    assert!(!running.into_iter().any(|line| line == b"sleep\x00987\x00"));
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
        sandbox::interact(&world.launcher, &interaction, None, &AtomicBool::new(false), &mut |_| {}).unwrap()
    };
    let outcome = run("test $(pwd) = /etc && exit 42");
    assert_eq!((outcome.status, outcome.report.is_some()), (42, false));
    assert_eq!(run("kill -15 $$").status, 143);
    assert!(run("true").report.is_some());
}

#[test]
fn many_layers() {
    let world = World::new();
    let mut request = world.request(vec![sh("ls /many | grep -c .")]);
    for n in 0..120 {
        let name = format!("layer-with-a-rather-long-name-{n}");
        fs::create_dir_all(world.path("trees").join(&name).join(format!("many/{n}"))).unwrap();
        request.lower.push(name);
    }
    world.run(&request).unwrap();
    assert_eq!(*world.output.lock().unwrap(), "120\n");
    for _ in 0..400 {
        request.lower.push("base".into());
    }
    assert!(matches!(world.run(&request), Err(Error::Setup(why)) if why.contains("too many")));
}

/// A layer with owners, modes, links, whiteouts and a file capability.
fn varied(world: &World) -> TreeHash {
    let script = "mkdir -p /srv/d; echo x > /srv/x; chown 1000:50 /srv/x; chmod 6755 /srv/x; ln /srv/x /srv/hard; \
                  ln -s x /srv/soft; chown 65534:65534 /srv/d; rm /etc/dir/a; rm -r /var/full; mkdir /var/full; \
                  chown 33 /var/log";
    world.run(&world.request(vec![sh(script)])).unwrap().layer.unwrap().hash
}

#[test]
fn same_hash_again() {
    let first = varied(&World::new());
    assert_eq!(varied(&World::new()), first);
    if let Some(file) = std::env::var_os("RAPTOR_TEST_HASH") {
        fs::write(file, first.to_string()).unwrap();
    }
}

#[test]
fn as_ordinary_user() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let user = fs::read_to_string("/etc/passwd").unwrap().contains(&format!("{USER}:"));
    if !user {
        assert!(Command::new("useradd").args(["-m", USER]).status().unwrap().success());
    }
    // The build directory may be private to root.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (tests, exe) = (dir.path().join("tests"), dir.path().join("raptor"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(launcher().exe, &exe).unwrap();
    let hash = dir.path().join("hash");
    let output = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--init-groups"])
        .arg(&tests)
        .env("RAPTOR_TEST_EXE", &exe)
        .env("RAPTOR_TEST_HASH", &hash)
        .env_remove("TMPDIR")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read_to_string(hash).unwrap(), varied(&World::new()).to_string());
}
