//! Templates: what a tag does to the text around it, and the blanks inside of it.

use rowan::NodeOrToken;

use crate::syntax::SyntaxKind::{self, *};
use crate::syntax::{SyntaxNode, SyntaxToken};

/// What a template does where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Writes nothing, or nothing that ends here.
    Silent,
    /// May write any text.
    Writes,
    /// Begins a block; one that captures hands its text to code, where every blank may count.
    Open { captures: bool },
    /// Begins another branch of a block.
    Middle,
    /// Ends a block.
    Close,
    /// Goes on elsewhere.
    Jump,
}

impl Role {
    /// What the template `node` does.
    pub(super) fn of(node: &SyntaxNode) -> Role {
        match node.kind() {
            TEMPLATE_EXPR => return Role::Writes,
            TEMPLATE_COMMENT => return Role::Silent,
            _ => {}
        }
        let tokens: Vec<_> = tokens(node).collect();
        let mut names = tokens.iter().filter(|token| token.kind() == TEMPLATE_NAME);
        match names.next().map_or("", |token| token.text()) {
            "if" | "with" | "autoescape" => Role::Open { captures: false },
            // The text of a recursive loop is the value of `loop(…)`.
            "for" => Role::Open { captures: names.any(|token| token.text() == "recursive") },
            "set" if assigns(&tokens) => Role::Silent,
            // Another template may put the text of a block anywhere.
            "set" | "macro" | "call" | "filter" | "block" | "raw" => Role::Open { captures: true },
            "elif" | "else" => Role::Middle,
            "do" | "import" | "from" | "extends" => Role::Silent,
            "break" | "continue" => Role::Jump,
            name if name.starts_with("end") => Role::Close,
            _ => Role::Writes,
        }
    }
}

/// The template with tidy blanks; only blanks between its tokens change. A line statement keeps its newline.
pub(super) fn tidy(node: &SyntaxNode) -> String {
    let raw = || node.text().to_string();
    let mut tokens: Vec<_> = tokens(node).collect();
    let Some(open) = tokens.first().cloned() else { return raw() };
    let last = tokens.last().map(SyntaxToken::kind);
    let is_line = node.kind() == LINE_STATEMENT;
    let end = match (last, is_line) {
        (Some(TEMPLATE_CLOSE), false) | (Some(NEWLINE), true) => tokens.pop(),
        (_, true) => None,
        _ => return raw(),
    };
    let inner = tokens.get(1..).unwrap_or_default();
    let is_strange = |token: &SyntaxToken| match token.kind() {
        // Whoever breaks a line inside of a tag has a layout in mind.
        WHITESPACE => !token.text().chars().all(|c| matches!(c, ' ' | '\t')),
        kind => matches!(kind, TEMPLATE_ERROR | TEMPLATE_TEXT),
    };
    if inner.iter().any(is_strange) || inner.iter().all(|token| token.kind() == WHITESPACE) {
        return raw();
    }
    let mut text = open.text().trim_end().to_owned();
    text.push(' ');
    let mut depth = 0usize;
    let mut before: Option<(SyntaxKind, String)> = None;
    let mut blank = false;
    for token in inner {
        if token.kind() == WHITESPACE {
            blank = true;
            continue;
        }
        let wants = |kind: SyntaxKind, raw: &str| {
            let assigns = raw == "=" && depth == 0 && node.kind() != TEMPLATE_EXPR;
            kind == TEMPLATE_OPERATOR && (assigns || is_binary(raw))
        };
        let after_comma =
            before.as_ref().is_some_and(|(_, raw)| raw == ",") && !matches!(token.text(), ")" | "]" | "}");
        let around =
            wants(token.kind(), token.text()) || before.as_ref().is_some_and(|(kind, raw)| wants(*kind, raw));
        if before.is_some() && (blank || after_comma || around) {
            text.push(' ');
        }
        text.push_str(token.text());
        match token.text() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = Some((token.kind(), token.text().to_owned()));
        blank = false;
    }
    match end {
        Some(_) if is_line => text.push('\n'),
        Some(close) => {
            text.push(' ');
            text.push_str(close.text());
        }
        None => {}
    }
    text
}

/// Operators that are never a sign, nor a part of a number or of a name.
fn is_binary(operator: &str) -> bool {
    matches!(operator, "==" | "!=" | "<=" | ">=" | "<" | ">" | "~")
}

/// Whether a `=` stands outside of all brackets.
fn assigns(tokens: &[SyntaxToken]) -> bool {
    let mut depth = 0i32;
    tokens.iter().filter(|token| token.kind() == TEMPLATE_OPERATOR).any(|token| {
        match token.text() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token.text() == "="
    })
}

fn tokens(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> {
    node.children_with_tokens().filter_map(NodeOrToken::into_token)
}
