//! Text → pieces: lossless, total and linear.
//!
//! A piece is what the parser looks at: one token, or a group of tokens (string, comment, template). In
//! source text the templates are cut out first, as minijinja does it, so a string or a comment goes on
//! after a template; rendered text has no templates.

mod heredoc;
mod template;
mod words;

use std::collections::VecDeque;
use std::ops::Range;

use super::SyntaxError;
use super::flat::{Event, Flat, Piece, Role};
use super::kind::SyntaxKind::{self, *};
use super::parser::Mode;
use crate::diag::Code;
use heredoc::Heredoc;
use words::{StringToken, is_word_char, string_token, word_token};

/// The whole text in pieces.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// The pieces; no nodes yet.
    pub flat: Flat,
    /// What is wrong with strings and heredocs, in order.
    pub string_errors: Vec<SyntaxError>,
    /// What is wrong with templates, in order.
    pub template_errors: Vec<SyntaxError>,
}

/// Cuts a text into pieces, from `start` on, where a line begins.
pub(super) fn lex(text: &str, start: usize, mode: Mode) -> Lexed {
    let mut out = Lexed::default();
    out.flat.start = start as u32;
    out.flat.pieces.reserve((text.len() - start) / 4);
    let mut lexer = Lexer {
        text,
        pos: start,
        depth: 0,
        state: State::Words,
        line: Line::Start,
        heredocs: VecDeque::new(),
        out,
    };
    if start == 0 && text.starts_with('\u{feff}') {
        lexer.leaf(WHITESPACE, '\u{feff}'.len_utf8());
    }
    match mode {
        Mode::Rendered => lexer.data(text.len()),
        Mode::Source => lexer.source(),
    }
    lexer.end_of_text();
    lexer.out
}

/// What the next byte of ordinary text belongs to.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Words,
    String { start: usize },
    Comment,
    Heredoc { at_line_start: bool },
}

/// What the words read so far say about the current statement.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    /// No word yet.
    Start,
    /// It is an instruction that takes heredocs.
    Heredocs,
    /// It is another one.
    Other,
}

impl Line {
    fn after_word(self) -> Line {
        if self == Line::Start { Line::Other } else { self }
    }
}

struct Lexer<'a> {
    text: &'a str,
    /// End of the last token.
    pos: usize,
    /// Open groups.
    depth: usize,
    state: State,
    line: Line,
    /// Heredocs of the current statement whose text has not ended; in the order of the text.
    heredocs: VecDeque<Heredoc>,
    out: Lexed,
}

