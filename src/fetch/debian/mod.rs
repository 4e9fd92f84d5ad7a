//! Debian bases: from `debian://SUITE` to a pinned list of packages, checked against Debian's archive keys.
//!
//! Specified in `spec/debian.md`. Pinning reads a suite once; building uses the pin alone.

pub mod closure;
pub mod mirror;
pub mod packages;
pub mod release;
pub mod signature;

pub use mirror::{Mirror, MirrorError, discover};

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::fetch::{self, Client, Wanted};
use crate::lock::{DebianPackage, DebianPin};

use closure::ClosureError;
use packages::{COMPONENT, PackagesError};
use release::{IndexFile, Release, ReleaseError};
use signature::{Keyring, SignatureError};

/// Release files have 150 kB, package indices 10 MB; a server that sends more than this is broken.
const MAX_DOWNLOAD: u64 = 1 << 28;

/// Which base is asked for: the text after `debian://`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Suite or code name, such as `trixie` or `stable`.
    pub suite: String,
    /// Which packages.
    pub variant: Variant,
}

/// Which packages a base starts from; all that they depend on comes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `Essential: yes`, `Priority: required` and apt.
    #[default]
    Minbase,
    /// `Essential: yes` and apt.
    Apt,
}

/// Why a `debian://` reference is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `debian://`
    #[error("no suite is named: expected for example debian://trixie")]
    EmptySuite,
    /// Odd characters in the suite.
    #[error("`{0}` cannot be a Debian suite: only lower-case letters, digits and `-` are allowed")]
    Suite(String),
    /// `?x=…`
    #[error("unknown parameter `{0}`: the only parameter is `variant`")]
    Parameter(String),
    /// `?variant=x`
    #[error("unknown variant `{0}`: expected `minbase` (the default) or `apt`")]
    Variant(String),
    /// A parameter twice.
    #[error("the parameter `{0}` is given more than once")]
    Repeated(String),
}

/// Why a base cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A download failed; the message names the URL.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// The mirror does not know the suite.
    #[error("{mirror} has no suite `{suite}` ({url} does not exist)")]
    NoSuite {
        /// URL of the mirror.
        mirror: String,
        /// What was asked for.
        suite: String,
        /// Of the InRelease file.
        url: String,
    },
    /// The Release file is not authentic.
    #[error("{url} cannot be trusted: {source}")]
    Signature {
        /// Of the InRelease file.
        url: String,
        /// Why.
        source: SignatureError,
    },
    /// The Release file is authentic, but not usable.
    #[error("{url} cannot be used: {source}")]
    Release {
        /// Of the InRelease file.
        url: String,
        /// Why.
        source: ReleaseError,
    },
    /// The mirror delivers something else than the Release file promises.
    #[error(
        "{url} is not the file that the signed Release file names: expected {} bytes with sha256 {}, \
         got {size} bytes with sha256 {sha256}; the mirror may just be updating itself, so try again later",
        expected.size, expected.sha256
    )]
    Digest {
        /// Of the index.
        url: String,
        /// As promised.
        expected: IndexFile,
        /// Digest of what came.
        sha256: String,
        /// Size of what came.
        size: u64,
    },
    /// The package index is not usable.
    #[error("the package index of {url} cannot be used: {source}")]
    Packages {
        /// Of the index, or of the Release file that has none.
        url: String,
        /// Why.
        source: PackagesError,
    },
    /// The packages do not add up to a base.
    #[error("debian://{request} cannot be put together from {mirror}: {source}")]
    Closure {
        /// What was asked for.
        request: Request,
        /// URL of the mirror.
        mirror: String,
        /// Why.
        source: ClosureError,
    },
}

/// What happens while a base is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A file is being fetched.
    Fetching {
        /// Its URL.
        url: String,
    },
    /// To be shown as a warning: the Release file is older than its makers want; a stale mirror, or an attack
    /// that withholds updates.
    Expired {
        /// Of the InRelease file.
        url: String,
        /// `Valid-Until`, in seconds since 1970.
        valid_until: i64,
    },
}

