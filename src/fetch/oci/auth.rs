//! Authorization: what a registry asks for, and the token or password that answers it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{HeaderMap, HeaderValue, header};

use super::super::http::{Call, Client, Error, Refused, is_transient_status, retry_after};
use super::credentials::{self, Credential, Found};
use super::registry::{Repository, Way, read_bounded, secret_header, unreachable, way};

/// Most bytes of a token with what comes along.
const MAX_TOKEN: u64 = 1 << 20;

/// What gives access to a repository.
#[derive(Clone)]
pub(super) struct Granted {
    /// `Authorization`
    pub header: HeaderValue,
    /// Where the credentials are from, if any were needed.
    pub credentials: Option<String>,
}

/// What a server asks for: one of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In lower case.
    scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What to do where a login is missing.
pub(super) fn login_hint(host: &str) -> String {
    format!("`docker login {host}` or `podman login {host}` keeps credentials where they are looked for")
}

/// Gets what a registry asks for in the headers of its refusal.
pub(super) fn grant(
    client: &Client,
    to: &Way,
    repository: &Repository,
    name: &str,
    headers: &HeaderMap,
) -> Result<Granted, Refused> {
    let failed =
        |reason: String, hint: Option<String>| Error::Registry { name: name.to_owned(), reason, hint };
    let asked: Vec<Challenge> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(challenges)
        .collect();
    let found = credentials::find(&client.settings().registries.credentials, repository)?;
    let from = found.as_ref().map(|it| it.from.clone());
    if let Some(bearer) = asked.iter().find(|it| it.scheme == "bearer") {
        let token = token(client, to, repository, name, bearer, found.as_ref())?;
        return Ok(Granted { header: secret_header(&format!("Bearer {token}"))?, credentials: from });
    }
    let hint = Some(login_hint(&repository.host));
    if !asked.iter().any(|it| it.scheme == "basic") {
        let schemes: Vec<_> = asked.iter().map(|it| it.scheme.as_str()).collect();
        let what = if schemes.is_empty() { "nothing that is known".into() } else { schemes.join(", ") };
        return Err(failed(format!("the registry wants a login, but asks for {what}"), None).into());
    }
    match found.map(|it| it.credential) {
        Some(Credential::Password { user, password }) => {
            Ok(Granted { header: basic(&user, &password)?, credentials: from })
        }
        Some(Credential::Identity(_)) => {
            let reason = "the registry wants a user name and password, and the credentials are a token";
            Err(failed(reason.to_owned(), hint).into())
        }
        None => Err(failed("the registry wants a user name and password".to_owned(), hint).into()),
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    secret_header(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Asks the token service that the registry names.
fn token(
    client: &Client,
    to: &Way,
    repository: &Repository,
    name: &str,
    challenge: &Challenge,
    found: Option<&Found>,
) -> Result<String, Refused> {
    let failed = |reason: String, hint: Option<String>| {
        Refused::from(Error::Registry { name: name.to_owned(), reason, hint })
    };
    let realm = challenge.get("realm").unwrap_or_default();
    let is_secure = realm.starts_with("https://");
    if !is_secure && !realm.starts_with("http://") {
        return Err(failed("the registry names no token service".to_owned(), None));
    }
    if !is_secure && to.scheme == "https" && found.is_some() {
        let reason = format!("the registry wants the credentials sent in the clear, to {}", authority(realm));
        return Err(failed(reason, None));
    }
    let pull = format!("repository:{}:pull", repository.path);
    let scope = challenge.get("scope").unwrap_or(&pull);
    let mut query = vec![("scope", scope)];
    query.extend(challenge.get("service").map(|it| ("service", it)));
    let host = authority(realm);
    // A service of its own is as trustworthy as the settings say.
    let to = if host == repository.host { to.clone() } else { way(client, host)? };
    let mut call_url = realm.to_owned();
    let mut headers = HeaderMap::new();
    let form = match found.map(|it| &it.credential) {
        Some(Credential::Identity(identity)) => {
            query.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "raptor"),
                ("refresh_token", identity.as_str()),
            ]);
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, kind);
            Some(encoded(&query))
        }
        other => {
            if let Some(Credential::Password { user, password }) = other {
                query.push(("account", user));
                headers.insert(header::AUTHORIZATION, basic(user, password)?);
            }
            call_url += if realm.contains('?') { "&" } else { "?" };
            call_url += &encoded(&query);
            None
        }
    };
    let body = form.as_ref().map(|it| it.as_bytes());
    let method = if body.is_some() { "POST" } else { "GET" };
    let call = Call { method, headers, body, ..Call::get(&call_url) };
    // Neither the user's name nor the token belongs into a message.
    let response = to.client.call(&call).map_err(|err| renamed(err, realm))?;
    let status = response.status().as_u16();
    match (status, found) {
        (200, _) => {}
        (status, _) if is_transient_status(status) => {
            let failure = Error::Status { url: realm.to_owned(), status };
            return Err(Refused { failure, retry_after: retry_after(response.headers()) });
        }
        (400 | 401 | 403, Some(found)) => {
            let reason = format!("the registry refuses the credentials of {}", found.from);
            return Err(failed(reason, Some(login_hint(&repository.host))));
        }
        (401 | 403, None) => {
            let reason = "the registry wants a login".to_owned();
            return Err(failed(reason, Some(login_hint(&repository.host))));
        }
        (status, _) => return Err(failed(format!("the token service {host} answered {status}"), None)),
    }
    let text = read_bounded(response, MAX_TOKEN).map_err(|err| unreachable(realm, err))?;
    let token = serde_json::from_slice::<Token>(&text).ok();
    let token = token.and_then(|it| it.token.or(it.access_token)).filter(|it| !it.is_empty());
    token.ok_or_else(|| failed(format!("the token service {host} gives no token"), None))
}

