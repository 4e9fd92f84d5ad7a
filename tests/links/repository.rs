//! Git repositories of tests, and a web server that serves one by git's own program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A repository with a work tree, on the branch `main`.
pub struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    pub fn new() -> Repository {
        let dir = tempfile::Builder::new()
            .prefix("raptor-repository-")
            .tempdir_in(crate::common::scratch())
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let repository = Repository { dir };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    pub fn executable(&self, path: &str) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Commits all that is there; the commit's id.
    pub fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "A commit"]);
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Moves the branch and the work tree to a commit.
    pub fn reset(&self, commit: &str) {
        self.git(&["reset", "--quiet", "--hard", commit]);
    }

    /// git, without any settings of this machine; its standard output.
    pub fn git(&self, args: &[&str]) -> String {
        let output = git(self.dir.path()).args(args).output().expect("package git is needed");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/git");
    command.current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Somebody").env(format!("GIT_{who}_EMAIL"), "a@mail.example");
    }
    command
}

/// What is done to an answer on its way.
pub type Spoil = Box<dyn Fn(&str, usize) -> Option<Vec<u8>> + Send>;

/// A web server that runs `git http-backend` for each request.
pub struct GitServer {
    url: String,
    n_requests: Arc<AtomicUsize>,
    spoil: Arc<Mutex<Option<Spoil>>>,
}

impl GitServer {
    pub fn start(repository: &Repository) -> GitServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/library.git", listener.local_addr().unwrap());
        let n_requests = Arc::new(AtomicUsize::new(0));
        let spoil: Arc<Mutex<Option<Spoil>>> = Arc::default();
        let (counter, spoiler, root) = (n_requests.clone(), spoil.clone(), repository.path(".git"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let n = counter.fetch_add(1, Ordering::Relaxed);
                // A client that goes away is its own problem.
                let _ = answer(&stream.unwrap(), &root, |path| {
                    spoiler.lock().unwrap().as_ref().and_then(|it| it(path, n))
                });
            }
        });
        GitServer { url, n_requests, spoil }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Number of requests so far.
    pub fn seen(&self) -> usize {
        self.n_requests.load(Ordering::Relaxed)
    }

    /// Lets a function give other answers (whole ones, with head), by path and number of the request.
    pub fn spoil(&self, spoil: impl Fn(&str, usize) -> Option<Vec<u8>> + Send + 'static) {
        *self.spoil.lock().unwrap() = Some(Box::new(spoil));
    }
}

fn answer(
    mut stream: &TcpStream,
    root: &Path,
    spoiled: impl Fn(&str) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let Some(first) = head.first() else { return Ok(()) };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |wanted: &str| {
        let mut fields = head.iter().filter_map(|it| it.split_once(": "));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |it| it.parse().unwrap())];
    reader.read_exact(&mut body)?;
    if let Some(answer) = spoiled(target) {
        return stream.write_all(&answer);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut command = git(Path::new("/"));
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", path.split_once("/library.git").map_or(path, |(_, rest)| rest))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().unwrap().write_all(&body)?;
    let output = child.wait_with_output()?.stdout;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(output.len());
    let (fields, content) = output.split_at(end);
    let fields = String::from_utf8_lossy(fields);
    let status = fields.lines().find_map(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    let content = content.get(4..).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    stream.write_all(&[head.as_bytes(), content].concat())
}
