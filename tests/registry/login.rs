//! Registries that want to know who we are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::between::{Between, Fate, Seen};
use super::common::{As, Project, Ran, ran};
use super::server::{Kind, PASSWORD, Registry, USER};
use super::{command, project, small};

fn auths(host: &str, entry: Value) -> Value {
    json!({ "auths": { host: entry } })
}

fn password(password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{USER}:{password}")) })
}

/// Builds `docker://HOST/app:1` anew, with a docker configuration.
fn pull(host: &str, config: &Value, path: &str) -> Ran {
    let text = format!("FROM docker://{host}/app:1\n");
    let project = Project::new(&[("t.rapt", &text)]).with_empty_store();
    project.write("docker/config.json", &config.to_string());
    let mut command = command(&project, host, &["build", "t"]);
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let output = command.env("DOCKER_CONFIG", project.path("docker")).env("PATH", path).output();
    let ran = ran(output.unwrap());
    // Nothing of what we know of the registry is told or kept.
    let kept = fs::read_to_string(project.path("Raptor.lock")).unwrap_or_default();
    for secret in [PASSWORD, "wrong", &STANDARD.encode(format!("{USER}:{PASSWORD}")), "token-"] {
        for text in [&ran.stderr, &ran.stdout, &kept] {
            assert!(!text.contains(secret), "{secret} in:\n{text}");
        }
    }
    assert!(ran.status == Some(0) || kept.is_empty());
    ran
}

