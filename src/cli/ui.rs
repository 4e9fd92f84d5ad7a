//! Talk on stderr: messages, and the progress of builds as live lines on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::args::Global;
use crate::derivation::{Derivation, DrvId};
use crate::schedule::{Observer, Progress};

/// How often live lines are drawn anew.
const TICK: Duration = Duration::from_millis(120);
/// Longest step text on a line, in characters.
const STEP_WIDTH: usize = 60;

/// The one place that writes to stderr.
pub struct Ui {
    level: i32,
    color: bool,
    live: Option<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bars: BTreeMap<DrvId, ProgressBar>,
    fetched: BTreeMap<DrvId, u64>,
    lines: BTreeMap<DrvId, Vec<u8>>,
    total: usize,
    done: usize,
    built: usize,
    names: BTreeMap<DrvId, String>,
}

impl Ui {
    /// Talks as the options ask for.
    pub fn new(global: &Global) -> Ui {
        let terminal = std::io::stderr().is_terminal();
        let level = i32::from(global.verbose) - i32::from(global.quiet);
        Ui {
            level,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            live: (terminal && level == 0).then(MultiProgress::new),
            state: Mutex::default(),
        }
    }

    /// Whether messages are coloured.
    pub fn color(&self) -> bool {
        self.color
    }

    /// An error; never suppressed.
    pub fn error(&self, message: &str) {
        self.message("error", "31", message);
    }

    /// A warning.
    pub fn warning(&self, message: &str) {
        if self.level > -2 {
            self.message("warning", "33", message);
        }
    }

    /// What to do about an error.
    pub fn hint(&self, message: &str) {
        self.message("help", "36", message);
    }

    /// A note, unless `-q`.
    pub fn info(&self, message: &str) {
        if self.level >= 0 {
            self.raw(message);
        }
    }

    /// A detail, only with `-v`.
    pub fn detail(&self, message: &str) {
        if self.level > 0 {
            self.raw(message);
        }
    }

    /// Text as it is.
    pub fn raw(&self, text: &str) {
        let write = || {
            // A closed stderr is no reason to fail.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }

    /// A line that is replaced while something without derivation goes on.
    pub fn busy(&self, message: &str) -> ProgressBar {
        match &self.live {
            Some(live) => {
                let bar = live.add(ProgressBar::new_spinner());
                bar.set_message(message.to_owned());
                bar.enable_steady_tick(TICK);
                bar
            }
            None => {
                self.info(message);
                ProgressBar::hidden()
            }
        }
    }

    fn message(&self, kind: &str, color: &str, message: &str) {
        match self.color {
            true => self.raw(&format!("\x1b[1;{color}m{kind}\x1b[0m: {message}")),
            false => self.raw(&format!("{kind}: {message}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a thread panicked while printing; what it left is still good to print.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counter(&self, state: &State) -> String {
        format!("[{}/{}]", state.done, state.total)
    }

    fn print_output(&self, id: DrvId, bytes: &[u8]) {
        let mut state = self.state();
        let name = state.names.get(&id).cloned().unwrap_or_default();
        let line = state.lines.entry(id).or_default();
        line.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while let Some(end) = line.iter().position(|&b| b == b'\n') {
            whole
                .push(String::from_utf8_lossy(&line.drain(..=end).collect::<Vec<_>>()).trim_end().to_owned());
        }
        drop(state);
        for text in whole {
            self.raw(&format!("{name}| {text}"));
        }
    }
}

impl Observer for Ui {
    fn event(&self, event: Progress<'_>) {
        match event {
            Progress::Planned { total } => {
                let mut state = self.state();
                *state = State { total, ..State::default() };
            }
            Progress::Started { id, derivation } => {
                let mut state = self.state();
                state.names.insert(id, derivation.name().to_owned());
                // Importing a project file is too quick to talk about.
                if matches!(derivation, Derivation::Source(_)) {
                    return;
                }
                match &self.live {
                    Some(live) => {
                        let bar = live.add(ProgressBar::new_spinner());
                        if let Ok(style) =
                            ProgressStyle::with_template("{spinner} {prefix:.bold} {wide_msg} {elapsed}")
                        {
                            bar.set_style(style);
                        }
                        bar.set_prefix(derivation.name().to_owned());
                        bar.enable_steady_tick(TICK);
                        state.bars.insert(id, bar);
                    }
                    None if self.level >= 0 => {
                        let line = format!("{} building {}", self.counter(&state), derivation.name());
                        drop(state);
                        self.raw(&line);
                    }
                    None => {}
                }
            }
            Progress::Step { id, number, of, text } => {
                let state = self.state();
                let name = state.names.get(&id).cloned().unwrap_or_default();
                let first = text.lines().next().unwrap_or_default();
                match state.bars.get(&id) {
                    Some(bar) => {
                        let short: String = first.chars().take(STEP_WIDTH).collect();
                        bar.set_message(format!("{number}/{of} {short}"));
                    }
                    None if self.level >= 0 => {
                        drop(state);
                        self.raw(&format!("{name}: {number}/{of} {first}"));
                    }
                    None => {}
                }
            }
            Progress::Output { id, bytes } => {
                if self.level > 0 {
                    self.print_output(id, bytes);
                }
            }
            Progress::Fetched { id, bytes, total } => {
                let mut state = self.state();
                if let Some(bar) = state.bars.get(&id) {
                    bar.set_message(match total {
                        Some(total) => format!("fetching {} of {}", megabytes(bytes), megabytes(total)),
                        None => format!("fetching {}", megabytes(bytes)),
                    });
                } else if self.level >= 0
                    && let Some(total) = total
                {
                    // A line for every quarter is enough where lines stay.
                    let quarter = bytes.saturating_mul(4) / total.max(1);
                    if state.fetched.insert(id, quarter).unwrap_or(0) < quarter {
                        let name = state.names.get(&id).cloned().unwrap_or_default();
                        drop(state);
                        self.raw(&format!("{name}: fetched {} of {}", megabytes(bytes), megabytes(total)));
                    }
                }
            }
            Progress::Done { id, derivation, reused, millis } => {
                let mut state = self.state();
                state.done += 1;
                if let Some(bar) = state.bars.remove(&id) {
                    bar.finish_and_clear();
                }
                if reused || matches!(derivation, Derivation::Source(_)) {
                    let line = format!("{} reused {}", self.counter(&state), derivation.name());
                    drop(state);
                    self.detail(&line);
                } else {
                    state.built += 1;
                    let seconds = Duration::from_millis(millis).as_secs_f64();
                    let line =
                        format!("{} built {} in {seconds:.1} s", self.counter(&state), derivation.name());
                    drop(state);
                    self.info(&line);
                }
            }
            Progress::Failed { id, derivation } => {
                if let Some(bar) = self.state().bars.remove(&id) {
                    bar.finish_and_clear();
                }
                // The reasons come at the end, which others may keep waiting.
                self.info(&format!("failed {}", derivation.name()));
            }
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
