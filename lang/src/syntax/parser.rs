//! Pieces → tree and errors: recursive descent over lines, one error for each bad line.
//!
//! Every rule returns a [`Step`]; `None` means that an error is recorded and that the rest of the line
//! goes into an error node. Lines with a template get no errors in source text, since only rendering
//! tells what they say.

mod args;
mod instructions;
mod options;

use std::ops::Range;
use std::sync::OnceLock;

use rowan::GreenNode;

use super::SyntaxError;
use super::flat::{Flat, FlatNode, Node, Role};
use super::green;
use super::hints;
use super::kind::SyntaxKind::{self, *};
use super::kind::SyntaxNode;
use super::lexer::lex;
use super::sections::{self, Sections};
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
    pub(super) text: String,
    pub(super) mode: Mode,
    pub(super) flat: Flat,
    /// Made when it is asked for.
    pub(super) green: OnceLock<GreenNode>,
    /// Errors and warnings in the order of the text.
    pub errors: Vec<SyntaxError>,
    /// Whether a line without tags means the same wherever it stands.
    pub(super) context_free: bool,
}

impl Parse {
    /// The root of the tree; its text is the parsed text.
    pub fn syntax(&self) -> SyntaxNode {
        let green = self.green.get_or_init(|| green::build(&self.flat, &self.text));
        SyntaxNode::new_root(green.clone())
    }

    /// All statements of the text.
    pub(super) fn statements(&self) -> impl Iterator<Item = Node<'_>> {
        self.flat.statements(&self.text)
    }
}

/// Parses a text; never fails, whatever the text is.
pub fn parse(text: &str, mode: Mode) -> Parse {
    let Lines { flat, errors, context_free, .. } = parse_lines(text, 0, mode);
    Parse { text: text.to_owned(), mode, flat, green: OnceLock::new(), errors, context_free }
}

/// What a run of lines parses to.
pub(super) struct Lines {
    /// Its pieces and nodes; offsets are those of the whole text.
    pub flat: Flat,
    /// Errors and warnings in the order of the text.
    pub errors: Vec<SyntaxError>,
    /// Whether no part of it is raw or goes elsewhere.
    pub context_free: bool,
    /// Whether every template in it ends in it.
    pub templates_closed: bool,
}

/// Parses a text from `start` on, where a line begins.
pub(super) fn parse_lines(text: &str, start: usize, mode: Mode) -> Lines {
    let mut lexed = lex(text, start, mode);
    let sections = match mode {
        Mode::Source => sections::find(&mut lexed.flat, text),
        Mode::Rendered => Sections::default(),
    };
    let mut parser = Parser {
        text,
        flat: lexed.flat,
        string_errors: lexed.string_errors,
        pos: 0,
        start: 0,
        line: Vec::new(),
        n_string_errors: 0,
        captures: sections.captures(),
        sections: &sections,
        errors: Vec::new(),
    };
    parser.root();
    let Parser { mut flat, mut errors, .. } = parser;
    sections.insert_into(&mut flat);
    let templates_closed = lexed.template_errors.is_empty();
    if !templates_closed {
        errors.append(&mut lexed.template_errors);
        errors.sort_by_key(|error| error.range.start);
    }
    Lines { flat, errors, context_free: sections.is_context_free(), templates_closed }
}

/// `None`: an error is recorded, and the rest of the line is not understood.
type Step = Option<()>;

struct Parser<'a> {
    text: &'a str,
    flat: Flat,
    string_errors: Vec<SyntaxError>,
    /// Next piece.
    pos: usize,
    /// Where the current statement starts.
    start: usize,
    /// Errors of the current line.
    line: Vec<SyntaxError>,
    /// How many string errors belong to earlier lines.
    n_string_errors: usize,
    /// Template blocks whose text goes elsewhere, such as macros; those behind the cursor, last one first.
    captures: Vec<Range<usize>>,
    sections: &'a Sections,
    errors: Vec<SyntaxError>,
}

