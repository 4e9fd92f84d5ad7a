//! Syntax of `.rapt` files: text → lossless tree → typed statements.
//!
//! [`parse`] never fails: whatever it has no place for is in the tree as an error node, and one bad line
//! costs one diagnostic. Statements come from *rendered* text; trees of *source* text show the templates.

pub mod ast;
mod dump;
mod flat;
mod green;
mod hints;
mod json;
pub mod kind;
mod lexer;
mod lower;
mod parser;
mod reparse;
mod sections;
mod text;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::diag::{Applicability, Code};

use hints::Advice;

pub use dump::dump;
pub use json::statements_json;
pub use kind::{SyntaxElement, SyntaxKind, SyntaxNode, SyntaxToken};
pub use lower::statements;
pub use parser::{Mode, Parse, parse};
pub use reparse::TextEdit;

/// Something wrong with the text; offsets are bytes of the parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Which kind of problem; warnings too.
    pub code: Code,
    /// One line, no full stop.
    pub message: String,
    /// Remark for the place.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The same as an edit of the text, where it is mechanical.
    pub fix: Option<SyntaxFix>,
    /// Where.
    pub range: Range<usize>,
}

/// A fix of parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxFix {
    /// How much to trust it.
    pub applicability: Applicability,
    /// Ranges and what comes into their place, in order.
    pub edits: Vec<(Range<usize>, String)>,
}

impl SyntaxError {
    fn new(
        code: Code,
        range: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> SyntaxError {
        SyntaxError { code, message: message.into(), label: label.into(), hint: None, fix: None, range }
    }

    /// Advice for all of the range.
    fn with_advice(mut self, advice: Advice) -> SyntaxError {
        let range = self.range.clone();
        self.hint = Some(advice.hint);
        match advice.instead {
            Some(instead) => self.with_guess([(range, instead)]),
            None => self,
        }
    }

    /// A fix that may not be what the author meant.
    fn with_guess(mut self, edits: impl Into<Vec<(Range<usize>, String)>>) -> SyntaxError {
        self.fix = Some(SyntaxFix { applicability: Applicability::Guess, edits: edits.into() });
        self
    }

    /// A fix that says what the text says already.
    fn with_rewrite(mut self, text: String) -> SyntaxError {
        let edits = vec![(self.range.clone(), text)];
        self.fix = Some(SyntaxFix { applicability: Applicability::Certain, edits });
        self
    }

    fn with_hint(mut self, hint: impl Into<String>) -> SyntaxError {
        self.hint = Some(hint.into());
        self
    }
}
