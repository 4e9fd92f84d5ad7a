//! Fixes: edits of the source that would solve a problem, for editors and other programs.

use serde::Serialize;

use crate::source::Span;

/// One way to solve a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fix {
    /// How much to trust it.
    pub applicability: Applicability,
    /// What to change, in order and without overlap, all in one file.
    pub edits: Vec<Edit>,
}

/// Puts a text into the place of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// What goes; empty for an insertion.
    pub span: Span,
    /// What comes; empty for a removal.
    pub text: String,
}

/// How much to trust a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applicability {
    /// It says what the file says already, or what can only have been meant; a program may apply it.
    Certain,
    /// It may not be what the author meant; a person should look.
    Guess,
}

impl Fix {
    /// A guess that replaces one place.
    pub fn guess(span: Span, text: impl Into<String>) -> Fix {
        Fix { applicability: Applicability::Guess, edits: vec![Edit { span, text: text.into() }] }
    }

    /// A fix that a program may apply, of one place.
    pub fn certain(span: Span, text: impl Into<String>) -> Fix {
        Fix { applicability: Applicability::Certain, ..Fix::guess(span, text) }
    }
}
