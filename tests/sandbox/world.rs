//! What the tests share: a place with trees, requests on it, and ways to look at results.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use raptor::sandbox::{
    self, Attrs, Capture, Error, Event, Launcher, Limits, Network, Report, Request, Step, StepFailure,
};

pub const EPOCH: i64 = 1_700_000_000;

/// A temporary directory with trees, the lowest being busybox.
pub struct World {
    pub dir: tempfile::TempDir,
    pub launcher: Launcher,
    pub output: Arc<Mutex<String>>,
}

pub fn launcher() -> Launcher {
    let exe = std::env::var_os("RAPTOR_TEST_EXE").unwrap_or_else(|| env!("CARGO_BIN_EXE_raptor").into());
    Launcher { exe: PathBuf::from(exe) }
}

impl World {
    pub fn new() -> World {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A request on the base, with an empty work dir.
    pub fn request(&self, steps: Vec<Step>) -> Request {
        let work = self.path("work");
        sandbox::remove(&self.launcher, &work).unwrap();
        fs::create_dir(&work).unwrap();
        Request {
            trees: vec![self.path("trees")],
            work,
            lower: vec!["base".into()],
            capture: Capture::Layer,
            keep: Vec::new(),
            mounts: Vec::new(),
            run_files: BTreeMap::new(),
            passing_files: BTreeMap::new(),
            forbidden: Vec::new(),
            steps,
            network: Network::None,
            epoch: EPOCH,
            limits: Limits::of_this_machine(),
            checkpoints: None,
        }
    }

    pub fn run(&self, request: &Request) -> Result<Report, Error> {
        self.output.lock().unwrap().clear();
        let mut on_event = |event| {
            if let Event::Output(bytes) = event {
                self.output.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        sandbox::run(&self.launcher, request, None, &AtomicBool::new(false), &mut on_event)
    }

    /// Output of a shell script.
    pub fn sh(&self, script: &str) -> String {
        let report = self.run(&self.request(vec![sh(script)]));
        let output = self.output.lock().unwrap().clone();
        report.unwrap_or_else(|err| panic!("{err}\n{output}"));
        output
    }

    /// Everything in the captured layer, one line each: kind, mode, path.
    pub fn upper(&self) -> Vec<String> {
        list(&self.path("work/upper"))
    }

    /// The layer that a script makes.
    pub fn layer(&self, script: &str) -> Vec<String> {
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

pub fn list(dir: &Path) -> Vec<String> {
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

pub fn sh(script: &str) -> Step {
    let argv = ["sh", "-ec", script].map(String::from).into();
    Step::Run { argv, env: BTreeMap::new(), cwd: "/".into() }
}

pub fn write(path: &str, text: &str) -> Step {
    Step::Write { text: text.into(), path: path.into(), attrs: Attrs::default() }
}

pub fn failure(result: Result<Report, Error>) -> (usize, StepFailure) {
    match result {
        Err(Error::StepFailed { idx, failure }) => (idx, failure),
        other => panic!("{other:?}"),
    }
}

pub fn message(result: Result<Report, Error>) -> String {
    match failure(result) {
        (_, StepFailure::Message(message)) => message,
        (_, other) => panic!("{other:?}"),
    }
}
