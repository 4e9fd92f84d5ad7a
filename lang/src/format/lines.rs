//! Tree → logical lines: what stands between two newlines that end statements, and what may be done with it.
//!
//! A line without templates is laid out anew. In one with templates, a value may hold quotes, comments or
//! newlines, so what stands between its words may be anything, and stays.

use std::ops::Range;

use rowan::{NodeOrToken, WalkEvent};

use super::Kept;
use super::tags::{self, Role};
use crate::diag::Severity;
use crate::syntax::SyntaxKind::*;
use crate::syntax::{Parse, SyntaxNode};

/// A part of a line.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub kind: PieceKind,
    pub raw: &'a str,
    start: usize,
}

/// Kinds of pieces.
#[derive(Debug)]
pub(super) enum PieceKind {
    /// Blanks, tabs, continuations, and a byte order mark at the start of the file.
    Blank,
    /// Whitespace that a template removes.
    Stripped,
    Newline,
    Comment,
    /// A run of characters that make no name, such as `&&`.
    Operator,
    /// Any other text.
    Word,
    /// `<<EOF`
    Heredoc,
    /// The lines of a heredoc, and the one that ends it; `crosses`: a template block begins or ends outside.
    Body {
        crosses: bool,
    },
    Template {
        role: Role,
        tidy: String,
        is_line: bool,
    },
}

/// A logical line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Without the newline, and without heredocs.
    pub head: Vec<Piece<'a>>,
    /// From the newline before the first heredoc to the end of the last.
    pub bodies: Vec<Piece<'a>>,
    /// The newline at the end; line statements have it inside.
    pub newline: Option<&'a str>,
    pub shape: Shape,
    /// Whether its end is inside of a block that captures its text.
    pub ends_captured: bool,
}

/// What may be done with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing but whitespace.
    Blank,
    /// A comment, or a statement and no template.
    Plain,
    /// One tag that writes nothing, and nothing else.
    Tag,
    /// Text with templates.
    Mixed,
    /// A statement with an error or with blanks of another kind: only its newlines may change.
    Bad,
    /// It is inside of a block that captures its text: nothing may change.
    Captured,
}

impl Line<'_> {
    /// Whether the first thing on the line can be moved.
    pub(super) fn can_indent(&self) -> bool {
        match self.shape {
            Shape::Plain | Shape::Tag => true,
            Shape::Mixed => match self.head.first() {
                Some(piece) if piece.is_space() => piece.raw.chars().all(|c| matches!(c, ' ' | '\t')),
                first => first.is_some(),
            },
            Shape::Blank | Shape::Bad | Shape::Captured => false,
        }
    }

    /// Width of the whitespace before the first thing on the line.
    pub(super) fn indent(&self) -> usize {
        let spaces = self.head.iter().take_while(|piece| piece.is_space());
        spaces.fold(0, |column, piece| column_after(column, piece.raw))
    }

    /// What the templates of the line do, in order.
    pub(super) fn roles(&self) -> impl Iterator<Item = Role> {
        self.head.iter().filter_map(|piece| match piece.kind {
            PieceKind::Template { role, .. } => Some(role),
            _ => None,
        })
    }

    /// What the line begins with, if that is a template.
    pub(super) fn first_role(&self) -> Option<Role> {
        match self.head.iter().find(|piece| !piece.is_space()).map(|piece| &piece.kind) {
            Some(PieceKind::Template { role, .. }) => Some(*role),
            _ => None,
        }
    }

    fn range(&self) -> Range<usize> {
        let first = self.head.first().or(self.bodies.first());
        let last = self.bodies.last().or(self.head.last());
        let start = first.map_or(0, |piece| piece.start);
        start..last.map_or(start, |piece| piece.start + piece.raw.len())
    }
}

