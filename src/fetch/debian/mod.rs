//! Debian bases: from `debian://SUITE` to a pinned list of packages, checked against Debian's archive keys.
//!
//! Specified in `spec/debian.md`. Pinning reads a suite once; building uses the pin alone.

pub mod archive;
pub mod closure;
pub mod mirror;
pub mod packages;
pub mod release;
pub mod signature;
mod solve;

pub use archive::{Archive, BasePlan};
pub use mirror::{Mirror, MirrorError, MirrorKind, discover};

pub use raptor_lang::def::{
    DebianRequest as Request, DebianRequestError as RequestError, DebianVariant as Variant,
};

use raptor_lang::manifest::full_suite;
use raptor_lang::source::Span;

use crate::fetch::{self, Client, Wanted};
use crate::lock::{DebianPackage, DebianPin, DebianRepository};

use archive::ReadArchive;
use closure::{ClosureError, Include, Stage};
use packages::PackagesError;
use release::{IndexFile, ReleaseError};
use signature::SignatureError;

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
    #[error("{url} cannot be used: {source}")]
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
        request: String,
        /// URLs of the mirrors.
        mirror: String,
        /// Why.
        source: Box<ClosureError>,
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

/// Why a base cannot be pinned, and what in Raptor.toml is to blame, if anything is.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// What to blame.
    pub span: Option<Span>,
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoSuite { .. } => {
                Some("look into the directory `dists` of the mirror for its suites".into())
            }
            Error::Signature { source: SignatureError::UnknownKeys { .. }, .. } => Some(
                "the keys that sign it must be in `key` of the repository or `keyring` of the distribution"
                    .into(),
            ),
            Error::Closure { source, .. } => match &**source {
                ClosureError::NoInclude { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
                ClosureError::NoInclude { near: None, .. } => {
                    Some("it may be in another component: `components=main,contrib,non-free-firmware`".into())
                }
                ClosureError::Virtual { .. } => Some("name one of them instead".into()),
                ClosureError::Unsolvable { .. } => {
                    Some("what `include` names must go together with the packages of the base".into())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Reads the suites of a base and chooses its packages. `now` is in seconds since 1970 and decides only about a
/// warning.
pub fn pin(
    client: &Client,
    plan: &BasePlan,
    now: i64,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<DebianPin, Failure> {
    let mut get = |url: &str| {
        on_progress(Progress::Fetching { url: url.to_string() });
        Ok(client.get_bytes(url, MAX_DOWNLOAD)?)
    };
    let read = archive::read_all(&mut get, &plan.archives)?;
    let pin = choose(plan, &read).map_err(|error| Failure { error, span: None })?;
    for ReadArchive { url, release, .. } in read {
        if let Some(valid_until) = release.valid_until.filter(|it| *it < now) {
            on_progress(Progress::Expired { url, valid_until });
        }
    }
    Ok(pin)
}

/// Packages as downloads, in their order; each may come from any of the `mirrors` of the repository that it is from,
/// tried in order.
pub fn wanted<'p>(
    packages: impl IntoIterator<Item = &'p DebianPackage>,
    mirrors: impl Fn(Option<&str>) -> Vec<Mirror>,
) -> Vec<Wanted> {
    let wanted = |it: &DebianPackage| Wanted {
        name: format!("{}_{}_{}.deb", it.name, it.version, it.architecture),
        urls: mirrors(it.from.as_deref()).iter().map(|mirror| mirror.file(&it.path)).collect(),
        sha256: it.sha256.clone(),
        size: it.size,
    };
    packages.into_iter().map(wanted).collect()
}

type Get<'a> = dyn FnMut(&str) -> Result<Vec<u8>, Error> + 'a;

/// The pin of a base whose suites were read.
fn choose(plan: &BasePlan, read: &[ReadArchive]) -> Result<DebianPin, Error> {
    let Some((first, others)) = plan.archives.split_first() else {
        return Err(plan.failed(ClosureError::NoPackage("apt".into())));
    };
    let mut packages = Vec::new();
    for (number, archive) in read.iter().enumerate() {
        for index in &archive.indices {
            let odd = |source| Error::Packages { url: index.url.clone(), source };
            let listed = packages::parse(&index.text).map_err(odd)?.into_iter();
            packages.extend(listed.map(|it| packages::Package {
                archive: number,
                rank: archive.rank(),
                ..it
            }));
        }
    }
    let suite_of = |text: &str| {
        let full = full_suite(&first.suite, text);
        let named = |it: &Archive| match &it.name {
            Some(name) => name == text,
            None => it.suite == full || it.suite == text,
        };
        plan.archives.iter().position(named)
    };
    let include = plan.request.include.iter().map(|it| match it.split_once('/') {
        Some((name, suite)) => Include { name, suite: Some((suite, suite_of(suite))) },
        None => Include { name: it, suite: None },
    });
    let include: Vec<Include> = include.collect();
    let chosen = closure::closure(&packages, plan.request.variant, &include).map_err(|it| plan.failed(it))?;
    let of = |wanted: &dyn Fn(Stage) -> bool| {
        let these = chosen.iter().filter(|it| wanted(it.stage)).map(|it| DebianPackage {
            name: it.package.name.to_string(),
            version: it.package.version.to_string(),
            architecture: it.package.architecture.to_string(),
            path: it.package.path.to_string(),
            sha256: it.package.sha256.to_ascii_lowercase(),
            size: it.package.size,
            essential: it.stage == Stage::Essential,
            from: it
                .package
                .archive
                .checked_sub(1)
                .and_then(|it| others.get(it))
                .map(|it| it.id().to_owned()),
            wanted: it.wanted,
        });
        these.collect::<Vec<_>>()
    };
    let date = |number: usize| read.get(number).map_or(0, |it| it.release.date);
    let repository = |(number, it): (usize, &Archive)| DebianRepository {
        name: it.name.clone(),
        url: it.url.url.clone(),
        suite: it.suite.clone(),
        components: it.components.clone(),
        date: date(number + 1),
        key: it.key.clone(),
    };
    Ok(DebianPin {
        mirror: first.url.url.clone(),
        date: read.iter().map(|it| it.release.date).max().unwrap_or(0),
        components: first.components.clone(),
        keyring: plan.keyring.clone(),
        repositories: others.iter().enumerate().map(repository).collect(),
        packages: of(&|stage| stage != Stage::Included),
        included: of(&|stage| stage == Stage::Included),
    })
}

#[cfg(test)]
mod tests;