// The file and its lines.
impl Parser<'_> {
    fn root(&mut self) {
        loop {
            match self.nth(0) {
                EOF => return,
                TEMPLATE_BLOCK => self.bump(),
                _ if self.role(0) != Role::Word => self.bump(),
                _ => self.statement(),
            }
        }
    }

    fn statement(&mut self) {
        let first = self.pos;
        self.start = self.range(0).start;
        let node = self.flat.nodes.len();
        let word = self.raw(0);
        let known = if self.nth(0) == BAREWORD { hints::instruction(word) } else { None };
        match known {
            Some(kind) => self.node(kind, |parser| {
                parser.flat.pieces[first].kind = KEYWORD;
                parser.bump();
                let step = parser.instruction(kind);
                if step.is_some() && !parser.at_end() {
                    parser.leftover(kind);
                }
                parser.rest_of_line();
                parser.check_continuation(first);
                parser.heredoc_bodies();
                parser.closing_tags(first);
            }),
            None => {
                self.unknown_instruction();
                self.node(UNKNOWN_STMT, |parser| {
                    while parser.skip_trivia() {
                        parser.word(WORD);
                    }
                    parser.heredoc_bodies();
                });
            }
        }
        while !matches!(self.nth(0), NEWLINE | EOF) {
            self.bump();
        }
        if !self.finish_line(first) {
            self.flat.nodes[node].clear = false;
        }
    }

    /// Keeps the first error of the line, or its warnings. Says whether the line is clear.
    fn finish_line(&mut self, first: usize) -> bool {
        let end = self.offset();
        let strings = &self.string_errors[self.n_string_errors..];
        let n_strings = strings.iter().take_while(|error| error.range.start < end).count();
        let string_error = strings.first().filter(|_| n_strings > 0).cloned();
        self.n_string_errors += n_strings;
        while self.captures.pop_if(|capture| capture.end <= first).is_some() {}
        let captured = self.captures.last().is_some_and(|capture| capture.start < first);
        if captured || self.flat.pieces[first..self.pos].iter().any(|piece| piece.templated) {
            self.line.clear();
            return false;
        }
        if self.line.is_empty() && string_error.is_none() {
            return true;
        }
        let line = std::mem::take(&mut self.line);
        let is_error = |error: &&SyntaxError| error.code.severity() == Severity::Error;
        let line_error = line.iter().find(is_error).cloned();
        let is_unknown = line_error.as_ref().is_some_and(|error| error.code == Code::UnknownInstruction);
        match if is_unknown { line_error } else { string_error.or(line_error) } {
            Some(error) => self.errors.push(error),
            None => {
                self.errors.extend(line);
                return true;
            }
        }
        false
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
        if let Some(advice) = hints::unknown_instruction(word) {
            error = error.with_advice(advice);
        }
        if error.hint.is_none() && line_above_continues(self.text, self.start) {
            error.hint = Some(
                "if this continues the line above: a line continues only if a blank stands before the backslash"
                    .into(),
            );
        }
        self.line.push(error);
    }

    /// `\` and blanks at the end of a line: meant as a continuation, but it is none.
    fn check_continuation(&mut self, first: usize) {
        let last = self.pos - 1;
        let alone = last > first && self.flat.pieces[last - 1].kind == WHITESPACE;
        if alone && self.flat.pieces[last].kind == OPERATOR && &self.text[self.flat.range(last)] == "\\" {
            let error = SyntaxError::new(
                Code::UnexpectedToken,
                self.flat.range(last),
                "the backslash does not continue the line",
                "something follows it on the same line",
            );
            self.line.clear();
            let mut error = error.with_hint("remove the blanks or the comment after the backslash");
            let end = self.flat.range(last).end;
            let rest = self.text[end..].find('\n').map_or(self.text.len(), |at| end + at);
            if self.text[end..rest].trim().is_empty() {
                error = error.with_guess([(end..rest, String::new())]);
            }
            self.line.push(error);
        }
    }

    /// Tags at the end of a line that close what the statement has opened.
    fn closing_tags(&mut self, first: usize) {
        let trivia =
            (self.pos..).take_while(|&idx| self.flat.pieces.get(idx).is_some_and(|it| it.role.is_trivia()));
        let closes =
            |idx: &usize| self.sections.opener(*idx).is_some_and(|opener| (first..*idx).contains(&opener));
        if let Some(last) = trivia.filter(closes).last() {
            self.pos = last + 1;
        }
    }

    /// The texts of heredocs are part of their statement, and so is what stands before them.
    fn heredoc_bodies(&mut self) {
        let mut len = self.newline();
        while [self.nth(len), self.nth(len + 1)] == [NEWLINE, HEREDOC_BODY] {
            (0..len + 2).for_each(|_| self.bump());
            if self.nth(0) == HEREDOC_END {
                self.bump();
            }
            len = 0;
        }
    }

    /// How many pieces stand between the last word of a line and its newline.
    fn newline(&self) -> usize {
        let len = (0..).take_while(|&n| self.role(n).is_trivia()).count();
        len + usize::from(self.nth(len) == COMMENT)
    }

    /// Text of the first heredoc, from the last word of a line.
    fn heredoc_body(&self) -> Option<&str> {
        let n = self.newline() + 1;
        (self.nth(n) == HEREDOC_BODY).then(|| self.raw(n))
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
                    while parser.role(0).is_word() {
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
        self.flat.pieces.get(self.pos + n).map_or(EOF, |piece| piece.kind)
    }

    fn role(&self, n: usize) -> Role {
        self.flat.pieces.get(self.pos + n).map_or(Role::End, |piece| piece.role)
    }

    fn range(&self, n: usize) -> Range<usize> {
        self.flat.range(self.pos + n)
    }

    fn raw(&self, n: usize) -> &'a str {
        &self.text[self.range(n)]
    }

    /// End of what is in the tree so far.
    fn offset(&self) -> usize {
        self.flat.offset(self.pos)
    }

    /// The next `len` pieces as [`super::text`] wants them.
    fn pieces(&self, len: usize) -> impl Iterator<Item = (SyntaxKind, &'a str)> + Clone {
        let text = self.text;
        let mut start = self.offset();
        self.flat.pieces[self.pos..].iter().take(len).map(move |piece| {
            let raw = &text[start..piece.end as usize];
            start = piece.end as usize;
            (piece.kind, raw)
        })
    }

    /// How many pieces the word at the cursor has; 0 if there is none.
    fn word_len(&self) -> usize {
        self.flat.pieces[self.pos..].iter().take_while(|piece| piece.role.is_word()).count()
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
        let rest = self.flat.pieces.get(self.pos + len..).unwrap_or_default();
        rest.iter().find(|piece| !piece.role.is_trivia()).is_none_or(|piece| piece.role == Role::End)
    }

    fn at_end(&self) -> bool {
        self.ends_after(0)
    }

    /// Moves to the next word of the line; without one it stays where it is and says `false`.
    fn skip_trivia(&mut self) -> bool {
        if self.at_end() {
            return false;
        }
        while self.role(0).is_trivia() {
            self.bump();
        }
        true
    }

    fn bump(&mut self) {
        self.pos += usize::from(self.pos < self.flat.pieces.len());
    }

    fn node<T>(&mut self, kind: SyntaxKind, content: impl FnOnce(&mut Self) -> T) -> T {
        let idx = self.flat.nodes.len();
        let start = self.pos as u32;
        self.flat.nodes.push(FlatNode { kind, clear: true, start, end: start, next: 0 });
        let result = content(self);
        if self.pos as u32 == start {
            self.flat.nodes.truncate(idx);
            return result;
        }
        let next = self.flat.nodes.len() as u32;
        let node = &mut self.flat.nodes[idx];
        (node.end, node.next) = (self.pos as u32, next);
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

/// Whether the line above the one at `offset` ends in a backslash.
pub(super) fn line_above_continues(text: &str, offset: usize) -> bool {
    let before = text[..offset].trim_end_matches([' ', '\t']);
    before.strip_suffix('\n').is_some_and(|line| line.trim_end_matches('\r').ends_with('\\'))
}

/// Text for a message: one line, and not a long one.
fn shorten(text: &str) -> String {
    shorten_to(60, text)
}

/// The same, of so many characters at most.
fn shorten_to(max: usize, text: &str) -> String {
    let mut short = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == max => {
                short.push('…');
                break;
            }
            c if c.is_control() => short.extend(c.escape_default()),
            c => short.push(c),
        }
    }
    short
}
