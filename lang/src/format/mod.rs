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
