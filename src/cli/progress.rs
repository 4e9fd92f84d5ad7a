//! Builds as they are watched: what happened is kept, and shown as live lines on a terminal, as plain lines, or as
//! events for programs. Specified in `spec/progress.md`.

mod events;
mod lines;
mod live;
mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::args::MessageFormat;
use super::ui::Ui;
use crate::schedule::{Observer, Progress};
pub use trace::{End, Trace, Work};

/// Watches the builds of one command.
pub struct Watch {
    trace: Mutex<Trace>,
    show: Box<dyn Show>,
}

/// One way to show what happens.
trait Show: Send + Sync {
    /// Something happened; the trace has it already.
    fn event(&self, trace: &mut Trace, event: Progress<'_>);

    /// Nothing more will happen.
    fn end(&self) {}
}

impl Watch {
    /// Shows builds as the options ask for.
    pub fn new(ui: &Arc<Ui>) -> Watch {
        let show: Box<dyn Show> = match ui.live() {
            Some(live) => Box::new(live::Live::new(live)),
            None if ui.format() == MessageFormat::Json => Box::new(events::Events::new(ui.clone())),
            None => Box::new(lines::Lines::new(ui.clone())),
        };
        Watch { trace: Mutex::new(Trace::new()), show }
    }

    /// The build is over, however it ended: nothing is shown of it any more.
    pub fn end(&self) {
        self.trace().end();
        self.show.end();
    }

    /// What happened since the build began.
    pub fn trace(&self) -> MutexGuard<'_, Trace> {
        // A poisoned lock means that a thread panicked while printing; what it left is still good to print.
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watch {
    fn event(&self, event: Progress<'_>) {
        let mut trace = self.trace();
        trace.add(event);
        self.show.event(&mut trace, event);
    }
}

/// Text of others without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first line of a step.
fn first_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default())
}

/// Bytes in words.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
