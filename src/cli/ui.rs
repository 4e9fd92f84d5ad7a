//! Talk on stderr: messages and the lines below which they appear.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};
use raptor_lang::source::Sources;
use serde_json::{Value, json};

use super::args::{Global, MessageFormat};
use super::diagnostics::Printer;

/// How often live lines are drawn anew.
pub const TICK: Duration = Duration::from_millis(120);

/// The one place that writes to stderr.
pub struct Ui {
    level: i32,
    color: bool,
    format: MessageFormat,
    live: Option<MultiProgress>,
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
        }
    }

    /// Shows diagnostics over these files as the options ask for.
    pub fn printer<'a>(&self, sources: &'a Sources) -> Printer<'a> {
        Printer::new(sources, self.format, self.color)
    }

    /// How things are told.
    pub fn format(&self) -> MessageFormat {
        self.format
    }

    /// Live lines, if there is a terminal for them.
    pub fn live(&self) -> Option<&MultiProgress> {
        self.live.as_ref()
    }

    /// Whether `-v` asks for details.
    pub fn is_verbose(&self) -> bool {
        self.level > 0
    }

    /// Whether `-q` asks for silence.
    pub fn is_quiet(&self) -> bool {
        self.level < 0
    }

    /// Something for programs, unless `-q`.
    pub fn event(&self, event: &Value) {
        if !self.is_quiet() {
            self.verbatim(&event.to_string());
        }
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
        if !self.is_quiet() {
            self.raw(message);
        }
    }

    /// A detail, only with `-v`.
    pub fn detail(&self, message: &str) {
        if self.is_verbose() {
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
