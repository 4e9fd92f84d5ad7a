//! Talk on stderr: messages, and the progress of builds as live lines on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use raptor_lang::source::Sources;
use serde_json::json;

use super::args::{Global, MessageFormat};
use super::diagnostics::Printer;
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
    format: MessageFormat,
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
            color: global.message_format != MessageFormat::Json && wants_color(terminal),
            format: global.message_format,
            live: (terminal && level == 0 && global.message_format != MessageFormat::Json)
                .then(MultiProgress::new),
            state: Mutex::default(),
        }
    }

    /// Shows diagnostics over these files as the options ask for.
    pub fn printer<'a>(&self, sources: &'a Sources) -> Printer<'a> {
        Printer::new(sources, self.format, self.color)
    }

    /// An error; never suppressed.
    pub fn error(&self, message: &str) {
        self.message("error", Some("31"), message);
    }

    /// A warning.
    pub fn warning(&self, message: &str) {
        if self.level > -2 {
            self.message("warning", Some("33"), message);
        }
    }

    /// What to do about an error.
    pub fn hint(&self, message: &str) {
        self.message("help", Some("36"), message);
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

    /// A line of talk without a level of its own.
    pub fn raw(&self, text: &str) {
        self.message("info", None, text);
    }

    /// Text that has the wanted format already.
    pub fn verbatim(&self, text: &str) {
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

    /// Something to say; kinds with a colour stand before the text.
    fn message(&self, kind: &str, color: Option<&str>, message: &str) {
        match (self.format, color) {
            (MessageFormat::Json, _) => {
                self.verbatim(&json!({ "type": "message", "level": kind, "message": message }).to_string());
            }
            (_, Some(color)) if self.color => {
                self.verbatim(&format!("\x1b[1;{color}m{kind}\x1b[0m: {message}"));
            }
            (_, Some(_)) => self.verbatim(&format!("{kind}: {message}")),
            (_, None) => self.verbatim(message),
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
                        let doing = if is_download(derivation) { "fetching" } else { "building" };
                        let line = format!("{} {doing} {}", self.counter(&state), derivation.name());
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
                    let did = if is_download(derivation) { "fetched" } else { "built" };
                    let line =
                        format!("{} {did} {} in {seconds:.1} s", self.counter(&state), derivation.name());
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

/// Colour is for terminals; NO_COLOR takes it away, and CLICOLOR_FORCE gives it to anything.
fn wants_color(terminal: bool) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    let is_zero = |name: &str| std::env::var_os(name).is_some_and(|it| it == "0");
    match is_set("NO_COLOR") {
        true => false,
        false if is_set("CLICOLOR_FORCE") && !is_zero("CLICOLOR_FORCE") => true,
        false => terminal && !is_zero("CLICOLOR"),
    }
}

fn is_download(derivation: &Derivation) -> bool {
    matches!(derivation, Derivation::Fetch(_))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
