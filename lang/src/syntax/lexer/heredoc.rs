//! Heredocs: `<<EOF` in a RUN or WRITE, and the lines behind the statement up to `EOF`.

use std::ops::Range;

use super::{Lexer, State};
use crate::diag::Code;
use crate::syntax::SyntaxError;
use crate::syntax::kind::SyntaxKind::*;
use crate::syntax::text;

/// A heredoc whose text has not ended.
#[derive(Clone, Debug)]
pub(super) struct Heredoc {
    /// The `<<EOF`.
    range: Range<usize>,
}

impl Lexer<'_> {
    /// Notes the heredoc that begins at the cursor, if there is one before `end`; says where its word ends.
    pub(super) fn heredoc_operator(&mut self, end: usize) -> Option<usize> {
        if !self.at_word_start() {
            return None;
        }
        let operator = text::heredoc_operator(&self.text[self.pos..end])?;
        let rest = &self.text[self.pos + operator.len..];
        let ends = rest.is_empty() || [" ", "\t", "\n", "\r\n"].iter().any(|it| rest.starts_with(it));
        if !ends {
            return None;
        }
        let range = self.pos..self.pos + operator.len;
        self.heredocs.push_back(Heredoc { range: range.clone() });
        Some(range.end)
    }

    /// Lines of a heredoc up to `end`, or up to the line that ends it.
    ///
    /// A template in the last line hides that line: what it will say is known only after rendering.
    pub(super) fn heredoc_text(&mut self, mut at_line_start: bool, end: usize) {
        let text = self.text;
        let operator = self.heredocs.front().and_then(|it| text::heredoc_operator(&text[it.range.clone()]));
        let mut line_start = self.pos;
        while line_start < end {
            let rest = &text[line_start..end];
            let newline = rest.find('\n');
            let whole = newline.is_some() || end == text.len();
            let line = newline.map_or(rest, |len| rest[..len].strip_suffix('\r').unwrap_or(&rest[..len]));
            if at_line_start && whole && operator.as_ref().is_some_and(|it| it.ends_at(line)) {
                self.heredoc_end(line_start, line_start + line.len());
                return;
            }
            at_line_start = newline.is_some();
            line_start = newline.map_or(end, |len| line_start + len + 1);
        }
        if end > self.pos {
            self.leaf(HEREDOC_TEXT, end);
        }
        self.state = State::Heredoc { at_line_start };
    }

    /// The text ends at `start`; the line that ends it reaches to `end`.
    fn heredoc_end(&mut self, start: usize, end: usize) {
        if start > self.pos {
            self.leaf(HEREDOC_TEXT, start);
        }
        self.finish();
        self.leaf(HEREDOC_END, end);
        self.heredocs.pop_front();
        self.state = State::Words;
    }

    /// Reports the first heredoc that has no end.
    pub(super) fn unclosed_heredoc(&mut self) {
        let Some(heredoc) = self.heredocs.pop_front() else { return };
        let operator = &self.text[heredoc.range.clone()];
        let word = text::heredoc_operator(operator).map_or("", |it| it.word);
        self.out.string_errors.push(SyntaxError {
            code: Code::BadHeredoc,
            message: format!("the heredoc `{operator}` is not closed"),
            label: "its text starts behind this line and does not end".into(),
            hint: Some(format!("end it with a line that says `{word}` and nothing else")),
            fix: None,
            range: heredoc.range,
        });
    }
}