fn helper(dir: &std::path::Path, name: &str, script: &str) {
    let file = dir.join(format!("docker-credential-{name}"));
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn passwords_from_files_and_helpers() {
    let source = project(As::Root, &small());
    // Its certificate is not checked here.
    let registry = Registry::start(&source, Kind::Guarded);
    registry.push(&source, "oci:img:latest", "app:1");
    let host = &*registry.host;
    let bin = tempfile::tempdir().unwrap();
    let answer = format!(r#"{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}"#);
    helper(bin.path(), "good", &format!("test \"$1 $(cat)\" = \"get {host}\" && echo '{answer}'"));
    helper(bin.path(), "none", "echo credentials not found in native keychain; exit 1");
    helper(bin.path(), "bad", "echo wrong; exit 3");
    helper(bin.path(), "odd", "echo wrong");
    let login = format!("`docker login {host}`");
    let refused = "the registry refuses access with the credentials of";
    for (config, expected) in [
        (auths(host, password(PASSWORD)), Ok(())),
        (auths(&format!("https://{host}/v1/"), password(PASSWORD)), Ok(())),
        (auths(&format!("{host}/app"), json!({ "username": USER, "password": PASSWORD })), Ok(())),
        (json!({ "credHelpers": { host: "good" } }), Ok(())),
        (json!({ "credsStore": "good" }), Ok(())),
        // What the store does not know may stand in the file.
        (json!({ "credsStore": "none", "auths": { host: password(PASSWORD) } }), Ok(())),
        (json!({}), Err(["wants a user name and password", &*login])),
        (auths("registry.example", password(PASSWORD)), Err(["wants a user name and password", &*login])),
        (json!({ "credsStore": "none" }), Err(["wants a user name and password", &*login])),
        (auths(host, password("wrong")), Err([refused, &*login])),
        (auths(host, json!({ "auth": "wrong!" })), Err(["config.json: an `auth` in it is not", "base64"])),
        (
            json!({ "credHelpers": { host: "bad" } }),
            Err(["docker-credential-bad", "it failed (exit status: 3)"]),
        ),
        (
            json!({ "credHelpers": { host: "odd" } }),
            Err(["docker-credential-odd", "not what a helper gives"]),
        ),
        (json!({ "credHelpers": { host: "gone" } }), Err(["docker-credential-gone", "no such program"])),
    ] {
        let ran = pull(host, &config, bin.path().to_str().unwrap());
        match expected {
            Ok(()) => assert_eq!(ran.status, Some(0), "{config}: {}", ran.stderr),
            Err(messages) => {
                assert_eq!(ran.status, Some(1), "{config}");
                for message in messages.iter().chain(&["error[E0602]", "t.rapt:1:1"]) {
                    assert!(ran.stderr.contains(message), "{config}: no `{message}` in:\n{}", ran.stderr);
                }
            }
        }
    }
}

/// A token service in front of a registry, and the registry as it wants tokens: the latest, for a few requests.
fn tokens(accept: fn(&Seen) -> bool) -> impl Fn(&Seen, usize) -> Fate + Send + Sync {
    let state = Mutex::new((0_u32, 0_u32));
    move |it, _| {
        let mut state = state.lock().unwrap();
        if it.path.starts_with("/token") {
            if !accept(it) {
                return Fate::Answer(401, String::new(), vec![]);
            }
            *state = (state.0 + 1, 3);
            let token = json!({ "access_token": format!("token-{}", state.0), "expires_in": 60 });
            return Fate::Answer(200, String::new(), token.to_string().into());
        }
        let wanted = format!("Bearer token-{}", state.0);
        if it.header("authorization") == Some(&wanted) && state.1 > 0 {
            state.1 -= 1;
            return Fate::Pass;
        }
        let host = it.header("host").unwrap();
        let asked = format!(
            "WWW-Authenticate: Bearer realm=\"http://{host}/token?x=1\",service=\"the service\",\
             scope=\"repository:app:pull\"\r\n"
        );
        Fate::Answer(401, asked, vec![])
    }
}

#[test]
fn tokens_of_a_service() {
    let source = project(As::Root, &small());
    let registry = Registry::start(&source, Kind::Plain);
    registry.push(&source, "oci:img:latest", "app:1");
    const QUERY: &str = "/token?x=1&scope=repository%3Aapp%3Apull&service=the%20service";
    let anyone: fn(&Seen) -> bool = |it| it.path == QUERY;
    let with_password: fn(&Seen) -> bool = |it| {
        let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        it.path == format!("{QUERY}&account={USER}") && it.header("authorization") == Some(&expected)
    };
    let with_identity: fn(&Seen) -> bool = |it| {
        let expected = "scope=repository%3Aapp%3Apull&service=the%20service&grant_type=refresh_token\
                        &client_id=raptor&refresh_token=hush%2B";
        it.method == "POST" && it.body == expected
    };
    for (accept, entry, refused) in [
        (anyone, None, None),
        (with_password, Some(password(PASSWORD)), None),
        (with_identity, Some(json!({ "auth": "", "identitytoken": "hush+" })), None),
        (with_password, None, Some("the registry wants a login")),
        (with_password, Some(password("wrong")), Some("the registry refuses the credentials of")),
    ] {
        let between = Between::start(&registry.host, tokens(accept));
        let host = &*between.host;
        let ran = pull(host, &entry.map_or(json!({}), |it| auths(host, it)), "/");
        match refused {
            None => {
                assert_eq!(ran.status, Some(0), "{}", ran.stderr);
                let renewed = between.seen().iter().filter(|it| it.path.starts_with("/token")).count();
                assert!(renewed > 1, "a token that has expired is renewed");
            }
            Some(message) => {
                assert_eq!(ran.status, Some(1));
                assert!(ran.stderr.contains(message), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn tokens_do_not_follow_to_other_hosts() {
    let source = project(As::Root, &small());
    let registry = Registry::start(&source, Kind::Plain);
    registry.push(&source, "oci:img:latest", "app:1");
    let elsewhere = Between::start(&registry.host, |_, _| Fate::Pass);
    let to = elsewhere.host.clone();
    let guarded = tokens(|it| it.header("authorization").is_some());
    let between = Between::start(&registry.host, move |it, before| match guarded(it, before) {
        Fate::Pass if it.is_blob() => {
            Fate::Answer(307, format!("Location: http://{to}{}\r\n", it.path), vec![])
        }
        other => other,
    });
    let ran = pull(&between.host, &auths(&between.host, password(PASSWORD)), "/");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|it| it.header("authorization").is_none()), "{seen:?}");
}
