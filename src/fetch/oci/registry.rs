//! One request to a registry: where it is, with which authorization, and what its refusals mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use raptor_lang::def::DockerReference;
use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, HeaderValue, Response, header};

use super::super::http::{Call, Client, Error, Refused, is_transient_status, request_error, retry_after};
use super::auth;

/// Most bytes that are read of the text of a refusal.
const MAX_REFUSAL: u64 = 64 << 10;
/// Most characters of it that are shown.
const MAX_SHOWN: usize = 300;

/// A path of images in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Repository {
    pub host: String,
    pub path: String,
}

impl Repository {
    pub fn of(reference: &DockerReference) -> Repository {
        Repository { host: reference.host.clone(), path: reference.repository.clone() }
    }
}

/// What a client has found out about registries.
#[derive(Default)]
pub struct Registries {
    /// Ways to hosts whose certificates are not checked.
    careless: OnceLock<Client>,
    schemes: Mutex<BTreeMap<String, &'static str>>,
    granted: Mutex<BTreeMap<Repository, Arc<Mutex<Option<auth::Granted>>>>>,
}

impl Registries {
    /// Ends what is going on, now and later.
    pub fn shut_down(&self) {
        if let Some(client) = self.careless.get() {
            client.shut_down();
        }
    }

    fn granted(&self, repository: &Repository) -> Arc<Mutex<Option<auth::Granted>>> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.entry(repository.clone()).or_default().clone()
    }
}

/// The way to a registry.
#[derive(Clone)]
pub(super) struct Way {
    pub client: Client,
    /// `https` or `http`
    pub scheme: &'static str,
}

/// The way to a host: over HTTPS, with a certificate that this machine trusts; the settings may allow less.
pub(super) fn way(client: &Client, host: &str) -> Result<Way, Refused> {
    if !client.settings().registries.insecure.contains(host) {
        return Ok(Way { client: client.clone(), scheme: "https" });
    }
    let registries = client.registries();
    let careless = match registries.careless.get() {
        Some(careless) => careless.clone(),
        None => {
            let careless = client.careless()?;
            registries.careless.get_or_init(|| careless).clone()
        }
    };
    let known = registries.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
    let scheme = match known {
        Some(scheme) => scheme,
        None => {
            let scheme = scheme(&careless, host)?;
            registries.schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), scheme);
            scheme
        }
    };
    Ok(Way { client: careless, scheme })
}

/// What a host speaks: HTTPS where it can.
fn scheme(careless: &Client, host: &str) -> Result<&'static str, Refused> {
    let ask = |scheme: &str| careless.call(&Call::get(&format!("{scheme}://{host}/v2/"))).map(drop);
    match (ask("https"), ask("http")) {
        (Ok(()), _) => Ok("https"),
        (Err(_), Ok(())) => Ok("http"),
        // That of plain HTTP is the clearer one where nobody listens, and the other is of no use where TLS is spoken.
        (Err(_), Err(error)) => Err(error.into()),
    }
}

/// Asks for something below a repository. `name` is what messages call it. What comes is content, or 416.
pub(super) fn send(
    client: &Client,
    repository: &Repository,
    name: &str,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refused> {
    if client.is_offline() {
        return Err(Error::Offline { url: name.to_owned() }.into());
    }
    let way = way(client, &repository.host)?;
    let url = format!("{}://{}/v2/{}/{path}", way.scheme, repository.host, repository.path);
    let shared = client.registries().granted(repository);
    let granted = || shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ask = |granted: Option<&auth::Granted>| {
        let mut call = Call::get(&url);
        call.headers = headers.clone();
        call.headers.extend(granted.map(|it| (header::AUTHORIZATION, it.header.clone())));
        way.client.call(&call)
    };
    let used = granted();
    let mut response = ask(used.as_ref())?;
    if response.status() == 401 {
        let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Another download may have asked meanwhile, because the old one has expired.
        if slot.as_ref().map(|it| &it.header) == used.as_ref().map(|it| &it.header) {
            *slot = None;
            *slot = Some(auth::grant(client, &way, repository, name, response.headers())?);
        }
        drop(slot);
        response = ask(granted().as_ref())?;
    }
    match response.status().as_u16() {
        200 | 206 | 416 => Ok(response),
        _ => Err(refusal(name, &repository.host, granted().as_ref(), response)),
    }
}

/// What a registry says of itself when it refuses.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<SaidError>,
}

#[derive(Deserialize)]
struct SaidError {
    #[serde(default)]
    message: Option<String>,
}

/// What a refusal means.
fn refusal(name: &str, host: &str, granted: Option<&auth::Granted>, response: Response<Body>) -> Refused {
    let status = response.status().as_u16();
    if is_transient_status(status) {
        let failure = Error::Status { url: name.to_owned(), status };
        return Refused { failure, retry_after: retry_after(response.headers()) };
    }
    let said = said(response).map_or(String::new(), |it| format!(" ({it})"));
    let login = auth::login_hint(host);
    let (reason, hint) = match (status, granted.and_then(|it| it.credentials.as_deref())) {
        (401 | 403, Some(from)) => {
            (format!("the registry refuses access with the credentials of {from}{said}"), Some(login))
        }
        (401 | 403, None) => {
            (format!("the registry has no such image, or not for everybody{said}"), Some(login))
        }
        (404, _) => {
            let hint = "look at its name and tag; images may also have been deleted";
            (format!("the registry has no such image{said}"), Some(hint.to_owned()))
        }
        _ => (format!("the registry answered {status}{said}"), None),
    };
    Error::Registry { name: name.to_owned(), reason, hint }.into()
}

/// The first message in a refusal, fit for a terminal.
fn said(response: Response<Body>) -> Option<String> {
    let text = read_bounded(response, MAX_REFUSAL).ok()?;
    let said: Said = serde_json::from_slice(&text).ok()?;
    let message = said.errors.into_iter().find_map(|it| it.message)?;
    let shown: String = message.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    (!shown.trim().is_empty()).then(|| shown.trim().to_owned())
}

/// At most one byte more than `limit`.
pub(super) fn read_bounded(response: Response<Body>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A header that must not be shown.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Setting {
        setting: "credentials of a registry".into(),
        reason: "they have characters that cannot be sent".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The error of a request to a server that grants access.
pub(super) fn unreachable(url: &str, error: std::io::Error) -> Error {
    request_error(url, error.into())
}