/// The same failure of another name.
fn renamed(error: Error, url: &str) -> Error {
    match error {
        Error::Request { source, .. } => Error::Request { url: url.to_owned(), source },
        other => other,
    }
}

/// Host and port in a URL, without what else may be there.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

fn encoded(query: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let mut out = String::new();
        for b in text.bytes() {
            match b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                true => out.push(char::from(b)),
                false => out.push_str(&format!("%{b:02X}")),
            }
        }
        out
    };
    let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// The challenges in a header: a scheme, then parameters with commas between them, then perhaps the next scheme.
fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(after), Some(challenge)) => {
                let (value, after) = value(after);
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A word or quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_ask_for() {
        let text =
            r#"Basic realm="a \"b\", c", bearer realm="https://token.example/t?x=1",Service="s", scope=a:b"#;
        let found = challenges(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].scheme.as_str(), found[0].get("realm")), ("basic", Some("a \"b\", c")));
        assert_eq!(found[1].get("realm"), Some("https://token.example/t?x=1"));
        assert_eq!((found[1].get("service"), found[1].get("scope")), (Some("s"), Some("a:b")));
        assert_eq!(challenges("Negotiate"), [Challenge { scheme: "negotiate".into(), parameters: vec![] }]);
        for odd in ["", " , ", "=x", "Bearer realm=\"open", "Bearer ==,", "Bearer \u{e4}=\"\\"] {
            let _ = challenges(odd);
        }
    }

    #[test]
    fn queries_and_hosts() {
        assert_eq!(
            encoded(&[("scope", "repository:a/b:pull"), ("x", "ä &")]),
            "scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%20%26"
        );
        assert_eq!(authority("https://me@token.example:1/t?x"), "token.example:1");
        assert_eq!(authority("https://token.example"), "token.example");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let header = basic("me", "hush").unwrap();
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(header.to_str().unwrap(), "Basic bWU6aHVzaA==");
        assert!(!secret_header("Bearer a\nhush").unwrap_err().to_string().contains("hush"));
    }
}
