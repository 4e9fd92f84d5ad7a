//! Pinning Debian bases: what files of the project and settings of the machine say, brought together.

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::manifest::{self, ArchivePlace};
use raptor_lang::stmt::Spanned;

use crate::cli::errors::with_sources;
use crate::cli::project::Project;
use crate::cli::session::{MirrorSettings, Session};
use crate::eval::{Base, Place};
use crate::fetch::debian::signature::Keyring;
use crate::fetch::debian::{self, Archive, BasePlan, Error, Failure, Mirror, MirrorError, MirrorKind};
use crate::lock::DebianPin;

/// Pins a base that the lock does not pin as the project describes it now. What is wrong is told at its place.
pub fn pin(
    session: &Session,
    project: &Project,
    reference: &str,
    place: &Place,
) -> Result<(), Box<Diagnostic>> {
    let (span, stack) = place;
    let at_from = |code, message: String| {
        Box::new(Diagnostic::new(code, message, *span, "wanted here").with_stack(stack))
    };
    let unknown = |err: String| at_from(Code::BadReference, format!("debian://{reference}: {err}"));
    let request = reference.parse().map_err(|err: debian::RequestError| unknown(err.to_string()))?;
    let base = Base::new(&project.files, &project.manifest.debian, request)?;
    let failed =
        |message: String| at_from(Code::InputFailed, format!("cannot pin debian://{reference}: {message}"));
    let plan = plan(project, &base).map_err(|fault| match fault {
        Fault::Mirror(err) => failed(with_sources(&err)),
        Fault::Keys(problem) => problem,
        Fault::Debian(message) => failed(message),
    })?;
    let client = session.client().map_err(|err| failed(with_sources(&err)))?;
    let busy = session.ui.busy(&format!("choosing the packages of debian://{reference}"));
    let mut on_progress = |progress| {
        if let debian::Progress::Expired { url, .. } = progress {
            session.ui.warning(&format!("{url} has expired: the mirror may be stale"));
        }
    };
    let found = debian::pin(&client, &plan, now(), &mut on_progress);
    busy.finish_and_clear();
    let pin: DebianPin = found.map_err(|Failure { error, span: blamed }| {
        let code = match error {
            Error::Closure { .. } => Code::BadPackages,
            _ => Code::InputFailed,
        };
        let message = format!("cannot pin debian://{reference}: {}", with_sources(&error));
        let problem = match blamed {
            Some(blamed) => Diagnostic::new(code, message, blamed, "named here")
                .with_label(*span, "wanted here")
                .with_stack(stack),
            None => *at_from(code, message),
        };
        Box::new(match error.hint() {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        })
    })?;
    let changed = project.change_lock(|lock| {
        // Another process may have been quicker; its choice stands.
        if !lock.debian.get(reference).is_some_and(|it| base.fits(it)) {
            lock.debian.insert(reference.to_owned(), pin);
        }
    });
    changed.map_err(|err| failed(with_sources(&err)))
}

/// What keeps a plan from being made.
enum Fault {
    Mirror(MirrorError),
    Keys(Box<Diagnostic>),
    Debian(String),
}

/// Where to read the base from: mirrors are those of this machine, unless Raptor.toml names others.
fn plan(project: &Project, base: &Base) -> Result<BasePlan, Fault> {
    let settings = project.mirror_settings();
    let keys = |file| match file {
        Some(file) => keyring(base, file),
        None => Keyring::debian().map_err(|err| Fault::Debian(err.to_string())),
    };
    let main = keys(base.recipe.keyring.as_ref())?;
    let mut archives = Vec::new();
    for it in &base.recipe.archives {
        archives.push(Archive {
            name: it.repository.clone(),
            url: mirror(&settings, it).map_err(Fault::Mirror)?,
            suite: it.suite.clone(),
            components: it.components.clone(),
            keys: it.key.as_ref().map_or_else(|| Ok(main.clone()), |file| keyring(base, file))?,
            key: base.key_digest(it.key.as_ref()),
            span: it.span,
        });
    }
    let keyring = base.key_digest(base.recipe.keyring.as_ref());
    Ok(BasePlan { request: base.request.clone(), keyring, archives })
}

fn mirror(settings: &MirrorSettings, archive: &manifest::Archive) -> Result<Mirror, MirrorError> {
    match &archive.place {
        ArchivePlace::Mirror => settings.discover(MirrorKind::Main),
        ArchivePlace::SecurityMirror => settings.discover(MirrorKind::Security),
        ArchivePlace::Url(url) => Mirror::new(url)
            .ok_or_else(|| MirrorError::Invalid { origin: "Raptor.toml".to_owned(), url: url.clone() }),
    }
}

fn keyring(base: &Base, file: &Spanned<String>) -> Result<Keyring, Fault> {
    Keyring::parse(base.key(file), &format!("in `{}`", file.value)).map_err(|err| {
        let message = format!("`{}` is no file of OpenPGP public keys: {}", file.value, with_sources(&err));
        let problem = Diagnostic::new(Code::ManifestValue, message, file.span, "named here");
        Fault::Keys(Box::new(problem.with_hint("a binary keyring, or one in ASCII armor")))
    })
}

/// Seconds since 1970, for warnings about stale mirrors only.
fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}
