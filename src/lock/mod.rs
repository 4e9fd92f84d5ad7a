//! `Raptor.lock`: the part of the internet that the build saw. Format in `spec/lock.md`.

mod change;
mod debian;
mod docker;
mod file;
mod input;
mod link;
mod parse;

use serde::{Deserialize, Serialize};

pub use change::{Change, Differs, Kind, changes};
pub use debian::{DebianPackage, DebianPin, DebianRepository};
pub use docker::{DockerLayer, DockerPin, DockerPlatform};
pub use file::{Lock, LockError};
pub use input::Input;
pub use link::{LinkPin, Origin};

/// sha256 of nothing: what a body without bytes has.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Headers of an answer that a lock keeps.
pub(crate) const KEPT_HEADERS: &[&str] = &[
    "content-disposition",
    "content-encoding",
    "content-type",
    "etag",
    "last-modified",
    "location",
    "www-authenticate",
];

/// One recorded request of a RUN step, with the answer that every replay gives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkEntry {
    /// URL without fragment; `debian:/PATH` stands for a path below the mirror of the base.
    pub url: String,
    /// HTTP method.
    pub method: String,
    /// `Accept` header when it was not `*/*`.
    pub accept: Option<String>,
    /// sha256 (hex) of the request body, if it had one.
    pub body: Option<String>,
    /// HTTP status, below 500.
    pub status: u16,
    /// sha256 (hex) of the response body.
    pub sha256: String,
    /// Size of the response body, in bytes.
    pub size: u64,
    /// `Content-Disposition`, `Content-Encoding`, `Content-Type`, `ETag`, `Last-Modified`, `Location` and
    /// `WWW-Authenticate` (for HEAD also `Content-Length`), lower-case names, sorted.
    pub headers: Vec<(String, String)>,
}

impl NetworkEntry {
    /// Whether two entries are answers to the same request.
    pub fn is_same_request(&self, other: &NetworkEntry) -> bool {
        let key = |it: &NetworkEntry| (it.url.clone(), it.method.clone(), it.accept.clone(), it.body.clone());
        key(self) == key(other)
    }
}

/// A pinned file of a FETCH without digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePin {
    /// sha256 (hex) of the file.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}
