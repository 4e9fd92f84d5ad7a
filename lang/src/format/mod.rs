//! The formatter: a source text, laid out as `spec/format.md` has it.
//!
//! Only whitespace changes, and only where no value of a template can make it count: the statements, and
//! what is wrong with them, stay the same. Works on the lossless tree of the source text.

mod columns;
mod layout;
mod lines;
mod rows;
mod tags;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use crate::syntax::{self, Mode, parse};

/// A formatted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The text; it ends with a newline, unless it is empty.
    pub text: String,
    /// What stays as it is for a reason that its author should know.
    pub kept: Vec<Kept>,
}

/// A part of a text that cannot be formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of the given text.
    pub range: Range<usize>,
    /// Why, without a full stop.
    pub reason: String,
}

/// Formats a source text, whatever it is.
pub fn format(text: &str) -> Formatted {
    // Rendering adds the newline, too, so it changes nothing.
    let text = match text {
        "" => Cow::Borrowed(text),
        _ if text.ends_with('\n') => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{text}\n")),
    };
    // At the start of a rendered text it would be something else, and moving text may get it there.
    if let Some(at) = text.char_indices().skip(1).find(|(_, c)| *c == '\u{feff}').map(|(at, _)| at) {
        let reason = "a byte order mark inside of the text, so the whole file stays as it is".to_owned();
        return Formatted { text: text.into_owned(), kept: vec![Kept { range: at..at + 3, reason }] };
    }
    if let Some(range) = continuation_into_template(&text) {
        let reason = "a continuation ends in front of a template, and lines end in CR LF, so the whole file stays as it is";
        return Formatted { text: text.into_owned(), kept: vec![Kept { range, reason: reason.to_owned() }] };
    }
    let parse = parse(&text, Mode::Source);
    let lines = lines::lines(&text, &parse);
    if let Some(obstacle) = lines::obstacle(&lines) {
        return Formatted { text: text.into_owned(), kept: vec![obstacle] };
    }
    let mut kept = Vec::new();
    for error in &parse.errors {
        if error.code.severity() == crate::diag::Severity::Error {
            kept.push(Kept { range: error.range.clone(), reason: error.message.clone() });
        }
    }
    let formatted = layout::layout(&lines);
    // Sections that close in another order than they open can hide from one pass what the next one sees.
    if layout::layout(&lines::lines(&formatted, &syntax::parse(&formatted, Mode::Source))) != formatted {
        let reason = "its template sections cross each other, so the whole file stays as it is".to_owned();
        kept.push(Kept { range: 0..0, reason });
        return Formatted { text: text.into_owned(), kept };
    }
    Formatted { text: formatted, kept }
}

/// The end of a line that goes on behind a tag, in a text with CR LF. A line statement takes in only the CR behind it,
/// so in a loop an empty line may end what the last round continued.
fn continuation_into_template(text: &str) -> Option<Range<usize>> {
    if !text.contains("\r\n") {
        return None;
    }
    let mut end = 0;
    text.split('\n').zip(text.split('\n').skip(1)).find_map(|(line, next)| {
        end += line.len() + 1;
        let next = next.trim_start();
        let continues = line.trim_end_matches('\r').ends_with('\\');
        (continues && (next.starts_with("$ ") || next.starts_with("{%"))).then(|| end - 1..end)
    })
}
