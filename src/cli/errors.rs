//! Errors of commands: message, hint and exit code, in one place.

use raptor_lang::diag::Diagnostic;
use raptor_lang::source::Sources;

use super::ui::Ui;
use crate::eval::Provenance;
use crate::fetch::debian;
use crate::lock::LockError;
use crate::schedule::{Failure, RealizeError};
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
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The lock failed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A Debian base could not be pinned.
    #[error("cannot pin debian://{reference}: {error}")]
    Pin {
        /// Text after `debian://`.
        reference: String,
        /// Why.
        error: Box<debian::Error>,
    },
    /// A sandbox failed outside a build.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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
    /// Exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Prints the error.
    pub fn report(&self, ui: &Ui) {
        if let CliError::Failed { failures, places } = self {
            for (failure, place) in failures.iter().zip(places) {
                report_failure(ui, failure, place.as_deref());
            }
        } else {
            ui.error(&with_sources(self));
        }
        if let Some(hint) = self.hint() {
            ui.hint(hint);
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            CliError::Store(store::Error::Io(err)) | CliError::Io(err)
                if err.kind() == std::io::ErrorKind::StorageFull =>
            {
                Some("free some space, or choose a store on another disk with --store")
            }
            _ => None,
        }
    }
}

fn report_failure(ui: &Ui, failure: &Failure, place: Option<&str>) {
    if let Some(place) = place {
        ui.raw(place);
    }
    let name = &failure.name;
    let refused = match &failure.error {
        RealizeError::Step { number, text, tail, refused, failure } => {
            ui.error(&format!("{name}: step {number} failed: {text}"));
            for line in tail {
                ui.raw(&format!("    | {line}"));
            }
            ui.raw(&format!("  = {failure}"));
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

/// The statement of a failed step.
pub fn failed_statement(
    failure: &Failure,
    provenance: Option<&Provenance>,
    sources: &Sources,
    color: bool,
) -> Option<String> {
    let number = match &failure.error {
        RealizeError::Step { number, .. } => *number,
        RealizeError::Network { step: Some((number, _)), .. } => *number,
        _ => return None,
    };
    let (span, stack) = provenance?.steps.get(number.checked_sub(1)?)?;
    let code = raptor_lang::diag::Code::StepFailed;
    let mut problem = Diagnostic::new(code, "this step failed", *span, "");
    problem.stack = stack.clone();
    Some(super::diagnostics::render(&problem, sources, color))
}
