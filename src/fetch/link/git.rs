//! One commit of a git repository, from a server or from a repository of this machine. No settings of git on this
//! machine are read, and no program is started.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::http::Transport;
use gix::remote::Direction;
use gix::remote::fetch::{Shallow, Tags};
use gix::{ObjectId, Repository};
use raptor_lang::manifest::GitRef;

use super::super::http::{Client, Error};
use super::wire::{Failure, Wire};
use super::wrong;

/// What a fetched commit is called in the repository that is made for it.
const WANTED: &str = "refs/raptor/wanted";

/// A repository with the commit that is wanted.
pub(super) struct Found {
    pub(super) repository: Repository,
    /// A commit, or a tag that leads to one.
    pub(super) id: ObjectId,
}

/// Fetches the commit, alone where the server can do that, into a new repository in the directory `work`.
pub(super) fn fetch(
    client: &Client,
    url: &str,
    at: &GitRef,
    work: &Path,
    cancel: &AtomicBool,
) -> Result<Found, Error> {
    let mut patience = client.patience();
    loop {
        let failure = Failure::default();
        let error = match fetch_once(client, url, at, work, cancel, &failure) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let Some(refused) = failure.take() else { return Err(error) };
        if !refused.failure.is_transient() || !patience.again(refused.retry_after, cancel) {
            return Err(refused.failure);
        }
        let _ = std::fs::remove_dir_all(work);
    }
}

fn fetch_once(
    client: &Client,
    url: &str,
    at: &GitRef,
    work: &Path,
    cancel: &AtomicBool,
    failure: &Failure,
) -> Result<Found, Error> {
    let failed = |err: gix::Error| wrong(url, reason(at, &err));
    let options = gix::open::Options::isolated();
    let create = gix::create::Options::default();
    let repository = gix::ThreadSafeRepository::init_opts(work, gix::create::Kind::Bare, create, options)
        .map_err(failed)?
        .to_thread_local();
    let parsed = gix::url::parse(gix::bstr::BStr::new(url)).map_err(|err| wrong(url, err))?;
    let name = match at {
        GitRef::Rev(id) => id.clone(),
        GitRef::Tag(tag) => format!("refs/tags/{tag}"),
        GitRef::Branch(branch) => format!("refs/heads/{branch}"),
    };
    let remote = repository
        .remote_at_without_url_rewrite(parsed.clone())
        .and_then(|it| {
            it.with_refspecs([gix::bstr::BStr::new(&format!("+{name}:{WANTED}"))], Direction::Fetch)
        })
        .map_err(failed)?
        .with_fetch_tags(Tags::None);
    let wire = Wire::new(client, cancel, failure.clone());
    let transport = Transport::new_http(wire, parsed, Protocol::V2, false);
    let prepared = remote
        .to_connection_with_transport(transport)
        .with_credentials(|_| Ok(None))
        .prepare_fetch(gix::progress::Discard, Default::default())
        .map_err(failed)?;
    let id = prepared.ref_map().mappings.first().and_then(|it| it.remote.as_id().map(ToOwned::to_owned));
    let Some(id) = id else { return Err(missing(url, at)) };
    prepared
        .with_shallow(Shallow::DepthAtRemote(NonZeroU32::MIN))
        .receive(gix::progress::Discard, cancel)
        .map_err(failed)?;
    Ok(Found { repository, id })
}

/// Finds the commit in a repository of this machine.
pub(super) fn open(url: &str, dir: &Path, at: &GitRef) -> Result<Found, Error> {
    let options = gix::open::Options::isolated().with(gix::sec::Trust::Full);
    let repository = gix::open_opts(dir, options).map_err(|err| wrong(url, chain(&err)))?;
    let name = match at {
        GitRef::Rev(id) => {
            let id = ObjectId::from_hex(id.as_bytes()).map_err(|err| wrong(url, err))?;
            if !repository.has_object(id) {
                return Err(missing(url, at));
            }
            return Ok(Found { repository, id });
        }
        GitRef::Tag(tag) => format!("refs/tags/{tag}"),
        GitRef::Branch(branch) => format!("refs/heads/{branch}"),
    };
    let found = repository.try_find_reference(&name).map_err(|err| wrong(url, chain(&err)))?;
    let id = match found {
        Some(mut found) => found.peel_to_id().map_err(|err| wrong(url, chain(&err)))?.detach(),
        None => return Err(missing(url, at)),
    };
    Ok(Found { repository, id })
}

fn missing(url: &str, at: &GitRef) -> Error {
    wrong(
        url,
        match at {
            GitRef::Rev(id) => format!("has no commit {id}"),
            GitRef::Tag(tag) => format!("has no tag `{tag}`"),
            GitRef::Branch(branch) => format!("has no branch `{branch}`"),
        },
    )
}

/// What the library says; a commit that is gone has no error of its own.
fn reason(at: &GitRef, err: &gix::Error) -> String {
    let text = chain(err);
    match at {
        GitRef::Rev(id) if text.contains("not our ref") => format!("has no commit {id}"),
        GitRef::Branch(name) if text.contains("None of the refspec") => format!("has no branch `{name}`"),
        GitRef::Tag(name) if text.contains("None of the refspec") => format!("has no tag `{name}`"),
        _ => text,
    }
}

/// An error with its causes, on one line.
fn chain(err: &dyn std::error::Error) -> String {
    let mut texts = vec![err.to_string()];
    let mut source = err.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts.join(": ").replace('\n', " ")
}
