//! Projects in temporary directories, and raptor run on them as root or as an ordinary user.
//!
//! The tests share one store per user, so that the Debian base is made once. They need root and what
//! `.ci/setup` installs.

#![allow(dead_code, reason = "every test file uses another part")]

pub mod apt;
pub mod internet;
pub mod iso;
pub mod mount;
pub mod oci;
pub mod schema;
pub mod server;
pub mod trees;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The unprivileged user that `.ci/setup` makes.
pub const USER: &str = "raptor-test";

/// A root of busybox alone; needs the file `busybox` that [`Project::busybox`] puts there.
pub const BUSYBOX: &str = "\
MKDIR /bin
COPY busybox /bin/busybox
RUN /bin/busybox --install -s /bin
MKDIR /etc
WRITE \"root:x:0:0::/root:/bin/sh\\n\" /etc/passwd
";

/// Who runs raptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    Root,
    User,
}

/// A project in a directory of its own, with the lock that all tests share as its start.
pub struct Project {
    dir: tempfile::TempDir,
    who: As,
    store: PathBuf,
}

/// What a command did.
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Project {
    /// A project of root in the shared store. `files` are paths and contents.
    pub fn new(files: &[(&str, &str)]) -> Project {
        Project::of(As::Root, files)
    }

    /// A project of somebody, in the store that all projects of theirs share.
    pub fn of(who: As, files: &[(&str, &str)]) -> Project {
        let dir = tempfile::Builder::new().prefix("raptor-project-").tempdir_in(scratch()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let project = Project { store: shared_store(who), dir, who };
        for (path, content) in files {
            project.write(path, content);
        }
        project
    }

    /// The same with the Debian base pinned, as every project on it needs.
    pub fn debian(who: As, files: &[(&str, &str)]) -> Project {
        let project = Project::of(who, files);
        project.write("Raptor.lock", &shared_lock());
        project
    }

    /// A project whose `base.rapt` is [`BUSYBOX`], with a store of its own.
    pub fn busybox(who: As, files: &[(&str, &str)]) -> Project {
        let project = Project::of(who, files).with_empty_store();
        project.write("base.rapt", BUSYBOX);
        fs::copy("/bin/busybox", project.path("busybox")).expect("package busybox-static is needed");
        project.own();
        project
    }

    /// Uses a store of its own, empty at first.
    pub fn with_empty_store(mut self) -> Project {
        self.store = self.path("own-store");
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn write(&self, path: &str, content: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        self.own();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Gives the project to whoever works on it.
    pub fn own(&self) {
        if self.who == As::User {
            let status = Command::new("chown").args(["-R", USER]).arg(self.dir.path()).status().unwrap();
            assert!(status.success());
        }
    }

    /// A raptor command, ready to start.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.who {
            As::Root => Command::new(raptor()),
            As::User => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(raptor());
                command
            }
        };
        with_usual_signals(&mut command);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            .env("RAPTOR_STORE", &self.store)
            .env("XDG_CACHE_HOME", shared_cache(self.who))
            .stdin(Stdio::null());
        for name in [
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "SSL_CERT_FILE",
            "RAPTOR_DEBIAN_MIRROR",
            "RAPTOR_DEBIAN_SECURITY_MIRROR",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// The same, started by another program of root: a shell with its script, say, that ends in `exec "$@"`.
    pub fn command_behind(&self, before: &[&str], args: &[&str]) -> Command {
        let plain = self.command(args);
        let mut command = Command::new(before[0]);
        with_usual_signals(&mut command);
        command.args(&before[1..]).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "raptor {} failed:\n{}", args.join(" "), ran.stderr);
        ran.stdout
    }

    /// Runs a command that must fail with status 1 and say each of `messages`, without leaving anything in the
    /// store's work area.
    pub fn fails(&self, args: &[&str], messages: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(1), "raptor {}:\n{}{}", args.join(" "), ran.stdout, ran.stderr);
        for message in messages {
            assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A store of an ordinary user holds files of other ids; root may remove them all.
        let _ = Command::new("rm").arg("-rf").arg(self.dir.path()).status();
    }
}

/// Lets a command hear of interruptions, even if these tests are run by a shell in the background.
fn with_usual_signals(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: no handler is set, and nothing else runs between fork and exec.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: signal(2) may be called there.
    unsafe { command.pre_exec(reset) };
}

pub fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program under test, where the ordinary user may start it too.
pub fn raptor() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_raptor"));
    let stat = fs::metadata(built).unwrap();
    let dir = scratch().join("bin");
    let copy = dir.join(format!("raptor-{}-{}", stat.size(), stat.mtime_nsec()));
    if !copy.exists() {
        fs::create_dir_all(&dir).unwrap();
        let temp = tempfile::NamedTempFile::new_in(&dir).unwrap().into_temp_path();
        fs::copy(built, &temp).unwrap();
        fs::set_permissions(&temp, fs::Permissions::from_mode(0o755)).unwrap();
        temp.persist(&copy).unwrap();
    }
    copy
}

/// Where tests keep things, reachable for the ordinary user too, who may not enter the home of root.
pub fn scratch() -> PathBuf {
    let dir = std::env::var_os("RAPTOR_TEST_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/raptor-test"), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The store that all tests of one user share.
pub fn shared_store(who: As) -> PathBuf {
    shared_dir(who, "store")
}

/// The cache that all projects of one user share.
fn shared_cache(who: As) -> PathBuf {
    shared_dir(who, "cache")
}

/// A place in the scratch directory that is one user's; that of root is made by whoever needs it.
fn shared_dir(who: As, name: &str) -> PathBuf {
    let dir = scratch().join(match who {
        As::Root => name.to_owned(),
        As::User => format!("user-{name}"),
    });
    if who == As::User && !dir.exists() {
        let made = Command::new("install").args(["-d", "-m", "700", "-o", USER]).arg(&dir).status().unwrap();
        assert!(made.success());
    }
    dir
}

/// A lock that pins debian://bookworm, made once for all tests.
pub fn shared_lock() -> String {
    let file = scratch().join("Raptor.lock");
    let guard = fs::File::create(scratch().join("lock")).unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !file.exists() {
        let project = Project::new(&[("base.rapt", "FROM debian://bookworm\n")]);
        project.ok(&["eval", "base"]);
        fs::copy(project.path("Raptor.lock"), &file).unwrap();
    }
    fs::read_to_string(&file).unwrap()
}