impl Piece<'_> {
    pub(super) fn is_space(&self) -> bool {
        matches!(self.kind, PieceKind::Blank | PieceKind::Stripped)
    }

    /// Whether a line of templates begins inside: a `$ ` behind it would be a line statement.
    fn has_lone_cr(&self) -> bool {
        let text = match self.kind {
            PieceKind::Comment => self.raw.trim_end_matches([' ', '\t', '\r']),
            _ => self.raw,
        };
        text.split('\r').skip(1).any(|after| !after.starts_with('\n'))
    }

    fn is_template(&self) -> bool {
        matches!(self.kind, PieceKind::Template { .. })
    }
}

/// Column behind `text` if it starts at `column`; a tab reaches to the next multiple of eight.
pub(super) fn column_after(column: usize, text: &str) -> usize {
    text.chars().fold(column, |column, c| match c {
        '\n' => 0,
        '\t' => column / 8 * 8 + 8,
        _ => column + 1,
    })
}

/// All lines of a text.
pub(super) fn lines<'a>(text: &'a str, parse: &Parse) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    let mut line = new_line();
    let mut pieces = pieces(text, &parse.syntax()).into_iter().peekable();
    while let Some(piece) = pieces.next() {
        let before_body = pieces.peek().is_some_and(|next| matches!(next.kind, PieceKind::Body { .. }));
        let ends_line = match &piece.kind {
            PieceKind::Newline => !before_body,
            PieceKind::Template { is_line, .. } => *is_line && line.head.iter().all(Piece::is_space),
            _ => false,
        };
        match piece.kind {
            PieceKind::Newline if ends_line => line.newline = Some(piece.raw),
            PieceKind::Newline | PieceKind::Body { .. } => line.bodies.push(piece),
            _ if line.bodies.is_empty() => line.head.push(piece),
            _ => line.bodies.push(piece),
        }
        if ends_line {
            lines.push(std::mem::replace(&mut line, new_line()));
        }
    }
    if !line.head.is_empty() || !line.bodies.is_empty() {
        lines.push(line);
    }
    let errors = parse.errors.iter().filter(|error| error.code.severity() == Severity::Error);
    let mut errors = errors.map(|error| error.range.start).peekable();
    let mut captures = Captures::default();
    for line in &mut lines {
        let range = line.range();
        while errors.next_if(|start| *start < range.start).is_some() {}
        // Behind the newline of a line statement is the next line.
        let end = if line.newline.is_some() { range.end + 1 } else { range.end };
        let has_error = errors.next_if(|start| *start < end).is_some();
        line.shape = shape(line, has_error, captures.n_open > 0);
        line.roles().for_each(|role| captures.pass(role));
        line.ends_captured = captures.n_open > 0;
    }
    lines
}

