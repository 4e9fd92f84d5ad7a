//! Pieces → tree and errors: recursive descent over lines, one error for each bad line.
//!
//! Every rule returns a [`Step`]; `None` means that an error is recorded and that the rest of the line
//! goes into an error node. Lines with a template get no errors in source text, since only rendering
//! tells what they say.

mod args;
mod instructions;
mod options;

use std::ops::Range;

use rowan::{GreenNode, GreenNodeBuilder, Language};

use super::SyntaxError;
use super::hints::{self, INSTRUCTIONS};
use super::kind::SyntaxKind::{self, *};
use super::kind::{RaptLanguage, SyntaxNode};
use super::lexer::{Event, Lexed, lex};
use crate::diag::{Code, Severity};

/// Which text is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the author wrote it, with templates.
    Source,
    /// What the template stage made of it.
    Rendered,
}

/// A parsed text.
#[derive(Clone, Debug)]
pub struct Parse {
    green: GreenNode,
    /// Errors and warnings in the order of the text.
    pub errors: Vec<SyntaxError>,
    /// Start offsets of lines that say nothing certain: wrong ones, and templates in source text.
    unclear: Vec<usize>,
}

impl Parse {
    /// The root of the tree; its text is the parsed text.
    pub fn syntax(&self) -> SyntaxNode {
        SyntaxNode::new_root(self.green.clone())
    }

    /// Whether the statement that starts at `offset` has no error and no template.
    pub(super) fn is_clear(&self, offset: usize) -> bool {
        self.unclear.binary_search(&offset).is_err()
    }
}

/// Parses a text; never fails, whatever the text is.
pub fn parse(text: &str, mode: Mode) -> Parse {
    let mut parser = Parser {
        text,
        lexed: lex(text, mode),
        pos: 0,
        builder: GreenNodeBuilder::new(),
        start: 0,
        line: Vec::new(),
        n_string_errors: 0,
        captures: 0,
        errors: Vec::new(),
        unclear: Vec::new(),
    };
    parser.builder.start_node(RaptLanguage::kind_to_raw(ROOT));
    parser.root();
    parser.builder.finish_node();
    let mut errors = parser.errors;
    errors.append(&mut parser.lexed.template_errors);
    errors.sort_by_key(|error| error.range.start);
    Parse { green: parser.builder.finish(), errors, unclear: parser.unclear }
}

/// `None`: an error is recorded, and the rest of the line is not understood.
type Step = Option<()>;

struct Parser<'a> {
    text: &'a str,
    lexed: Lexed,
    /// Next piece.
    pos: usize,
    builder: GreenNodeBuilder<'static>,
    /// Where the current statement starts.
    start: usize,
    /// Errors of the current line.
    line: Vec<SyntaxError>,
    /// How many string errors belong to earlier lines.
    n_string_errors: usize,
    /// Open template blocks whose text goes elsewhere, such as macros.
    captures: usize,
    errors: Vec<SyntaxError>,
    unclear: Vec<usize>,
}

