//! The parse after an edit, made from the parse before it.
//!
//! The window is the run of whole lines around the edit. It is parsed anew and put in the place of the old
//! one if nothing else can have changed; in doubt the whole text is parsed.

use std::ops::Range;
use std::sync::OnceLock;

use rowan::{GreenNode, NodeOrToken};

use super::SyntaxError;
use super::flat::{Event, Flat, FlatNode, Piece};
use super::green;
use super::kind::SyntaxKind::*;
use super::parser::{Lines, Mode, Parse, line_above_continues, parse, parse_lines};

/// A change of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEdit {
    /// Bytes that go; offsets behind the text mean its end, those inside of a character its start.
    pub range: Range<usize>,
    /// What comes in their place.
    pub insert: String,
}

impl TextEdit {
    /// The text after the edit, and the bytes that it really replaces.
    fn apply(&self, text: &str) -> (String, Range<usize>) {
        let start = text.floor_char_boundary(self.range.start);
        let end = text.floor_char_boundary(self.range.end).max(start);
        let edited = [&text[..start], &self.insert, &text[end..]].concat();
        (edited, start..end)
    }
}

impl Parse {
    /// What [`parse`] would make of the text after the edit. Parts of the tree outside of the edited lines are
    /// shared with this one.
    pub fn reparse(&self, edit: &TextEdit) -> Parse {
        let (text, range) = edit.apply(&self.text);
        match self.spliced(&text, &range, edit.insert.len()) {
            Some((flat, green, errors)) => {
                Parse { text, mode: self.mode, flat, green, errors, context_free: true }
            }
            None => parse(&text, self.mode),
        }
    }

    fn spliced(
        &self,
        text: &str,
        edited: &Range<usize>,
        n_inserted: usize,
    ) -> Option<(Flat, OnceLock<GreenNode>, Vec<SyntaxError>)> {
        let window = self.window(edited);
        let bytes = self.flat.offset(window.start)..self.flat.offset(window.end);
        let n_behind = self.text.len() - bytes.end;
        let end = text.len() - n_behind;
        debug_assert_eq!(end + edited.len(), bytes.end + n_inserted);
        let at_end = window.end == self.flat.pieces.len();
        if !self.context_free
            || has_tags(&self.flat, window.clone())
            || (self.mode == Mode::Source && strips_before(&text[bytes.start..end]))
            || (!at_end && line_above_continues(text, end) != line_above_continues(&self.text, bytes.end))
        {
            return None;
        }
        let lines = parse_lines(&text[..end], bytes.start, self.mode);
        let ends_line = lines.flat.pieces.last().is_some_and(|piece| piece.kind == NEWLINE);
        let is_alone = at_end || (ends_line && lines.templates_closed);
        if !is_alone || !lines.context_free || has_tags(&lines.flat, 0..lines.flat.pieces.len()) {
            return None;
        }
        let green = OnceLock::new();
        if let Some(old) = self.green.get() {
            let outer: Vec<_> =
                enclosing(&self.flat, &window).map(|it| self.flat.offset(it.start as usize)).collect();
            let new = green::build(&lines.flat, text);
            let _ = green.set(splice_green(old, 0, &outer, &bytes, &new)?);
        }
        let errors = splice_errors(&self.errors, &bytes, end, at_end, &lines);
        let delta = end as i64 - bytes.end as i64;
        Some((splice_flat(&self.flat, window, lines.flat, delta), green, errors))
    }

    /// Pieces of the whole lines around an edit.
    fn window(&self, edited: &Range<usize>) -> Range<usize> {
        let pieces = &self.flat.pieces;
        let is_border = |idx: usize| {
            let follows = |kind| pieces.get(idx).is_some_and(|piece| piece.kind == kind);
            idx == 0 || (pieces[idx - 1].kind == NEWLINE && !follows(HEREDOC_BODY))
        };
        let mut start = pieces.partition_point(|piece| piece.end as usize <= edited.start);
        // A line may also begin behind line statements that follow a border.
        let mut line_statement = None;
        while !is_border(start) {
            line_statement = match pieces[start - 1].kind {
                // One that ends in `\r` alone would take a `\n` behind it in.
                LINE_STATEMENT
                    if ends_in_newline(self.flat.events(start - 1))
                        && self.text[..self.flat.offset(start)].ends_with('\n') =>
                {
                    line_statement.or(Some(start))
                }
                STRIPPED | WHITESPACE => line_statement,
                _ => None,
            };
            start -= 1;
        }
        let start = line_statement.unwrap_or(start);
        let mut end = pieces.partition_point(|piece| piece.end as usize <= edited.end).max(start);
        while end < pieces.len() {
            end += 1;
            if is_border(end) && self.flat.offset(end - 1) >= edited.end {
                break;
            }
        }
        start..end
    }
}

/// Whether a line statement is whole.
fn ends_in_newline(events: &[Event]) -> bool {
    matches!(events, [.., Event::Leaf(NEWLINE, _), Event::Finish])
}

/// Whether tags stand in some pieces: what they mean depends on other lines.
fn has_tags(flat: &Flat, window: Range<usize>) -> bool {
    let is_tag = |kind| matches!(kind, TEMPLATE_BLOCK | LINE_STATEMENT);
    let is_start = |event: &Event| matches!(event, Event::Start(kind) if is_tag(*kind));
    window.into_iter().any(|idx| {
        let piece = &flat.pieces[idx];
        is_tag(piece.kind) || (piece.templated && flat.events(idx).iter().any(is_start))
    })
}

