//! Lines → text: blank lines, indentation, and what may be trimmed.

use super::columns;
use super::lines::{Line, Piece, PieceKind, Shape};
use super::rows::{self, INDENT, Row};
use super::tags::Role;

/// Deeper blocks are indented as if they were this deep.
const MAX_LEVEL: usize = 16;

/// The text of all lines.
pub(super) fn layout(lines: &[Line<'_>]) -> String {
    let mut layout = Layout {
        out: String::new(),
        blocks: Vec::new(),
        level: 0,
        tags_stand_alone: tags_stand_alone(lines),
    };
    let bodies = first_of_body(lines);
    let mut next = 0;
    let mut blank = false;
    while let Some(line) = lines.get(next) {
        if line.shape == Shape::Blank {
            blank = true;
            next += 1;
            continue;
        }
        if std::mem::take(&mut blank) && !layout.out.is_empty() {
            layout.out.push('\n');
        }
        if line.shape == Shape::Plain {
            let n_plain = lines[next..].iter().take_while(|line| line.shape == Shape::Plain).count();
            layout.plain(&lines[next..next + n_plain]);
            next += n_plain;
            continue;
        }
        let level = layout.level_of(line);
        layout.write(line, level);
        layout.pass(line, level, bodies.get(next).copied().flatten().and_then(|idx| lines.get(idx)));
        next += 1;
    }
    // The newline of the last line may have been part of a continuation.
    if !layout.out.is_empty() && !layout.out.ends_with('\n') {
        layout.out.push('\n');
    }
    layout.out
}

struct Layout {
    out: String,
    /// Whether the text of each open block is indented.
    blocks: Vec<bool>,
    /// Number of open blocks that are.
    level: usize,
    /// See [`tags_stand_alone`].
    tags_stand_alone: bool,
}

impl Layout {
    fn capped(&self) -> usize {
        self.level.min(MAX_LEVEL)
    }

    /// Tags that end a block or begin a branch stand where its first tag does.
    fn level_of(&self, line: &Line<'_>) -> usize {
        let outer = matches!(line.first_role(), Some(Role::Close | Role::Middle));
        let indented = self.blocks.last().is_some_and(|it| *it) && outer;
        (self.level - usize::from(indented)).min(MAX_LEVEL)
    }

    /// Opens and closes the blocks of a line. A block is indented if its author began to do so.
    fn pass(&mut self, line: &Line<'_>, level: usize, body: Option<&Line<'_>>) {
        for role in line.roles() {
            match role {
                Role::Open { captures } => {
                    let is_end =
                        |body: &Line<'_>| matches!(body.first_role(), Some(Role::Close | Role::Middle));
                    let deeper = |body: &Line<'_>| !is_end(body) && body.indent() > line.indent();
                    let stands_alone = line.shape == Shape::Tag && level < MAX_LEVEL;
                    let indented = stands_alone && !captures && body.is_some_and(deeper);
                    self.blocks.push(indented);
                    self.level += usize::from(indented);
                }
                Role::Close => {
                    let indented = self.blocks.pop().unwrap_or(false);
                    self.level -= usize::from(indented);
                }
                _ => {}
            }
        }
    }

    /// Consecutive lines without templates.
    fn plain(&mut self, lines: &[Line<'_>]) {
        let mut group: Vec<Row> = Vec::new();
        for line in lines {
            let mut rows = rows::rows(line);
            let is_comment = line.head.iter().find(|it| !it.is_space());
            let is_comment = is_comment.is_some_and(|it| matches!(it.kind, PieceKind::Comment));
            if rows.len() == 1 && !is_comment && line.bodies.is_empty() {
                group.append(&mut rows);
                continue;
            }
            self.group(&mut group);
            rows::write_all(&rows, self.capped(), &mut self.out);
            self.end(line);
        }
        self.group(&mut group);
    }

    fn group(&mut self, rows: &mut Vec<Row>) {
        columns::align(rows);
        for row in rows.drain(..) {
            row.write(self.capped() * INDENT, &mut self.out);
            self.newline("\r\n");
        }
    }

    /// Any line that is not plain.
    fn write(&mut self, line: &Line<'_>, level: usize) {
        if line.shape == Shape::Captured {
            line.head.iter().chain(&line.bodies).for_each(|piece| self.out.push_str(piece.raw));
            self.out.push_str(line.newline.unwrap_or_default());
            return;
        }
        let mut head = line.head.as_slice();
        if line.can_indent() {
            let n_spaces = head.iter().take_while(|piece| piece.is_space()).count();
            head = head.get(n_spaces..).unwrap_or_default();
            self.out.extend(std::iter::repeat_n(' ', level * INDENT));
        }
        let mut at_end = "";
        if line.shape != Shape::Bad && !line.ends_captured {
            (head, at_end) = self.without_blanks_at_end(line.shape, head);
        }
        let captures = line.roles().any(|role| matches!(role, Role::Open { captures: true }));
        for piece in head {
            match &piece.kind {
                PieceKind::Template { tidy, .. } => self.out.push_str(tidy),
                PieceKind::Blank | PieceKind::Stripped if !captures => self.with_lf(piece.raw),
                _ => self.out.push_str(piece.raw),
            }
        }
        self.out.push_str(at_end);
        self.end(line);
    }

    /// What is left of a line without the blanks at its end: whole pieces, and the rest of a comment.
    ///
    /// A value that ends in a backslash would continue the line if no blanks followed, so they stay behind a
    /// template that may write, and behind a backslash.
    fn without_blanks_at_end<'a>(&self, shape: Shape, head: &'a [Piece<'a>]) -> (&'a [Piece<'a>], &'a str) {
        let blank = [' ', '\t'];
        let (last, before) = match head.split_last() {
            Some(it) => it,
            None => return (head, ""),
        };
        match last.kind {
            PieceKind::Comment => {
                let trimmed = last.raw.trim_end_matches(blank);
                match trimmed.is_empty() || trimmed.ends_with(['\\', '\r']) {
                    true => (head, ""),
                    false => (before, trimmed),
                }
            }
            PieceKind::Blank | PieceKind::Stripped if last.raw.chars().all(|c| blank.contains(&c)) => {
                let silent = shape == Shape::Tag && self.tags_stand_alone;
                let removable = before.last().is_some_and(|piece| match piece.kind {
                    PieceKind::Template { .. } => silent,
                    PieceKind::Word | PieceKind::Operator => !piece.raw.ends_with(['\\', '\r']),
                    _ => false,
                });
                (if removable { before } else { head }, "")
            }
            _ => (head, ""),
        }
    }

    /// Heredocs and the newline of a line.
    fn end(&mut self, line: &Line<'_>) {
        line.bodies.iter().for_each(|piece| self.with_lf(piece.raw));
        match line.newline {
            Some(newline) if line.ends_captured => self.out.push_str(newline),
            Some(newline) => self.newline(newline),
            None => {}
        }
    }

    fn newline(&mut self, raw: &str) {
        // Behind a CR that belongs to a word, an LF alone would take that CR into the newline.
        let keeps = raw == "\r\n" && self.out.ends_with('\r');
        self.out.push_str(if keeps { raw } else { "\n" });
    }

    /// Appends text, each CR LF as LF.
    fn with_lf(&mut self, raw: &str) {
        for line in raw.split_inclusive('\n') {
            match line.strip_suffix("\r\n") {
                Some(line) => {
                    self.out.push_str(line);
                    self.newline("\r\n");
                }
                None => self.out.push_str(line),
            }
        }
    }
}

/// Whether no text but blanks stands before a tag of a block that goes on behind its line.
///
/// Then what is written directly before a tag that stands alone ends in a newline, on every way through the
/// template, and blanks behind the tag mean nothing.
fn tags_stand_alone(lines: &[Line<'_>]) -> bool {
    lines.iter().filter(|line| line.shape == Shape::Mixed).all(|line| {
        let mut depth = 0usize;
        let inside = line.roles().all(|role| match role {
            Role::Open { .. } => {
                depth += 1;
                true
            }
            Role::Close if depth > 0 => {
                depth -= 1;
                true
            }
            Role::Middle => depth > 0,
            Role::Close | Role::Jump => false,
            Role::Silent | Role::Writes => true,
        });
        let no_line = |piece: &Piece<'_>| !matches!(piece.kind, PieceKind::Template { is_line: true, .. });
        inside && depth == 0 && line.head.iter().all(no_line)
    })
}

/// For every line, the next one that can be indented.
fn first_of_body(lines: &[Line<'_>]) -> Vec<Option<usize>> {
    let mut next = None;
    let mut found: Vec<_> = lines
        .iter()
        .enumerate()
        .rev()
        .map(|(idx, line)| {
            let after = next;
            if line.can_indent() {
                next = Some(idx);
            }
            after
        })
        .collect();
    found.reverse();
    found
}