/// Reads a suite from `mirror` and chooses the packages of a base. `now` is in seconds since 1970 and decides
/// only about a warning.
pub fn pin(
    client: &Client,
    mirror: &Mirror,
    request: &Request,
    now: i64,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<DebianPin, Error> {
    let keyring = Keyring::debian().map_err(|source| Error::Signature { url: mirror.url.clone(), source })?;
    let mut get = |url: &str| {
        on_progress(Progress::Fetching { url: url.to_string() });
        Ok(client.get_bytes(url, MAX_DOWNLOAD)?)
    };
    let (release, url) = fetch_release(&mut get, &keyring, mirror, &request.suite)?;
    let pin = fetch_packages(&mut get, &release, &url, mirror, request)?;
    if let Some(valid_until) = release.valid_until.filter(|it| *it < now) {
        on_progress(Progress::Expired { url, valid_until });
    }
    Ok(pin)
}

/// Packages as downloads, in their order; each may come from any of `mirrors`, tried in order.
pub fn wanted(packages: &[DebianPackage], mirrors: &[Mirror]) -> Vec<Wanted> {
    let wanted = |it: &DebianPackage| Wanted {
        name: format!("{}_{}_{}.deb", it.name, it.version, it.architecture),
        urls: mirrors.iter().map(|mirror| mirror.file(&it.path)).collect(),
        sha256: it.sha256.clone(),
        size: it.size,
    };
    packages.iter().map(wanted).collect()
}

type Get<'a> = dyn FnMut(&str) -> Result<Vec<u8>, Error> + 'a;

/// The checked Release file of a suite, and its URL for messages.
fn fetch_release(
    get: &mut Get,
    keyring: &Keyring,
    mirror: &Mirror,
    suite: &str,
) -> Result<(Release, String), Error> {
    let url = mirror.file(&format!("dists/{suite}/InRelease"));
    let bytes = match get(&url) {
        Err(Error::Fetch(err)) if err.status() == Some(404) => {
            return Err(Error::NoSuite { mirror: mirror.url.clone(), suite: suite.to_string(), url });
        }
        other => other?,
    };
    let text = match keyring.verify(&String::from_utf8_lossy(&bytes)) {
        Ok(text) => text,
        Err(source) => return Err(Error::Signature { url, source }),
    };
    match Release::parse(&text, suite) {
        Ok(release) => Ok((release, url)),
        Err(source) => Err(Error::Release { url, source }),
    }
}

fn fetch_packages(
    get: &mut Get,
    release: &Release,
    release_url: &str,
    mirror: &Mirror,
    request: &Request,
) -> Result<DebianPin, Error> {
    let odd = |url: &str| {
        let url = url.to_string();
        |source| Error::Packages { url, source }
    };
    let index = packages::index(&request.suite, release).map_err(odd(release_url))?;
    let url = mirror.file(&index.path);
    let bytes = get(&url)?;
    let (sha256, size) = (hex(&Sha256::digest(&bytes)), bytes.len() as u64);
    if (&sha256, size) != (&index.file.sha256, index.file.size) {
        return Err(Error::Digest { url, expected: index.file, sha256, size });
    }
    let text = packages::decompress(&bytes, index.compression).map_err(odd(&url))?;
    let packages = packages::parse(&text).map_err(odd(&url))?;
    let chosen = closure::closure(&packages, request.variant).map_err(|source| Error::Closure {
        request: request.clone(),
        mirror: mirror.url.clone(),
        source,
    })?;
    let packages = chosen.into_iter().map(|it| DebianPackage {
        name: it.package.name.to_string(),
        version: it.package.version.to_string(),
        architecture: it.package.architecture.to_string(),
        path: it.package.path.to_string(),
        sha256: it.package.sha256.to_ascii_lowercase(),
        size: it.package.size,
        essential: it.base,
    });
    Ok(DebianPin {
        mirror: mirror.url.clone(),
        date: release.date,
        components: vec![COMPONENT.to_string()],
        packages: packages.collect(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Request, RequestError> {
        let (suite, parameters) = text.split_once('?').unwrap_or((text, ""));
        if suite.is_empty() {
            return Err(RequestError::EmptySuite);
        }
        let fine = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        if suite.starts_with('-') || !suite.bytes().all(fine) {
            return Err(RequestError::Suite(suite.to_string()));
        }
        let mut variant = None;
        for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("variant", _) if variant.is_some() => {
                    return Err(RequestError::Repeated("variant".to_string()));
                }
                ("variant", "minbase") => variant = Some(Variant::Minbase),
                ("variant", "apt") => variant = Some(Variant::Apt),
                ("variant", other) => return Err(RequestError::Variant(other.to_string())),
                (other, _) => return Err(RequestError::Parameter(other.to_string())),
            }
        }
        Ok(Request { suite: suite.to_string(), variant: variant.unwrap_or_default() })
    }
}

impl fmt::Display for Request {
    /// The text after `debian://`, in its shortest form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suite)?;
        match self.variant {
            Variant::Minbase => Ok(()),
            Variant::Apt => f.write_str("?variant=apt"),
        }
    }
}

#[cfg(test)]
mod tests;
