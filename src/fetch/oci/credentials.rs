//! Credentials of registries, where docker and podman keep them: in a file, or with a helper program that it names.
//!
//! They are asked for when a registry wants them, and kept nowhere.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::super::http::Error;
use super::registry::Repository;

/// Time for a helper, which may have to unlock something.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of a file or of what a helper says.
const MAX_BYTES: u64 = 1 << 20;
/// The registry that has another name in these files, for historical reasons.
const HUB: (&str, &str) = ("index.docker.io", "https://index.docker.io/v1/");
/// What that one is called by others.
const HUB_NAME: &str = "docker.io";

/// Credentials, and what to call their place.
pub(super) struct Found {
    pub credential: Credential,
    pub from: String,
}

/// What gives access. It has no `Debug`, so that it is not shown by accident.
pub(super) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// What the token service takes instead.
    Identity(String),
}

/// As much of a `config.json` or `auth.json` as is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The first credentials that the files have for a repository.
pub(super) fn find(files: &[PathBuf], repository: &Repository) -> Result<Option<Found>, Error> {
    for path in files {
        let Some(file) = read(path)? else { continue };
        if let Some(found) = in_file(path, &file, repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<File>, Error> {
    let named = |source| Error::File { path: path.to_path_buf(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(err) => return Err(named(err)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(named)?;
    // Of the reason only the place: what stands there may be a password.
    let wrong = |err: serde_json::Error| {
        format!("not a file of credentials: line {}, column {}", err.line(), err.column())
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|err| Error::Setting { setting: path.display().to_string(), reason: wrong(err) })
}

fn in_file(path: &Path, file: &File, repository: &Repository) -> Result<Option<Found>, Error> {
    let place = path.display().to_string();
    let named = |key: &str| names(repository).into_iter().any(|it| it == trimmed(key));
    let helper = file.cred_helpers.iter().find(|(key, _)| named(key)).map(|(_, helper)| helper);
    for helper in helper.into_iter().chain(&file.creds_store) {
        if let Some(credential) = ask_helper(helper, &repository.host, &place)? {
            return Ok(Some(Found { credential, from: format!("docker-credential-{helper}") }));
        }
    }
    // What is said of the path itself counts more than what is said of the host.
    for name in names(repository) {
        let Some((_, entry)) = file.auths.iter().find(|(key, _)| trimmed(key) == name) else { continue };
        if let Some(credential) = entry.credential(&place)? {
            return Ok(Some(Found { credential, from: place }));
        }
    }
    Ok(None)
}

/// Names of a repository in such files, the most exact first: its path, those above it, the host.
fn names(repository: &Repository) -> Vec<String> {
    let hosts: &[&str] = if repository.host == HUB.0 { &[HUB.0, HUB_NAME] } else { &[&repository.host] };
    let mut names = Vec::new();
    let mut path = Some(repository.path.as_str());
    while let Some(it) = path {
        names.extend(hosts.iter().map(|host| format!("{host}/{it}")));
        path = it.rsplit_once('/').map(|(above, _)| above);
    }
    names.extend(hosts.iter().map(|it| (*it).to_owned()));
    names
}

/// A key without what older tools put around the host.
fn trimmed(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    key.trim_end_matches('/')
}

impl Entry {
    fn credential(&self, place: &str) -> Result<Option<Credential>, Error> {
        if let Some(token) = self.identitytoken.as_ref().filter(|it| !it.is_empty()) {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credential::Password { user: user.clone(), password: password.clone() }));
        }
        let Some(auth) = self.auth.as_ref().filter(|it| !it.is_empty()) else { return Ok(None) };
        let relaxed = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, relaxed).decode(auth.trim());
        let text = decoded.ok().and_then(|it| String::from_utf8(it).ok());
        let pair = text.as_deref().map(|it| it.trim_end_matches('\0')).and_then(|it| it.split_once(':'));
        match pair {
            Some((user, password)) => Ok(Some(known(user, password))),
            None => Err(Error::Setting {
                setting: place.to_owned(),
                reason: "an `auth` in it is not the base64 form of USER:PASSWORD".into(),
            }),
        }
    }
}

/// Some keep tokens where others keep passwords.
fn known(user: &str, password: &str) -> Credential {
    match user {
        "<token>" => Credential::Identity(password.to_owned()),
        user => Credential::Password { user: user.to_owned(), password: password.to_owned() },
    }
}

/// Asks `docker-credential-NAME` for the credentials of a host; nothing if it has none.
fn ask_helper(name: &str, host: &str, place: &str) -> Result<Option<Credential>, Error> {
    let program = format!("docker-credential-{name}");
    let failed = |reason: String| Error::Setting { setting: format!("{program}, named by {place}"), reason };
    if name.contains('/') {
        return Err(failed("this is not the name of a helper".into()));
    }
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|err| match err.kind() {
            ErrorKind::NotFound => failed("there is no such program".into()),
            _ => failed(err.to_string()),
        })?;
    let url = if host == HUB.0 { HUB.1 } else { host };
    // Dropped at once, so that the helper sees the end. It may not care to read.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(format!("{url}\n").as_bytes()));
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = stdout.map(|it| it.take(MAX_BYTES).read_to_end(&mut said));
        (said, read.is_some_and(|it| it.is_ok()))
    });
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < HELPER_TIMEOUT => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("no answer in {} seconds", HELPER_TIMEOUT.as_secs())));
            }
            Err(err) => return Err(failed(err.to_string())),
        }
    };
    let (said, _) = reader.join().unwrap_or_default();
    if !status.success() {
        // All helpers say it in these words.
        return match String::from_utf8_lossy(&said).contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(format!("it failed ({status})"))),
        };
    }
    let answer: Answer =
        serde_json::from_slice(&said).map_err(|_| failed("its answer is not what a helper gives".into()))?;
    Ok(Some(known(&answer.username, &answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, host: &str, path: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        let repository = Repository { host: host.into(), path: path.into() };
        match find(&[dir.path().join("none.json"), file], &repository) {
            Ok(None) => "nothing".into(),
            Ok(Some(Found { credential: Credential::Password { user, password }, .. })) => {
                format!("{user} {password}")
            }
            Ok(Some(Found { credential: Credential::Identity(token), .. })) => format!("token {token}"),
            Err(err) => err.to_string().replace(&dir.path().display().to_string(), ""),
        }
    }

    #[test]
    fn files() {
        let text = r#"{ "auths": {
            "registry.example:5000": { "auth": "bWU6aHVzaDpoYQ==" },
            "registry.example:5000/team": { "username": "team", "password": "x" },
            "https://other.example/v2/": { "auth": "bWU6aA" },
            "token.example": { "auth": "", "identitytoken": "abc" },
            "bad.example": { "auth": "secret!" },
            "empty.example": {},
            "https://index.docker.io/v1/": { "auth": "aHViOmg=" }
        }, "credHelpers": { "helped.example": "raptor-no-such-helper", "odd.example": "../x" }, "HttpHeaders": {} }"#;
        for (host, path, expected) in [
            ("registry.example:5000", "a/b", "me hush:ha"),
            ("registry.example:5000", "team/app", "team x"),
            ("registry.example:5000", "teams", "me hush:ha"),
            ("registry.example", "a", "nothing"),
            ("other.example", "a", "me h"),
            ("token.example", "a", "token abc"),
            ("empty.example", "a", "nothing"),
            ("index.docker.io", "library/debian", "hub h"),
            ("bad.example", "a", "/config.json: an `auth` in it is not the base64 form of USER:PASSWORD"),
            (
                "odd.example",
                "a",
                "docker-credential-../x, named by /config.json: this is not the name of a helper",
            ),
            (
                "helped.example",
                "a",
                "docker-credential-raptor-no-such-helper, named by /config.json: there is no such program",
            ),
        ] {
            assert_eq!(shown(text, host, path), expected, "{host}/{path}");
        }
        let damaged = "{\"auths\": {\"a\": {\"auth\": hush}}}";
        assert_eq!(shown(damaged, "a", "b"), "/config.json: not a file of credentials: line 1, column 26");
    }
}
