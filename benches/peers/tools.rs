//! The tools that are compared, each with a root that holds busybox alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Something that runs `busybox true`.
pub trait Trivial {
    fn name(&self) -> &'static str;
    /// Runs it; nothing of an earlier round may help.
    fn run(&self, round: usize);
}

/// Peers that work on this machine, each with a directory of its own.
pub fn peers(dir: &Path) -> Vec<Box<dyn Trivial>> {
    let mut peers: Vec<Box<dyn Trivial>> = Vec::new();
    peers.extend(Bwrap::new(&dir.join("bwrap")).map(|it| Box::new(it) as Box<dyn Trivial>));
    peers.extend(Crun::new(&dir.join("crun")).map(|it| Box::new(it) as Box<dyn Trivial>));
    peers.extend(Buildah::new(&dir.join("buildah")).map(|it| Box::new(it) as Box<dyn Trivial>));
    peers.extend(Nix::new(&dir.join("nix")).map(|it| Box::new(it) as Box<dyn Trivial>));
    peers
}

fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs a command that must succeed.
fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A peer, if a first try of it works; else says why not.
fn tried<T>(name: &str, peer: T, mut first: Command) -> Option<T> {
    match first.output() {
        Ok(output) if output.status.success() => Some(peer),
        Ok(output) => {
            println!("{name:<28} does not work here: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            println!("{name:<28} is not here: {error}");
            None
        }
    }
}

/// A root with busybox and nothing else.
fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for name in ["bin", "dev", "proc", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("package busybox-static is needed");
    for name in ["sh", "true"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    root
}

/// A project of trivial layers over one base.
#[derive(Clone)]
pub struct Raptor {
    dir: PathBuf,
}

impl Raptor {
    pub fn new(dir: &Path) -> Raptor {
        fs::create_dir_all(dir).unwrap();
        fs::copy("/bin/busybox", dir.join("busybox")).expect("package busybox-static is needed");
        let base = "MKDIR /bin\nCOPY busybox /bin/busybox\nRUN /bin/busybox --install -s /bin\n";
        fs::write(dir.join("base.rapt"), base).unwrap();
        fs::write(dir.join("t@.rapt"), "FROM base\nRUN true {{ instance }}\n").unwrap();
        let raptor = Raptor { dir: dir.to_owned() };
        run(&mut raptor.build(1, ["base".to_owned()]));
        raptor
    }

    fn build(&self, jobs: u32, targets: impl IntoIterator<Item = String>) -> Command {
        let program = std::env::var_os("RAPTOR_BENCH_PROGRAM");
        let mut command = command(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_raptor").into()), &self.dir);
        command
            .args(["build", "-q", "-j"])
            .arg(jobs.to_string())
            .args(targets)
            .env("RAPTOR_STORE", self.dir.join("store"))
            .env("XDG_CACHE_HOME", self.dir.join("cache"));
        command
    }

    /// Realizes that many derivations in one process.
    pub fn wide(&self, width: usize) {
        run(&mut self.build(2, (0..width).map(|n| format!("t@wide{n}"))));
    }

    /// Time of each derivation when one process realizes several, one after the other.
    pub fn many_in_one(&self, n: u32) -> Duration {
        let begin = Instant::now();
        run(&mut self.build(1, (0..n).map(|n| format!("t@row{n}"))));
        begin.elapsed() / n
    }
}

impl Trivial for Raptor {
    fn name(&self) -> &'static str {
        "raptor"
    }

    fn run(&self, round: usize) {
        run(&mut self.build(1, [format!("t@{round}")]));
    }
}

struct Bwrap {
    root: PathBuf,
}

impl Bwrap {
    fn new(dir: &Path) -> Option<Bwrap> {
        let bwrap = Bwrap { root: root(dir) };
        let first = bwrap.command();
        tried("bwrap", bwrap, first)
    }

    fn command(&self) -> Command {
        let mut command = command("bwrap", &self.root);
        command.args(["--unshare-all", "--die-with-parent", "--bind"]).arg(&self.root);
        command.args(["/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]);
        command
    }
}

impl Trivial for Bwrap {
    fn name(&self) -> &'static str {
        "bwrap"
    }

    fn run(&self, _round: usize) {
        run(&mut self.command());
    }
}

struct Crun {
    dir: PathBuf,
}

impl Crun {
    fn new(dir: &Path) -> Option<Crun> {
        root(dir);
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
        let config = serde_json::json!({
            "ociVersion": "1.0.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"] },
            "root": { "path": "root" },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "linux": { "namespaces": namespaces.map(|it| serde_json::json!({ "type": it })) },
        });
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let crun = Crun { dir: dir.to_owned() };
        let first = crun.command("first");
        tried("crun run", crun, first)
    }

    /// In a mount namespace of its own, because crun refuses a host with both versions of cgroups.
    fn command(&self, id: &str) -> Command {
        let script =
            "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec crun run -b . \"$1\"";
        let mut command = command("unshare", &self.dir);
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(format!("raptor-peer-{id}-{}", std::process::id()));
        command
    }
}

impl Trivial for Crun {
    fn name(&self) -> &'static str {
        "crun run"
    }

    fn run(&self, round: usize) {
        run(&mut self.command(&round.to_string()));
    }
}

