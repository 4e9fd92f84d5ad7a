//! The tree as text, for `raptor parse --tree` and for tests.

use std::fmt::Write;

use rowan::{NodeOrToken, WalkEvent};

use super::kind::SyntaxNode;

/// One line for every node and token, `KIND@start..end "text"`, children indented by two blanks.
pub fn dump(node: &SyntaxNode) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for event in node.preorder_with_tokens() {
        let WalkEvent::Enter(element) = event else {
            depth -= 1;
            continue;
        };
        let range = element.text_range();
        let (start, end) = (u32::from(range.start()), u32::from(range.end()));
        // Writing to a string cannot fail.
        let _ = write!(out, "{:width$}{:?}@{start}..{end}", "", element.kind(), width = 2 * depth);
        if let NodeOrToken::Token(token) = &element {
            let _ = write!(out, " {:?}", token.text());
        }
        out.push('\n');
        depth += 1;
    }
    out
}