impl Lexer<'_> {
    fn leaf(&mut self, kind: SyntaxKind, end: usize) {
        debug_assert!(end > self.pos, "empty token at {end}");
        if self.depth == 0 {
            self.piece(kind, end);
        } else {
            self.out.flat.events.push(Event::Leaf(kind, end as u32));
        }
        self.pos = end;
    }

    fn piece(&mut self, kind: SyntaxKind, end: usize) {
        let event = self.out.flat.events.len() as u32;
        let role = Role::of(kind);
        self.out.flat.pieces.push(Piece { end: end as u32, event, kind, role, templated: false });
    }

    fn start(&mut self, kind: SyntaxKind) {
        if self.depth == 0 {
            self.piece(kind, self.pos);
        }
        if let Some(piece) = self.out.flat.pieces.last_mut() {
            piece.templated |= kind.is_template();
        }
        if kind == TEMPLATE_EXPR {
            self.line = self.line.after_word();
            if let State::Heredoc { at_line_start } = &mut self.state {
                *at_line_start = false;
            }
        }
        self.out.flat.events.push(Event::Start(kind));
        self.depth += 1;
    }

    fn finish(&mut self) {
        self.out.flat.events.push(Event::Finish);
        self.depth -= 1;
        if self.depth == 0
            && let Some(piece) = self.out.flat.pieces.last_mut()
        {
            piece.end = self.pos as u32;
        }
    }

    /// Whitespace that a template removes: it never ends a line.
    fn stripped(&mut self, end: usize) {
        if end > self.pos {
            self.leaf(STRIPPED, end);
        }
    }

    /// Ordinary text up to `end`. A string or comment may go on behind it, after a template.
    fn data(&mut self, end: usize) {
        let after_expr = self.out.flat.pieces.last().is_some_and(|piece| piece.kind == TEMPLATE_EXPR);
        if after_expr && self.state == State::Words && self.text[self.pos..end].starts_with('#') {
            // Most values render to a bareword, and inside one `#` is a character like any other.
            let word = self.text[self.pos..end].find(|c| !is_word_char(c) || c == '\r');
            self.leaf(OPERATOR, word.map_or(end, |len| self.pos + len));
        }
        while self.pos < end {
            match self.state {
                State::Words => self.words(end),
                State::String { start } => self.string(start, end),
                State::Comment => self.comment(end),
                State::Heredoc { at_line_start } => self.heredoc_text(at_line_start, end),
            }
        }
    }

    fn words(&mut self, end: usize) {
        let text = &self.text[..end];
        while self.pos < end {
            let (mut kind, mut token_end) = word_token(text.as_bytes(), self.pos);
            let raw = &text[self.pos..token_end];
            match kind {
                WHITESPACE => {
                    self.leaf(WHITESPACE, token_end);
                    continue;
                }
                NEWLINE => {
                    self.leaf(NEWLINE, token_end);
                    self.line = Line::Start;
                    if self.heredocs.is_empty() {
                        continue;
                    }
                    self.start(HEREDOC_BODY);
                    self.state = State::Heredoc { at_line_start: true };
                    return;
                }
                COMMENT => {
                    self.state = State::Comment;
                    self.start(COMMENT);
                    return;
                }
                QUOTE => {
                    self.line = self.line.after_word();
                    self.state = State::String { start: self.pos };
                    self.start(STRING);
                    self.leaf(QUOTE, token_end);
                    return;
                }
                BAREWORD => {
                    kind = match raw {
                        "true" => TRUE,
                        "false" => FALSE,
                        _ => BAREWORD,
                    };
                    if self.line == Line::Start && matches!(raw, "RUN" | "WRITE") && self.at_word_start() {
                        self.line = Line::Heredocs;
                    }
                }
                // The older Raptor adds a newline to every text, so this one is a continuation.
                OPERATOR if raw == "\\" && token_end == self.text.len() => kind = WHITESPACE,
                OPERATOR if self.line == Line::Heredocs && raw.starts_with("<<") => {
                    if let Some(heredoc_end) = self.heredoc_operator(end) {
                        (kind, token_end) = (HEREDOC, heredoc_end);
                    }
                }
                _ => {}
            }
            self.line = self.line.after_word();
            self.leaf(kind, token_end);
        }
    }

    /// Whether no word has begun at the end of what is read.
    fn at_word_start(&self) -> bool {
        let before = self.out.flat.pieces.last().map(|piece| piece.kind);
        before.is_none_or(|kind| {
            let is_blank = matches!(kind, WHITESPACE | STRIPPED | NEWLINE);
            is_blank || matches!(kind, TEMPLATE_BLOCK | TEMPLATE_COMMENT | LINE_STATEMENT)
        })
    }

    fn string(&mut self, start: usize, end: usize) {
        let text = &self.text[..end];
        while self.pos < end {
            let (token, token_end) = string_token(text, self.pos);
            match token {
                StringToken::Quote => {
                    self.leaf(QUOTE, token_end);
                    self.finish();
                    self.state = State::Words;
                    return;
                }
                StringToken::Newline => {
                    self.unterminated(start);
                    return;
                }
                StringToken::Escape => self.leaf(ESCAPE, token_end),
                StringToken::BadEscape => {
                    self.bad_escape(self.pos..token_end);
                    self.leaf(ESCAPE, token_end);
                }
                StringToken::Text => self.leaf(STRING_TEXT, token_end),
            }
        }
    }

    fn bad_escape(&mut self, range: Range<usize>) {
        let escape = &self.text[range.clone()];
        let hint = format!("for a backslash write `\\{escape}`; the escapes are \\n, \\t, \\\" and \\\\");
        let start = range.start;
        let message = format!("unsupported escape `{escape}` in a string");
        let error = SyntaxError::new(Code::BadEscape, range, message, "not an escape")
            .with_hint(hint)
            .with_guess([(start..start, "\\".to_owned())]);
        self.out.string_errors.push(error);
    }

    fn comment(&mut self, end: usize) {
        let line = self.text[self.pos..end].find('\n');
        let mut stop = line.map_or(end, |len| self.pos + len);
        if line.is_some() && self.text[self.pos..stop].ends_with('\r') {
            stop -= 1;
        }
        if stop > self.pos {
            self.leaf(COMMENT_TEXT, stop);
        }
        if line.is_some() {
            self.finish();
            self.state = State::Words;
        }
    }

    fn unterminated(&mut self, start: usize) {
        let error = SyntaxError::new(
            Code::UnterminatedString,
            start..self.pos,
            "unterminated string",
            "the string starts here and does not end on its line",
        )
        .with_hint("close it with `\"`, or write `\\\"` for a quote that belongs to it")
        .with_guess([(self.pos..self.pos, "\"".to_owned())]);
        self.out.string_errors.push(error);
        self.finish();
        self.state = State::Words;
    }

    fn end_of_text(&mut self) {
        match self.state {
            State::Words => {}
            State::String { start } => self.unterminated(start),
            State::Comment => self.finish(),
            State::Heredoc { .. } => self.finish(),
        }
        self.unclosed_heredoc();
    }
}
