//! Syntax of `.rapt` files: text → lossless tree → typed statements.
//!
//! [`parse`] never fails: whatever it has no place for is in the tree as an error node, and one bad line
//! costs one diagnostic. Statements come from *rendered* text; trees of *source* text show the templates.

mod dump;
mod hints;
mod json;
pub mod kind;
mod lexer;
mod lower;
mod parser;
mod text;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::diag::Code;

pub use dump::dump;
pub use json::statements_json;
pub use kind::{SyntaxElement, SyntaxKind, SyntaxNode, SyntaxToken};
pub use lower::statements;
pub use parser::{Mode, Parse, parse};

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
    /// Where.
    pub range: Range<usize>,
}

impl SyntaxError {
    fn new(
        code: Code,
        range: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> SyntaxError {
        SyntaxError { code, message: message.into(), label: label.into(), hint: None, range }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> SyntaxError {
        self.hint = Some(hint.into());
        self
    }
}
