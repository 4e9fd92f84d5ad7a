//! Errors of commands: message, hint and exit code, in one place.

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Sources;

use super::ui::Ui;
use crate::eval::Provenance;
use crate::lock::LockError;
use crate::sandbox::{Limit, StepFailure};
use crate::schedule::{Failure, Kept, RealizeError};
use crate::{sandbox, store};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The user's files have errors; they have been printed.
    #[error("{0}")]
    Diagnosed(String),
    /// Derivations failed.
    #[error("{}", failed(.failures.len()))]
    Failed {
        /// Which, and why.
        failures: Vec<Failure>,
        /// Statement of the failed step, rendered, for each failure.
        places: Vec<Option<String>>,
        /// Inputs whose bytes are nowhere any more, as `raptor update` names them.
        updates: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The lock failed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A sandbox failed outside a build.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A name means nothing.
    #[error("{message}")]
    Named {
        /// What is wrong.
        message: String,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

fn failed(n: usize) -> String {
    match n {
        1 => "1 derivation failed".to_owned(),
        n => format!("{n} derivations failed"),
    }
}

impl CliError {
    /// The end of what a signal has ended.
    pub fn interrupted() -> CliError {
        CliError::Other("interrupted".to_owned())
    }

    /// Exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Prints the error.
    pub fn report(&self, ui: &Ui) {
        if let CliError::Failed { failures, places, updates } = self {
            for (failure, place) in failures.iter().zip(places) {
                report_failure(ui, failure, place.as_deref());
            }
            if !updates.is_empty() {
                ui.hint(&format!("to move on to what is there now: raptor update {}", updates.join(" ")));
            }
        } else {
            ui.error(&with_sources(self));
        }
        if let Some(hint) = self.hint() {
            ui.hint(&hint);
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CliError::Named { hint, .. } => hint.clone(),
            CliError::Failed { failures, .. } => {
                failures.iter().find_map(|it| disk_full(&all_said(&it.error)).or(fetch_hint(&it.error)))
            }
            CliError::Sandbox(sandbox::Error::StepFailed { failure: StepFailure::Limit(limit), .. }) => {
                Some(raise(limit).to_owned())
            }
            error => disk_full(&with_sources(error)),
        }
    }
}

/// How to give a sandbox more of what it lacked.
fn raise(limit: &Limit) -> &'static str {
    match limit {
        Limit::Memory(_) => "allow more with --memory SIZE",
        Limit::Processes(_) => "let it do less at a time, as with make -j4; no option allows more",
        Limit::Disk(_) => "allow more with --disk SIZE",
        Limit::Reserve(_) | Limit::Files(_) => MAKE_ROOM,
        Limit::StepTime(_) => "allow more with --timeout TIME",
    }
}

/// Digits of an id that are enough to name it.
const SHORT_ID: usize = 12;
const MAKE_ROOM: &str = "free some space (raptor store gc), or choose a store on another disk with --store";

/// What to do if an error came from a full disk. Those of sandboxes and of programs come as texts.
fn disk_full(error: &str) -> Option<String> {
    let full = ["No space left on device", "Disk quota exceeded"];
    full.iter().any(|it| error.contains(it)).then(|| MAKE_ROOM.to_owned())
}

fn fetch_hint(error: &RealizeError) -> Option<String> {
    match error {
        RealizeError::Fetch(error) => error.hint().map(str::to_owned),
        _ => None,
    }
}

/// An error with all that programs said before it.
fn all_said(error: &RealizeError) -> String {
    let (tail, refused) = match error {
        RealizeError::Step { tail, refused, .. } => (tail.as_slice(), refused.as_slice()),
        RealizeError::Network { refused, .. } => (&[][..], refused.as_slice()),
        _ => (&[][..], &[][..]),
    };
    let refused = refused.iter().map(|it| it.reason.clone());
    tail.iter().cloned().chain(refused).chain([with_sources(error)]).collect::<Vec<_>>().join("\n")
}

fn report_failure(ui: &Ui, failure: &Failure, place: Option<&str>) {
    if let Some(place) = place {
        ui.verbatim(place);
    }
    let name = &failure.name;
    let refused = match &failure.error {
        RealizeError::Step { number, text, tail, refused, failure: why, kept } => {
            ui.error(&format!("{name}: step {number} failed: {text}"));
            for line in tail {
                ui.raw(&format!("    | {line}"));
            }
            ui.raw(&format!("  = {why}"));
            if let StepFailure::Limit(limit) = why {
                ui.hint(raise(limit));
            }
            let id: String = failure.id.to_string().chars().take(SHORT_ID).collect();
            ui.hint(&match kept {
                Kept::Yes => format!("raptor shell {id}  looks at the state in which step {number} failed"),
                Kept::No => {
                    "--keep-failed keeps the state in which a step fails, for raptor shell".to_owned()
                }
                Kept::Busy => {
                    "the state is not kept: one of an earlier failure is being looked at".to_owned()
                }
                Kept::Problem(problem) => format!("the state could not be kept: {}", with_sources(problem)),
            });
            refused
        }
        RealizeError::Network { refused, step } => {
            ui.error(&format!("{name}: {}", with_sources(&failure.error)));
            if let Some((number, text)) = step {
                ui.raw(&format!("  = in step {number}: {text}"));
            }
            refused
        }
        error => {
            ui.error(&format!("{name}: {}", with_sources(error)));
            if let RealizeError::Certificate(path) = error {
                ui.hint(&format!("remove {path}, or what a step added to it, in the same layer"));
            }
            return;
        }
    };
    for it in refused {
        ui.raw(&format!("  = refused {} {}: {}", it.method, it.url, it.reason));
    }
    ui.hint(&format!("the whole log: raptor log {}", failure.id));
}

/// An error with everything that caused it, on one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        let more = it.to_string();
        // Wrappers often repeat what they wrap.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = it.source();
    }
    text
}

/// The statement of a failed step, or the one that wanted what failed, as diagnostics are shown.
pub fn failed_statement(
    failure: &Failure,
    provenance: Option<&Provenance>,
    sources: &Sources,
    ui: &Ui,
) -> Option<String> {
    let number = match &failure.error {
        RealizeError::Step { number, .. } => Some(*number),
        RealizeError::Network { step, .. } => step.as_ref().map(|(number, _)| *number),
        _ => None,
    };
    let provenance = provenance?;
    let step = number.and_then(|number| provenance.steps.get(number.checked_sub(1)?));
    let (code, message, (span, stack)) = match (step, &provenance.place) {
        (Some(step), _) => (Code::StepFailed, "this step failed", step),
        (None, Some(place)) => (Code::InputFailed, "what this statement needs could not be had", place),
        (None, None) => return None,
    };
    let problem = Diagnostic::new(code, message, *span, "").with_stack(stack);
    Some(ui.printer(sources).show(&problem))
}
