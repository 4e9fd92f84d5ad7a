//! Pinning: what an evaluation wants of the network and Raptor.lock does not say yet.

mod debian;
mod image;

use std::sync::atomic::Ordering;

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Sources;

use super::errors::{CliError, with_sources};
use super::project::Project;
use super::session::Session;
use crate::eval::{Place, Unpinned};
use crate::fetch;
use crate::lock::FilePin;
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
        let message = match wanted {
            Unpinned::Debian(reference) if project.lock().debian.contains_key(reference) => {
                format!(
                    "{wanted} is in {}, but not as Raptor.toml describes it",
                    project.lock_file().display()
                )
            }
            _ => format!("{wanted} is not in {}", project.lock_file().display()),
        };
        let hint = "the options forbid to add it: build once without --locked, --offline and the like";
        return Err(told(Code::NotLocked, message, "wanted here", hint));
    }
    match wanted {
        Unpinned::Debian(reference) => {
            debian::pin(session, project, reference, place).map_err(|problem| {
                session.ui.verbatim(&session.ui.printer(sources).show(&problem));
                CliError::Diagnosed(problem.message)
            })?;
        }
        Unpinned::Docker(reference) => {
            let pin = match image::pin(session, reference)? {
                Ok(pin) => pin,
                Err(fetch::Error::Cancelled) => return Err(CliError::interrupted()),
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
        Unpinned::File(urls) => {
            let Some(url) = urls.first() else { return Ok(()) };
            let store = session.store()?;
            let key = Key::new(*blake3::hash(format!("raptor-pin-1\0{url}").as_bytes()).as_bytes());
            let _alone = store.wait_lock(&key, &session.cancel)?.ok_or_else(CliError::interrupted)?;
            if project.is_fetch_pinned(url)? {
                return Ok(());
            }
            let pin = match pin_file(session, &store, urls)? {
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

/// Downloads a file into the store, where the build will find it.
fn pin_file(
    session: &Session,
    store: &Store,
    urls: &[String],
) -> Result<Result<FilePin, fetch::Error>, CliError> {
    let client = session.client()?;
    let busy = session.ui.busy(&format!("fetching {}", urls.first().map_or("", String::as_str)));
    let found = client.download_sizeless(urls, None, None, store, &|_| {}, &session.cancel);
    busy.finish_and_clear();
    if session.cancel.load(Ordering::Relaxed) {
        return Err(CliError::interrupted());
    }
    Ok(found.map(|it| FilePin { sha256: it.sha256, size: it.size }))
}
