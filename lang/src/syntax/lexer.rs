//! Text → pieces: lossless, total and linear.
//!
//! A piece is what the parser looks at: one token, or a group of tokens (string, comment, template). In
//! source text the templates are cut out first, as minijinja does it, so a string or a comment goes on
//! after a template; rendered text has no templates.

mod template;
mod words;

use std::ops::Range;

use logos::Logos;

use super::SyntaxError;
use super::kind::SyntaxKind::{self, *};
use super::parser::Mode;
use crate::diag::Code;
use words::{StringToken, WordToken, is_word_char};

/// How the leaves of the tree follow each other inside one piece.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A group begins.
    Start(SyntaxKind),
    /// One token; it ends at this offset.
    Leaf(SyntaxKind, usize),
    /// The innermost group ends.
    Finish,
}

/// One token or group.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Kind of the token or of the group.
    pub kind: SyntaxKind,
    /// Bytes of the text.
    pub range: Range<usize>,
    /// Its part of [`Lexed::events`].
    pub events: Range<usize>,
    /// Whether there is a template in it.
    pub templated: bool,
}

/// The whole text in pieces.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// They cover the text without gaps.
    pub pieces: Vec<Piece>,
    /// Trees of the pieces.
    pub events: Vec<Event>,
    /// What is wrong with strings, in order.
    pub string_errors: Vec<SyntaxError>,
    /// What is wrong with templates, in order.
    pub template_errors: Vec<SyntaxError>,
}

/// Cuts a text into pieces.
pub(super) fn lex(text: &str, mode: Mode) -> Lexed {
    let mut lexer = Lexer { text, pos: 0, depth: 0, state: State::Words, out: Lexed::default() };
    if text.starts_with('\u{feff}') {
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
}

struct Lexer<'a> {
    text: &'a str,
    /// End of the last token.
    pos: usize,
    /// Open groups.
    depth: usize,
    state: State,
    out: Lexed,
}

impl Lexer<'_> {
    fn leaf(&mut self, kind: SyntaxKind, end: usize) {
        debug_assert!(end > self.pos, "empty token at {end}");
        if self.depth == 0 {
            let events = self.out.events.len()..self.out.events.len() + 1;
            self.out.pieces.push(Piece { kind, range: self.pos..end, events, templated: false });
        }
        self.out.events.push(Event::Leaf(kind, end));
        self.pos = end;
    }

    fn start(&mut self, kind: SyntaxKind) {
        if self.depth == 0 {
            let events = self.out.events.len()..self.out.events.len();
            self.out.pieces.push(Piece { kind, range: self.pos..self.pos, events, templated: false });
        }
        if let Some(piece) = self.out.pieces.last_mut() {
            piece.templated |= kind.is_template();
        }
        self.out.events.push(Event::Start(kind));
        self.depth += 1;
    }

    fn finish(&mut self) {
        self.out.events.push(Event::Finish);
        self.depth -= 1;
        if self.depth == 0
            && let Some(piece) = self.out.pieces.last_mut()
        {
            piece.range.end = self.pos;
            piece.events.end = self.out.events.len();
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
        let after_expr = self.out.pieces.last().is_some_and(|piece| piece.kind == TEMPLATE_EXPR);
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
            }
        }
    }

    fn words(&mut self, end: usize) {
        let text = self.text;
        let base = self.pos;
        let mut tokens = WordToken::lexer(&text[base..end]);
        while let Some(token) = tokens.next() {
            let token_end = base + tokens.span().end;
            let kind = match token {
                Ok(WordToken::Quote) => {
                    self.state = State::String { start: self.pos };
                    self.start(STRING);
                    self.leaf(QUOTE, token_end);
                    return;
                }
                Ok(WordToken::Hash) => {
                    self.state = State::Comment;
                    self.start(COMMENT);
                    return;
                }
                Ok(WordToken::Bareword) => match tokens.slice() {
                    "true" => TRUE,
                    "false" => FALSE,
                    _ => BAREWORD,
                },
                // The older Raptor adds a newline to every text, so this one is a continuation.
                Ok(WordToken::Operator) if token_end == text.len() && tokens.slice() == "\\" => WHITESPACE,
                Ok(token) => token.kind(),
                Err(()) => OPERATOR,
            };
            self.leaf(kind, token_end);
        }
    }

    fn string(&mut self, start: usize, end: usize) {
        let text = self.text;
        let base = self.pos;
        let mut tokens = StringToken::lexer(&text[base..end]);
        while let Some(token) = tokens.next() {
            let span = base + tokens.span().start..base + tokens.span().end;
            match token {
                Ok(StringToken::Quote) => {
                    self.leaf(QUOTE, span.end);
                    self.finish();
                    self.state = State::Words;
                    return;
                }
                Ok(StringToken::Newline) => {
                    self.unterminated(start);
                    return;
                }
                Ok(StringToken::Escape) => self.leaf(ESCAPE, span.end),
                Ok(StringToken::BadEscape) => {
                    let escape = tokens.slice();
                    self.out.string_errors.push(SyntaxError {
                        code: Code::BadEscape,
                        message: format!("unsupported escape `{escape}` in a string"),
                        label: "not an escape".into(),
                        hint: Some(format!(
                            "for a backslash write `\\{escape}`; the escapes are \\n, \\t, \\\" and \\\\"
                        )),
                        range: span.clone(),
                    });
                    self.leaf(ESCAPE, span.end);
                }
                Ok(StringToken::Text | StringToken::Backslash) | Err(()) => self.leaf(STRING_TEXT, span.end),
            }
        }
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
        self.out.string_errors.push(SyntaxError {
            code: Code::UnterminatedString,
            message: "unterminated string".into(),
            label: "the string starts here and does not end on its line".into(),
            hint: Some("close it with `\"`, or write `\\\"` for a quote that belongs to it".into()),
            range: start..self.pos,
        });
        self.finish();
        self.state = State::Words;
    }

    fn end_of_text(&mut self) {
        match self.state {
            State::Words => {}
            State::String { start } => self.unterminated(start),
            State::Comment => self.finish(),
        }
    }
}