/// Without namespaces (`chroot` isolation), which is its quickest way.
pub struct Buildah {
    dir: PathBuf,
}

impl Buildah {
    pub fn new(dir: &Path) -> Option<Buildah> {
        root(dir);
        let buildah = Buildah { dir: dir.to_owned() };
        let mut from = buildah.command("from");
        from.args(["--name", "peer", "scratch"]);
        let buildah = tried("buildah run", buildah, from)?;
        run(buildah.command("copy").args(["-q", "peer", "root", "/"]));
        Some(buildah)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = command("buildah", &self.dir);
        command
            .arg("--root")
            .arg(self.dir.join("storage"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .arg(verb);
        command
    }

    /// Builds an image of that many steps, with its cache.
    pub fn steps(&self, n: usize) {
        let steps: String = (0..n).map(|n| format!("RUN [\"/bin/true\", \"{n}\"]\n")).collect();
        fs::write(self.dir.join("Containerfile"), format!("FROM scratch\nCOPY root /\n{steps}")).unwrap();
        run(self.command("build").args(["-q", "--layers", "--isolation=chroot", "-t", "steps", "."]));
    }
}

impl Trivial for Buildah {
    fn name(&self) -> &'static str {
        "buildah run (chroot)"
    }

    fn run(&self, _round: usize) {
        run(self.command("run").args(["--isolation=chroot", "peer", "/bin/true"]));
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let _ = self.command("rm").arg("--all").output();
        let _ = self.command("rmi").args(["--all", "--force"]).output();
        // A storage that stays mounted cannot be removed.
        let _ = command("umount", &self.dir).arg(self.dir.join("storage/overlay")).output();
    }
}

/// With its sandbox.
pub struct Nix {
    dir: PathBuf,
}

impl Nix {
    pub fn new(dir: &Path) -> Option<Nix> {
        root(dir);
        let derivation = |name: &str, n: &str| {
            format!(
                "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"${{./root/bin}}/busybox\";\n\
                 args = [ \"sh\" \"-c\" \"echo {n} > $out\" ]; }}"
            )
        };
        let one = format!("{{ n }}: {}\n", derivation("t", "${n}"));
        fs::write(dir.join("one.nix"), one).unwrap();
        let body = derivation("w${run}-${toString n}", "${toString n}");
        fs::write(
            dir.join("wide.nix"),
            format!("{{ n, run }}: builtins.genList (n: {body}) (builtins.fromJSON n)\n"),
        )
        .unwrap();
        let nix = Nix { dir: dir.to_owned() };
        let first = nix.one(0);
        tried("nix-build", nix, first)
    }

    fn command(&self, file: &str) -> Command {
        let mut command = command("nix-build", &self.dir);
        command.arg(file).args(["--no-out-link", "-j2", "--option", "substitute", "false"]);
        command.args(["--option", "sandbox", "true", "--option", "build-users-group", ""]);
        command.args(["--argstr", "n"]);
        command
    }

    fn one(&self, n: usize) -> Command {
        let mut command = self.command("one.nix");
        // The store is the machine's, where an earlier run of this benchmark must not help.
        command.arg(format!("{}-{n}", std::process::id()));
        command
    }

    pub fn wide(&self, width: usize) {
        let id = std::process::id().to_string();
        run(self.command("wide.nix").arg(width.to_string()).args(["--argstr", "run", &id]));
    }
}

impl Trivial for Nix {
    fn name(&self) -> &'static str {
        "nix-build"
    }

    fn run(&self, round: usize) {
        run(&mut self.one(round));
    }
}
