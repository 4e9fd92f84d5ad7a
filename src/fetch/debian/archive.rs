//! Reading the suites of a base: Release files with their signatures, and the package indices that they vouch for.

use raptor_lang::source::Span;
use sha2::{Digest, Sha256};

use super::closure::ClosureError;
use super::packages::{self, Index, Rank};
use super::release::Release;
use super::signature::{Keyring, SignatureError};
use super::{Error, Failure, Get, Mirror, Request};

/// What a base is to be pinned from.
pub struct BasePlan {
    /// What FROM asks for.
    pub request: Request,
    /// sha256 (hex) of the file of keys that stand for Debian's.
    pub keyring: Option<String>,
    /// The suite itself, its further suites, the repositories.
    pub archives: Vec<Archive>,
}

/// One suite of one mirror.
pub struct Archive {
    /// Name of the repository; none for suites of the distribution.
    pub name: Option<String>,
    /// Where it is.
    pub url: Mirror,
    /// Suite, or a directory with `/` at its end.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
    /// Who may sign it.
    pub keys: Keyring,
    /// sha256 (hex) of the file of its own keys.
    pub key: Option<String>,
    /// What to blame in Raptor.toml.
    pub span: Option<Span>,
}

/// An archive that was read.
pub(super) struct ReadArchive {
    /// Of the Release file.
    pub url: String,
    pub release: Release,
    pub indices: Vec<ReadIndex>,
}

/// A package index that is what the Release file says.
pub(super) struct ReadIndex {
    pub url: String,
    pub text: String,
}

impl BasePlan {
    /// The plan of a base that is one suite of Debian.
    pub fn debian(request: Request, mirror: &Mirror) -> Result<BasePlan, SignatureError> {
        let archive = Archive {
            name: None,
            url: mirror.clone(),
            suite: request.suite.clone(),
            components: vec!["main".to_owned()],
            keys: Keyring::debian()?,
            key: None,
            span: None,
        };
        Ok(BasePlan { request, keyring: None, archives: vec![archive] })
    }

    pub(super) fn failed(&self, source: ClosureError) -> Error {
        let mut mirrors: Vec<&str> = self.archives.iter().map(|it| it.url.url.as_str()).collect();
        mirrors.dedup();
        Error::Closure {
            request: self.request.to_string(),
            mirror: mirrors.join(", "),
            source: Box::new(source),
        }
    }
}

impl Archive {
    /// How packages name it.
    pub fn id(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.suite)
    }
}

impl ReadArchive {
    pub fn rank(&self) -> Rank {
        match (self.release.not_automatic, self.release.automatic_upgrades) {
            (true, true) => Rank::Upgrades,
            (true, false) => Rank::OnRequest,
            (false, _) => Rank::Usual,
        }
    }
}

/// Reads archives one after the other.
pub(super) fn read_all(get: &mut Get, archives: &[Archive]) -> Result<Vec<ReadArchive>, Failure> {
    let read = |it: &Archive| read(get, it).map_err(|error| Failure { error, span: it.span });
    archives.iter().map(read).collect()
}

fn read(get: &mut Get, archive: &Archive) -> Result<ReadArchive, Error> {
    let (text, url) = release_text(get, archive)?;
    let release = match Release::parse(&text, &archive.suite) {
        Ok(release) => release,
        Err(source) => return Err(Error::Release { url, source }),
    };
    let mut indices = Vec::new();
    let found = packages::indices(&archive.suite, &archive.components, &release);
    for index in found.map_err(|source| Error::Packages { url: url.clone(), source })? {
        indices.push(read_index(get, archive, index)?);
    }
    Ok(ReadArchive { url, release, indices })
}

/// The signed text of the Release file, and its URL for messages.
fn release_text(get: &mut Get, archive: &Archive) -> Result<(String, String), Error> {
    let file = |name| archive.url.file(&format!("{}{name}", packages::directory(&archive.suite)));
    let mut there = |url: &str| match get(url) {
        Err(Error::Fetch(err)) if err.status() == Some(404) => Ok(None),
        other => other.map(Some),
    };
    let url = file("InRelease");
    if let Some(bytes) = there(&url)? {
        return match archive.keys.verify(&String::from_utf8_lossy(&bytes)) {
            Ok(text) => Ok((text, url)),
            Err(source) => Err(Error::Signature { url, source }),
        };
    }
    // Older archives have the signatures apart.
    let apart = file("Release");
    match (there(&apart)?, there(&file("Release.gpg"))?) {
        (Some(text), Some(signatures)) => match archive.keys.verify_detached(&text, &signatures) {
            Ok(text) => Ok((text, apart)),
            Err(source) => Err(Error::Signature { url: apart, source }),
        },
        (Some(_), None) => Err(Error::Signature { url: apart, source: SignatureError::Unsigned }),
        (None, _) => {
            Err(Error::NoSuite { mirror: archive.url.url.clone(), suite: archive.suite.clone(), url })
        }
    }
}

fn read_index(get: &mut Get, archive: &Archive, index: Index) -> Result<ReadIndex, Error> {
    let url = archive.url.file(&index.path);
    let bytes = get(&url)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|it| format!("{it:02x}")).collect();
    let size = bytes.len() as u64;
    if (&digest, size) != (&index.file.sha256, index.file.size) {
        return Err(Error::Digest { url, expected: index.file, sha256: digest, size });
    }
    match packages::decompress(&bytes, index.compression) {
        Ok(text) => Ok(ReadIndex { url, text }),
        Err(source) => Err(Error::Packages { url, source }),
    }
}