// The file and its lines.
impl Parser<'_> {
    fn root(&mut self) {
        loop {
            match self.nth(0) {
                EOF => return,
                kind if is_trivia(kind) || is_line_end(kind) => self.bump(),
                _ => self.statement(),
            }
        }
    }

    fn statement(&mut self) {
        let first = self.pos;
        self.start = self.range(0).start;
        let word = self.raw(0);
        let known = INSTRUCTIONS.iter().find(|(name, _)| self.nth(0) == BAREWORD && *name == word);
        match known {
            Some(&(_, kind)) => self.node(kind, |parser| {
                parser.bump_as(KEYWORD);
                let step = parser.instruction(kind);
                if step.is_some() && !parser.at_end() {
                    parser.leftover(kind);
                }
                parser.rest_of_line();
                parser.check_continuation(first);
            }),
            None => {
                self.unknown_instruction();
                self.node(UNKNOWN_STMT, |parser| {
                    while parser.skip_trivia() {
                        parser.word(WORD);
                    }
                });
            }
        }
        while !matches!(self.nth(0), NEWLINE | EOF) {
            self.bump();
        }
        self.finish_line(first);
    }

    /// Keeps the first error of the line, or its warnings.
    fn finish_line(&mut self, first: usize) {
        let end = self.offset();
        let strings = &self.lexed.string_errors[self.n_string_errors..];
        let n_strings = strings.iter().take_while(|error| error.range.start < end).count();
        let string_error = strings.first().filter(|_| n_strings > 0).cloned();
        self.n_string_errors += n_strings;
        let line = std::mem::take(&mut self.line);
        let pieces = &self.lexed.pieces[first..self.pos];
        if self.captures > 0 || pieces.iter().any(|piece| piece.templated) {
            self.unclear.push(self.start);
            return;
        }
        let is_error = |error: &&SyntaxError| error.code.severity() == Severity::Error;
        let line_error = line.iter().find(is_error).cloned();
        let is_unknown = line_error.as_ref().is_some_and(|error| error.code == Code::UnknownInstruction);
        match if is_unknown { line_error } else { string_error.or(line_error) } {
            Some(error) => {
                self.unclear.push(self.start);
                self.errors.push(error);
            }
            None => self.errors.extend(line),
        }
    }

    fn unknown_instruction(&mut self) {
        let range = if self.nth(0) == BAREWORD { self.range(0) } else { self.word_range() };
        let word = &self.text[range.clone()];
        let mut error = SyntaxError::new(
            Code::UnknownInstruction,
            range,
            format!("unknown instruction `{}`", shorten(word)),
            "expected an instruction",
        );
        error.hint = hints::unknown_instruction(word);
        if error.hint.is_none() && self.line_above_ends_in_backslash() {
            error.hint = Some(
                "if this continues the line above: a line continues only if a blank stands before the backslash"
                    .into(),
            );
        }
        self.line.push(error);
    }

    fn line_above_ends_in_backslash(&self) -> bool {
        let before = self.text[..self.start].trim_end_matches([' ', '\t']);
        before.strip_suffix('\n').is_some_and(|line| line.trim_end_matches('\r').ends_with('\\'))
    }

    /// `\` and blanks at the end of a line: meant as a continuation, but it is none.
    fn check_continuation(&mut self, first: usize) {
        let last = &self.lexed.pieces[self.pos - 1];
        let alone = self.pos - 1 > first && self.lexed.pieces[self.pos - 2].kind == WHITESPACE;
        if last.kind == OPERATOR && alone && &self.text[last.range.clone()] == "\\" {
            let error = SyntaxError::new(
                Code::UnexpectedToken,
                last.range.clone(),
                "the backslash does not continue the line",
                "something follows it on the same line",
            );
            self.line.clear();
            self.line.push(error.with_hint("remove the blanks or the comment after the backslash"));
        }
    }

    fn leftover(&mut self, kind: SyntaxKind) {
        self.skip_trivia();
        let range = self.word_range();
        let message = format!("unexpected `{}`", shorten(&self.text[range.clone()]));
        let mut error = SyntaxError::new(Code::UnexpectedToken, range, message, "not expected here");
        error.hint = match kind {
            FROM_STMT => Some("FROM takes one module or reference".into()),
            WORKDIR_STMT | MKDIR_STMT => Some("it takes one path; quote a path that contains blanks".into()),
            WRITE_STMT => Some("WRITE takes a text and a path; quote what contains blanks".into()),
            MOUNT_STMT => Some("MOUNT takes options, a name and a path".into()),
            _ => None,
        };
        self.line.push(error);
    }

    fn rest_of_line(&mut self) {
        if self.skip_trivia() {
            self.node(ERROR, |parser| {
                while parser.skip_trivia() {
                    while is_word(parser.nth(0)) {
                        parser.bump();
                    }
                }
            });
        }
    }
}

// Looking at pieces and moving them into the tree.
impl<'a> Parser<'a> {
    fn nth(&self, n: usize) -> SyntaxKind {
        self.lexed.pieces.get(self.pos + n).map_or(EOF, |piece| piece.kind)
    }

    fn range(&self, n: usize) -> Range<usize> {
        match self.lexed.pieces.get(self.pos + n) {
            Some(piece) => piece.range.clone(),
            None => self.text.len()..self.text.len(),
        }
    }

