//! Debian bases: from `debian://SUITE` to a pinned list of packages, checked against Debian's archive keys.
//!
//! Specified in `spec/debian.md`. Pinning reads a suite once; building uses the pin alone.

pub mod closure;
pub mod mirror;
pub mod packages;
pub mod release;
pub mod signature;

pub use mirror::{Mirror, MirrorError, discover};

pub use raptor_lang::def::{
    DebianRequest as Request, DebianRequestError as RequestError, DebianVariant as Variant,
};

use sha2::{Digest, Sha256};

use crate::fetch::{self, Client, Wanted};
use crate::lock::{DebianPackage, DebianPin};

use closure::ClosureError;
use packages::{COMPONENT, PackagesError};
use release::{IndexFile, Release, ReleaseError};
use signature::{Keyring, SignatureError};

/// Release files have 150 kB, package indices 10 MB; a server that sends more than this is broken.
const MAX_DOWNLOAD: u64 = 1 << 28;

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

#[cfg(test)]
mod tests;
