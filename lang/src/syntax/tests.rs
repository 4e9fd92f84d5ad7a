//! Tests of the syntax stage: trees as snapshots, and properties. What texts mean is in `tests/lang` of the project.

mod ast;
mod properties;
mod reparse;
mod sections;
mod snapshots;

use super::*;
use crate::diag::Diagnostic;
use crate::source::{FileId, Span};
use crate::stmt::Statement;

fn span(range: Range<usize>) -> Span {
    Span::new(FileId(0), range.start, range.end)
}

/// Statements of a rendered text.
fn read(text: &str) -> (Vec<Statement>, Vec<Diagnostic>) {
    statements(&parse(text, Mode::Rendered), &span)
}

/// Parses in both modes and checks what must hold for every text.
fn check_invariants(text: &str) {
    for mode in [Mode::Source, Mode::Rendered] {
        let parse = parse(text, mode);
        let tree = parse.syntax();
        assert_eq!(tree.text().to_string(), text, "the tree of {mode:?} is not lossless");
        for error in &parse.errors {
            assert!(text.get(error.range.clone()).is_some(), "range outside of the text: {error:?}");
        }
        assert!(parse.errors.is_sorted_by_key(|error| error.range.start));
        let clear = parse.statements().filter(|node| node.is_clear()).count();
        let (statements, diagnostics) = statements(&parse, &span);
        assert_eq!(statements.len(), clear, "a clear line gave no statement, {mode:?}, {text:?}");
        assert_eq!(diagnostics.len(), parse.errors.len());
        let _ = statements_json(&statements);
    }
}