/// Whether a template removes the newline in front of a text.
fn strips_before(text: &str) -> bool {
    ["{{-", "{%-", "{#-"].iter().any(|open| text.trim_start().starts_with(open))
}

/// Nodes around a window, outermost first.
fn enclosing<'a>(flat: &'a Flat, window: &Range<usize>) -> impl Iterator<Item = &'a FlatNode> {
    let (start, end) = (window.start as u32, window.end as u32);
    let before = flat.nodes.partition_point(|node| node.start < start);
    flat.nodes[..before].iter().filter(move |node| node.end >= end && node.end > start)
}

/// Replaces the children that cover `bytes`, inside of the nodes that start at `outer`, by those of `new`.
fn splice_green(
    old: &GreenNode,
    start: usize,
    outer: &[usize],
    bytes: &Range<usize>,
    new: &GreenNode,
) -> Option<GreenNode> {
    let ends: Vec<usize> = old
        .children()
        .scan(start, |at, child| {
            *at += usize::from(child.text_len());
            Some(*at)
        })
        .collect();
    let first_behind = |offset: usize| ends.partition_point(|end| *end <= offset);
    if let [next, rest @ ..] = outer {
        let idx = first_behind(*next);
        let NodeOrToken::Node(child) = old.children().nth(idx)? else { return None };
        let child = splice_green(&child.to_owned(), *next, rest, bytes, new)?;
        return Some(old.replace_child(idx, child.into()));
    }
    let added = new.children().map(|child| match child {
        NodeOrToken::Node(node) => NodeOrToken::Node(node.to_owned()),
        NodeOrToken::Token(token) => NodeOrToken::Token(token.to_owned()),
    });
    Some(old.splice_children(first_behind(bytes.start)..first_behind(bytes.end), added))
}

fn splice_errors(
    old: &[SyntaxError],
    bytes: &Range<usize>,
    end: usize,
    at_end: bool,
    lines: &Lines,
) -> Vec<SyntaxError> {
    let before = old.iter().take_while(|error| error.range.start < bytes.start);
    let shift = |range: &Range<usize>| range.start - bytes.end + end..range.end - bytes.end + end;
    let behind = old.iter().filter(|error| !at_end && error.range.start >= bytes.end).map(|error| {
        let mut error = error.clone();
        error.range = shift(&error.range);
        for (range, _) in error.fix.iter_mut().flat_map(|fix| &mut fix.edits) {
            *range = shift(range);
        }
        error
    });
    before.cloned().chain(lines.errors.iter().cloned()).chain(behind).collect()
}

/// Replaces the pieces of a window; `delta` is how far the text behind it moves.
fn splice_flat(old: &Flat, window: Range<usize>, new: Flat, delta: i64) -> Flat {
    let event_at = |idx: usize| old.pieces.get(idx).map_or(old.events.len(), |piece| piece.event as usize);
    let events = event_at(window.start)..event_at(window.end);
    let (start, end) = (window.start as u32, window.end as u32);
    let first_node = old.nodes.partition_point(|node| node.start < start);
    let nodes = first_node..old.nodes.partition_point(|node| node.start < end).max(first_node);
    let n_events = new.events.len() as i64 - events.len() as i64;
    let n_pieces = new.pieces.len() as i64 - window.len() as i64;
    let n_nodes = new.nodes.len() as i64 - nodes.len() as i64;

    let moved = |value: u32, by: i64| (i64::from(value) + by) as u32;
    let shifted =
        |piece: &Piece| Piece { end: moved(piece.end, delta), event: moved(piece.event, n_events), ..*piece };
    let inserted = |piece: &Piece| Piece { event: piece.event + events.start as u32, ..*piece };
    let mut pieces = Vec::with_capacity(old.pieces.len() + new.pieces.len());
    pieces.extend_from_slice(&old.pieces[..window.start]);
    pieces.extend(new.pieces.iter().map(inserted));
    pieces.extend(old.pieces[window.end..].iter().map(shifted));

    let shifted = |event: &Event| match *event {
        Event::Leaf(kind, end) => Event::Leaf(kind, moved(end, delta)),
        event => event,
    };
    let mut all_events = Vec::with_capacity(old.events.len() + new.events.len());
    all_events.extend_from_slice(&old.events[..events.start]);
    all_events.extend_from_slice(&new.events);
    all_events.extend(old.events[events.end..].iter().map(shifted));

    let around = |node: &FlatNode| match node.end >= end && node.end > start {
        true => FlatNode { end: moved(node.end, n_pieces), next: moved(node.next, n_nodes), ..*node },
        false => *node,
    };
    let inserted = |node: &FlatNode| FlatNode {
        start: node.start + start,
        end: node.end + start,
        next: node.next + nodes.start as u32,
        ..*node
    };
    let shifted = |node: &FlatNode| FlatNode {
        start: moved(node.start, n_pieces),
        end: moved(node.end, n_pieces),
        next: moved(node.next, n_nodes),
        ..*node
    };
    let mut all_nodes = Vec::with_capacity(old.nodes.len() + new.nodes.len());
    all_nodes.extend(old.nodes[..nodes.start].iter().map(around));
    all_nodes.extend(new.nodes.iter().map(inserted));
    all_nodes.extend(old.nodes[nodes.end..].iter().map(shifted));
    Flat { start: old.start, pieces, events: all_events, nodes: all_nodes }
}