    fn raw(&self, n: usize) -> &'a str {
        &self.text[self.range(n)]
    }

    /// End of what is in the tree so far.
    fn offset(&self) -> usize {
        match self.pos {
            0 => 0,
            pos => self.lexed.pieces[pos - 1].range.end,
        }
    }

    /// The next `len` pieces as [`super::text`] wants them.
    fn pieces(&self, len: usize) -> impl Iterator<Item = (SyntaxKind, &'a str)> {
        let text = self.text;
        let pieces = self.lexed.pieces[self.pos..].iter().take(len);
        pieces.map(move |piece| (piece.kind, &text[piece.range.clone()]))
    }

    /// How many pieces the word at the cursor has; 0 if there is none.
    fn word_len(&self) -> usize {
        self.lexed.pieces[self.pos..].iter().take_while(|piece| is_word(piece.kind)).count()
    }

    fn word_range(&self) -> Range<usize> {
        let start = self.range(0).start;
        match self.word_len() {
            0 => start..start,
            len => start..self.range(len - 1).end,
        }
    }

    /// Whether nothing but trivia follows the next `len` pieces on the line.
    fn ends_after(&self, len: usize) -> bool {
        let rest = self.lexed.pieces.get(self.pos + len..).unwrap_or_default();
        rest.iter().find(|piece| !is_trivia(piece.kind)).is_none_or(|piece| is_line_end(piece.kind))
    }

    fn at_end(&self) -> bool {
        self.ends_after(0)
    }

    /// Moves to the next word of the line; without one it stays where it is and says `false`.
    fn skip_trivia(&mut self) -> bool {
        if self.at_end() {
            return false;
        }
        while is_trivia(self.nth(0)) {
            self.bump();
        }
        true
    }

    fn bump(&mut self) {
        let kind = self.nth(0);
        self.bump_as(kind);
    }

    /// Puts the next piece into the tree; a single token as `kind`.
    fn bump_as(&mut self, kind: SyntaxKind) {
        let Some(piece) = self.lexed.pieces.get(self.pos) else { return };
        let mut start = piece.range.start;
        let single = piece.events.len() == 1;
        for event in &self.lexed.events[piece.events.clone()] {
            match *event {
                Event::Start(kind) => self.builder.start_node(RaptLanguage::kind_to_raw(kind)),
                Event::Finish => self.builder.finish_node(),
                Event::Leaf(leaf, end) => {
                    let kind = if single { kind } else { leaf };
                    self.builder.token(RaptLanguage::kind_to_raw(kind), &self.text[start..end]);
                    start = end;
                }
            }
        }
        if matches!(piece.kind, TEMPLATE_BLOCK | LINE_STATEMENT) {
            self.captures = captures(&self.text[piece.range.clone()], self.captures);
        }
        self.pos += 1;
    }

    fn node<T>(&mut self, kind: SyntaxKind, content: impl FnOnce(&mut Self) -> T) -> T {
        self.builder.start_node(RaptLanguage::kind_to_raw(kind));
        let result = content(self);
        self.builder.finish_node();
        result
    }

    /// The next `len` pieces as one node.
    fn wrap(&mut self, kind: SyntaxKind, len: usize) {
        self.node(kind, |parser| (0..len).for_each(|_| parser.bump()));
    }

    /// The word at the cursor as one node.
    fn word(&mut self, kind: SyntaxKind) {
        self.wrap(kind, self.word_len());
    }
}

// Errors.
impl Parser<'_> {
    fn fail(&mut self, error: SyntaxError) -> Step {
        self.line.push(error);
        None
    }

    /// The line ends too early.
    fn missing(&mut self, what: &str) -> Step {
        let range = self.start..self.offset();
        let keyword = self.text[self.start..].split(|c: char| !c.is_ascii_uppercase()).next().unwrap_or("");
        let message = format!("{keyword} needs {what}");
        self.fail(SyntaxError::new(Code::MissingOperand, range, message, "the line ends too early"))
    }
}

/// What ends a statement.
fn is_line_end(kind: SyntaxKind) -> bool {
    matches!(kind, NEWLINE | COMMENT | EOF)
}

/// What stands between words. A template that is glued to a word belongs to the word instead.
fn is_trivia(kind: SyntaxKind) -> bool {
    matches!(kind, WHITESPACE | STRIPPED | TEMPLATE_BLOCK | TEMPLATE_COMMENT | LINE_STATEMENT)
}

/// What words are made of.
fn is_word(kind: SyntaxKind) -> bool {
    !is_line_end(kind) && !matches!(kind, WHITESPACE | STRIPPED | LINE_STATEMENT)
}

/// Text for a message: one line, and not a long one.
fn shorten(text: &str) -> String {
    let mut short = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == 60 => {
                short.push('…');
                break;
            }
            c if c.is_control() => short.extend(c.escape_default()),
            c => short.push(c),
        }
    }
    short
}

/// How many capturing blocks are open behind a block or line statement.
fn captures(block: &str, open: usize) -> usize {
    let code = block.trim_start_matches(['{', '%', '$', '-', '+']).trim_start();
    let name = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
    match name {
        "macro" | "call" | "filter" => open + 1,
        "set" if !code.contains('=') => open + 1,
        "endmacro" | "endcall" | "endfilter" | "endset" => open.saturating_sub(1),
        _ => open,
    }
}