/// What keeps a text from being formatted: it is not certain where the text of a heredoc begins or ends.
pub(super) fn obstacle(lines: &[Line<'_>]) -> Option<Kept> {
    for line in lines.iter().filter(|line| line.shape != Shape::Captured) {
        let has_heredoc = line.head.iter().any(|piece| matches!(piece.kind, PieceKind::Heredoc));
        let has_tag = line.roles().any(|role| role != Role::Writes);
        for piece in line.head.iter().chain(&line.bodies) {
            let reason = match piece.kind {
                PieceKind::Body { crosses: true } => "a template block crosses the border of a heredoc",
                PieceKind::Heredoc if has_tag => "a heredoc begins inside of a template block",
                PieceKind::Operator if piece.raw.starts_with("<<") => {
                    "a template may turn this into a heredoc"
                }
                PieceKind::Word | PieceKind::Comment
                    if line.shape == Shape::Mixed && !has_heredoc && piece.raw.contains("<<") =>
                {
                    "a template may turn this into a heredoc"
                }
                _ => continue,
            };
            let range = piece.start..piece.start + piece.raw.len();
            return Some(Kept { range, reason: format!("{reason}, so the whole file stays as it is") });
        }
    }
    None
}

fn new_line<'a>() -> Line<'a> {
    Line { head: Vec::new(), bodies: Vec::new(), newline: None, shape: Shape::Blank, ends_captured: false }
}

fn shape(line: &Line<'_>, has_error: bool, captured: bool) -> Shape {
    let mut things = line.head.iter().filter(|piece| !piece.is_space());
    if captured {
        return Shape::Captured;
    }
    let (first, second) = (things.next(), things.next());
    match first.map(|piece| &piece.kind) {
        // A byte order mark is whitespace, and stays.
        None if line.head.iter().any(|piece| piece.raw.starts_with('\u{feff}')) => Shape::Bad,
        None if line.bodies.is_empty() => Shape::Blank,
        Some(PieceKind::Template { role, .. }) if second.is_none() && *role != Role::Writes => {
            let simple = line.head.iter().all(|piece| !piece.raw.contains('\n') || !piece.is_space());
            if simple { Shape::Tag } else { Shape::Mixed }
        }
        _ if line.head.iter().any(Piece::is_template) => Shape::Mixed,
        _ if has_error || line.head.iter().any(|piece| piece.raw.starts_with('\u{feff}')) => Shape::Bad,
        _ if may_become_template(&line.head) || line.head.iter().any(Piece::has_lone_cr) => Shape::Bad,
        _ => Shape::Plain,
    }
}

/// Whether a row begins with a `$` that a blank behind it would make a line statement.
fn may_become_template(head: &[Piece<'_>]) -> bool {
    head.windows(3).any(|pieces| match pieces {
        [before, dollar, after] => {
            before.raw.ends_with([' ', '\t', '\n'])
                && before.raw.contains('\n')
                && dollar.raw == "$"
                && after.is_space()
        }
        _ => false,
    })
}

/// Open blocks.
#[derive(Default)]
struct Captures {
    blocks: Vec<bool>,
    n_open: usize,
}

impl Captures {
    fn pass(&mut self, role: Role) {
        match role {
            Role::Open { captures } => {
                self.blocks.push(captures);
                self.n_open += usize::from(captures);
            }
            Role::Close => {
                let captures = self.blocks.pop().unwrap_or(false);
                self.n_open -= usize::from(captures);
            }
            _ => {}
        }
    }
}

fn pieces<'a>(text: &'a str, root: &SyntaxNode) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut walk = root.preorder_with_tokens();
    let mut in_comment = false;
    while let Some(event) = walk.next() {
        let (element, entered) = match event {
            WalkEvent::Enter(element) => (element, true),
            WalkEvent::Leave(element) => (element, false),
        };
        let range = element.text_range();
        let start = usize::from(range.start());
        let raw = text.get(start..usize::from(range.end())).unwrap_or_default();
        let kind = match element {
            NodeOrToken::Node(node) => match node.kind() {
                kind if kind.is_template() && entered => {
                    walk.skip_subtree();
                    PieceKind::Template {
                        role: Role::of(&node),
                        tidy: tags::tidy(&node),
                        is_line: kind == LINE_STATEMENT,
                    }
                }
                HEREDOC_BODY if entered => {
                    walk.skip_subtree();
                    PieceKind::Body { crosses: crosses(&node) }
                }
                COMMENT => {
                    in_comment = entered;
                    continue;
                }
                _ => continue,
            },
            NodeOrToken::Token(_) if !entered => continue,
            NodeOrToken::Token(token) => match token.kind() {
                WHITESPACE => PieceKind::Blank,
                STRIPPED => PieceKind::Stripped,
                NEWLINE => PieceKind::Newline,
                HEREDOC => PieceKind::Heredoc,
                HEREDOC_END => PieceKind::Body { crosses: false },
                _ if in_comment => PieceKind::Comment,
                OPERATOR => PieceKind::Operator,
                _ => PieceKind::Word,
            },
        };
        pieces.push(Piece { kind, raw, start });
    }
    pieces
}

/// Whether a block begins or ends outside of the text of a heredoc.
fn crosses(body: &SyntaxNode) -> bool {
    let mut depth = 0usize;
    for node in body.descendants().filter(|node| node.kind().is_template()) {
        match Role::of(&node) {
            Role::Open { .. } => depth += 1,
            Role::Close if depth == 0 => return true,
            Role::Close => depth -= 1,
            Role::Middle if depth == 0 => return true,
            Role::Jump => return true,
            _ => {}
        }
    }
    depth > 0
}
