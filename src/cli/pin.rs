//! Pinning: what an evaluation wants of the network and Raptor.lock does not say yet.

mod image;

use std::sync::atomic::Ordering;

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Sources;

use super::errors::{CliError, with_sources};
use super::project::Project;
use super::session::{Session, discover_mirror};
use crate::eval::{Place, Unpinned};
use crate::fetch::{self, debian};
use crate::lock::{DebianPin, FilePin};
use crate::store::{Key, Store};

/// Pins one thing in the lock of the project; `place` is the statement that wants it.
pub fn pin(
    session: &Session,
    project: &Project,
    wanted: &Unpinned,
    place: &Place,
    sources: &Sources,
) -> Result<(), CliError> {
    let told = |code, message: String, label: &str, hint: &str| {
        let (span, stack) = place;
        let problem = Diagnostic::new(code, message.clone(), *span, label).with_hint(hint).with_stack(stack);
        session.ui.verbatim(&session.ui.printer(sources).show(&problem));
        CliError::Diagnosed(message)
    };
    if !session.may_record() {
        let message = format!("{wanted} is not in {}", project.lock_file().display());
        let hint = "the options forbid to add it: build once without --locked, --offline and the like";
        return Err(told(Code::NotLocked, message, "wanted here", hint));
    }
    match wanted {
        Unpinned::Debian(reference) => {
            let pin = pin_debian(session, project, reference)?;
            // Another process may have been quicker; its choice stands.
            project.change_lock(|lock| {
                lock.debian.entry(reference.clone()).or_insert(pin);
            })?;
        }
        Unpinned::Docker(reference) => {
            let pin = match image::pin(session, reference)? {
                Ok(pin) => pin,
                Err(fetch::Error::Cancelled) => return Err(interrupted()),
                Err(error) => {
                    let message = format!("cannot pin docker://{reference}: {}", with_sources(&error));
                    let hint = error.hint().unwrap_or("an image is looked up once, to pin it in the lock");
                    return Err(told(Code::InputFailed, message, "wanted here", hint));
                }
            };
            project.change_lock(|lock| {
                lock.docker.entry(reference.clone()).or_insert(pin);
            })?;
        }
        Unpinned::File(url) => {
            let store = session.store()?;
            let key = Key::new(*blake3::hash(format!("raptor-pin-1\0{url}").as_bytes()).as_bytes());
            let _alone = store.wait_lock(&key, &session.cancel)?.ok_or_else(interrupted)?;
            if project.is_fetch_pinned(url)? {
                return Ok(());
            }
            let pin = match pin_file(session, &store, url)? {
                Ok(pin) => pin,
                Err(error) => {
                    let message = format!("cannot fetch {}", with_sources(&error));
                    let hint =
                        "a FETCH without --sha256 or --blake3 is downloaded once, to pin it in the lock";
                    return Err(told(Code::InputFailed, message, "wanted here", hint));
                }
            };
            project.change_lock(|lock| {
                lock.fetch.entry(url.clone()).or_insert(pin);
            })?;
        }
    }
    Ok(())
}

fn pin_debian(session: &Session, project: &Project, reference: &str) -> Result<DebianPin, CliError> {
    let fail = |error| CliError::Pin { reference: reference.to_owned(), error: Box::new(error) };
    let request: debian::Request = reference
        .parse()
        .map_err(|err: debian::RequestError| CliError::Other(format!("debian://{reference}: {err}")))?;
    let mirror = discover_mirror(project.mirror_setting().as_deref())
        .map_err(|err| CliError::Other(with_sources(&err)))?;
    let busy = session.ui.busy(&format!("choosing the packages of debian://{reference}"));
    let mut on_progress = |progress| {
        if let debian::Progress::Expired { url, .. } = progress {
            session.ui.warning(&format!("{url} has expired: the mirror may be stale"));
        }
    };
    let pin = debian::pin(&session.client()?, &mirror, &request, now(), &mut on_progress).map_err(fail)?;
    busy.finish_and_clear();
    Ok(pin)
}

/// Downloads a file into the store, where the build will find it.
fn pin_file(session: &Session, store: &Store, url: &str) -> Result<Result<FilePin, fetch::Error>, CliError> {
    let client = session.client()?;
    let busy = session.ui.busy(&format!("fetching {url}"));
    let found = client.download_sizeless(&[url.to_owned()], None, store, &|_| {}, &session.cancel);
    busy.finish_and_clear();
    if session.cancel.load(Ordering::Relaxed) {
        return Err(interrupted());
    }
    Ok(found.map(|it| FilePin { sha256: it.sha256, size: it.size }))
}

fn interrupted() -> CliError {
    CliError::Other("interrupted".into())
}

/// Seconds since 1970, for warnings about stale mirrors only.
fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}
