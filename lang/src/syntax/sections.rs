//! Template blocks in source text: which tag opens, continues or closes which section.
//!
//! A section becomes a node that encloses what it governs if it nests with the statements and words around
//! it. Templates may cut the text anywhere, so others do not: their tags stay as they are.

use std::cmp::Reverse;
use std::ops::Range;

use super::flat::{Event, Flat, FlatNode, Role};
use super::kind::SyntaxKind::*;

/// How deep sections may be nested; deeper ones are no nodes.
const MAX_DEPTH: usize = 100;

/// Tags that open a section, and those that close it.
const SECTIONS: &[(&str, &str)] = &[
    ("if", "endif"),
    ("for", "endfor"),
    ("set", "endset"),
    ("with", "endwith"),
    ("macro", "endmacro"),
    ("call", "endcall"),
    ("filter", "endfilter"),
    ("autoescape", "endautoescape"),
    ("block", "endblock"),
    ("raw", "endraw"),
];

/// Sections whose text does not go where it stands.
const CAPTURES: &[&str] = &["macro", "call", "filter", "set"];

/// The sections of a text.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Those between pieces, outer before inner.
    sections: Vec<Section>,
    /// Pieces whose text goes elsewhere.
    captures: Vec<Range<usize>>,
    /// Tags between pieces, each with the tag that opens its section; in order.
    openers: Vec<(usize, usize)>,
    /// Whether a part of the text is raw.
    has_raw: bool,
}

#[derive(Debug)]
struct Section {
    /// Indices of its tags, of pieces or of events.
    tags: Vec<usize>,
    /// One past its last tag.
    end: usize,
}

/// Pairs the tags of a text. Gives tags of sections their roles, and adds the sections that lie inside of one
/// string, comment or heredoc to its events.
pub(super) fn find(flat: &mut Flat, text: &str) -> Sections {
    let mut pairing = Pairing { counts: vec![0; SECTIONS.len()], ..Pairing::default() };
    for tag in tags(flat, text) {
        pairing.tag(&tag);
    }
    let Pairing { open, mut between, inside, mut captures, has_raw, .. } = pairing;
    for section in open.iter().filter(|it| it.captures()) {
        captures.push(section.piece..flat.pieces.len());
    }
    add_events(flat, &inside);
    set_roles(flat, &between);
    between.sort_by_key(|section| (section.tags.first().copied(), Reverse(section.end)));
    let mut openers: Vec<_> = between.iter().flat_map(Section::openers).collect();
    openers.sort_unstable();
    Sections { sections: between, captures: merged(captures), openers, has_raw }
}

impl Sections {
    /// Runs of pieces whose text does not go where it stands, last one first.
    pub(super) fn captures(&self) -> Vec<Range<usize>> {
        self.captures.iter().rev().cloned().collect()
    }

    /// Whether a line without tags means the same inside and outside of every section.
    pub(super) fn is_context_free(&self) -> bool {
        self.captures.is_empty() && !self.has_raw
    }

    /// The tag that opens the section of the tag at `piece`.
    pub(super) fn opener(&self, piece: usize) -> Option<usize> {
        let idx = self.openers.binary_search_by_key(&piece, |it| it.0).ok()?;
        self.openers.get(idx).map(|it| it.1)
    }

    /// Makes nodes of all sections that nest with the nodes of the tree.
    pub(super) fn insert_into(&self, flat: &mut Flat) {
        if self.sections.is_empty() {
            return;
        }
        let mut marks: Vec<_> =
            self.sections.iter().enumerate().flat_map(|(id, it)| it.marks(id as u32)).collect();
        marks.sort_by_key(|mark| (mark.node.start, Reverse(mark.node.end)));
        let nests = self.nesting(&merge(&flat.nodes, &marks));
        marks.retain(|mark| nests[mark.section as usize]);
        let mut nodes: Vec<FlatNode> = Vec::with_capacity(flat.nodes.len() + marks.len());
        let mut open: Vec<usize> = Vec::new();
        for (node, _) in merge(&flat.nodes, &marks) {
            while let Some(idx) = open.pop_if(|idx| nodes[*idx].end <= node.start) {
                nodes[idx].next = nodes.len() as u32;
            }
            open.push(nodes.len());
            nodes.push(node);
        }
        for idx in open {
            nodes[idx].next = nodes.len() as u32;
        }
        flat.nodes = nodes;
    }

    /// Which sections overlap no node but those that they enclose or that enclose them.
    fn nesting(&self, merged: &[(FlatNode, Option<u32>)]) -> Vec<bool> {
        let mut nests = vec![true; self.sections.len()];
        let mut open: Vec<(u32, Option<u32>)> = Vec::new();
        for &(node, section) in merged {
            while open.pop_if(|(end, _)| *end <= node.start).is_some() {}
            match section {
                Some(section) => {
                    if open.last().is_some_and(|(end, _)| *end < node.end) {
                        nests[section as usize] = false;
                        continue;
                    }
                }
                None => {
                    while let Some((_, Some(outer))) = open.pop_if(|(end, _)| *end < node.end) {
                        nests[outer as usize] = false;
                    }
                }
            }
            open.push((node.end, section));
        }
        nests
    }
}

/// A node that a section would like to be.
struct Mark {
    node: FlatNode,
    section: u32,
}

impl Section {
    fn marks(&self, section: u32) -> Vec<Mark> {
        let mark = |kind, start: usize, end: usize| {
            let node = FlatNode { kind, clear: true, start: start as u32, end: end as u32, next: 0 };
            Mark { node, section }
        };
        let first = self.tags.first().copied().unwrap_or(self.end);
        let clauses = self.tags.windows(2).map(|tags| mark(CLAUSE, tags[0], tags[1]));
        [mark(BLOCK, first, self.end)].into_iter().chain(clauses).collect()
    }

    fn openers(&self) -> impl Iterator<Item = (usize, usize)> {
        let first = self.tags.first().copied().unwrap_or(self.end);
        self.tags.iter().map(move |tag| (*tag, first))
    }
}

/// Nodes and marks in preorder, marks with their section. Of two with the same pieces the node is outside.
fn merge(nodes: &[FlatNode], marks: &[Mark]) -> Vec<(FlatNode, Option<u32>)> {
    let mut merged = Vec::with_capacity(nodes.len() + marks.len());
    let mut marks = marks.iter().peekable();
    for node in nodes {
        let is_before =
            |mark: &&Mark| (mark.node.start, Reverse(mark.node.end)) < (node.start, Reverse(node.end));
        while let Some(mark) = marks.next_if(is_before) {
            merged.push((mark.node, Some(mark.section)));
        }
        merged.push((*node, None));
    }
    merged.extend(marks.map(|mark| (mark.node, Some(mark.section))));
    merged
}

/// A tag with its place.
struct Tag<'a> {
    keyword: &'a str,
    /// Whether it is a `set` with a `=`.
    assigns: bool,
    /// The piece that it is, or that it is in.
    piece: usize,
    /// Its events, if it is inside of a string, a comment or a heredoc.
    events: Option<Range<usize>>,
}

fn tags<'a>(flat: &Flat, text: &'a str) -> Vec<Tag<'a>> {
    let mut tags = Vec::new();
    let mut event = 0;
    for (piece, it) in flat.pieces.iter().enumerate() {
        let events = flat.events(piece);
        if it.templated {
            let is_tag = |event: &Event| matches!(event, Event::Start(TEMPLATE_BLOCK | LINE_STATEMENT));
            let mut from = 0;
            while let Some(len) = events[from..].iter().position(is_tag) {
                let start = from + len;
                let n_events = events[start..].iter().take_while(|it| **it != Event::Finish).count() + 1;
                let (keyword, assigns) = read_tag(&events[start..start + n_events], text);
                let place = event + start..event + start + n_events;
                let is_inside = matches!(it.kind, STRING | COMMENT | HEREDOC_BODY);
                tags.push(Tag { keyword, assigns, piece, events: is_inside.then_some(place) });
                from = start + n_events;
            }
        }
        event += events.len();
    }
    tags
}

/// The keyword of a tag, and whether a `=` stands outside of its brackets.
fn read_tag<'a>(events: &[Event], text: &'a str) -> (&'a str, bool) {
    let mut keyword = None;
    let mut assigns = false;
    let mut depth = 0usize;
    let mut start = None;
    for event in events {
        let Event::Leaf(kind, end) = *event else { continue };
        let raw = start.map_or("", |start| &text[start..end as usize]);
        start = Some(end as usize);
        match (kind, raw) {
            (TEMPLATE_NAME, _) => drop(keyword.get_or_insert(raw)),
            (TEMPLATE_OPERATOR, "(" | "[" | "{") => depth += 1,
            (TEMPLATE_OPERATOR, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (TEMPLATE_OPERATOR, "=") => assigns |= depth == 0,
            _ => {}
        }
        if !matches!(kind, TEMPLATE_OPEN | WHITESPACE) {
            keyword.get_or_insert("");
        }
    }
    (keyword.unwrap_or(""), assigns)
}

/// A section that is not closed yet.
struct Open {
    /// Index into [`SECTIONS`].
    kind: usize,
    /// The piece that its first tag is or is in.
    piece: usize,
    /// Whether all its tags are inside of that piece.
    inside: bool,
    tags: Vec<usize>,
    /// Whether all its tags are in one place.
    together: bool,
}

impl Open {
    fn captures(&self) -> bool {
        SECTIONS.get(self.kind).is_some_and(|(name, _)| CAPTURES.contains(name))
    }

    fn add(&mut self, tag: &Tag<'_>) {
        let is_near = self.inside == tag.events.is_some() && (!self.inside || self.piece == tag.piece);
        self.together &= is_near;
        self.tags.push(tag.events.as_ref().map_or(tag.piece, |events| events.start));
    }
}

#[derive(Default)]
struct Pairing {
    open: Vec<Open>,
    /// How many sections of each kind are open.
    counts: Vec<usize>,
    between: Vec<Section>,
    inside: Vec<Section>,
    captures: Vec<Range<usize>>,
    has_raw: bool,
}

impl Pairing {
    fn tag(&mut self, tag: &Tag<'_>) {
        self.has_raw |= tag.keyword == "raw";
        let opens = |it: &&(&str, &str)| it.0 == tag.keyword && !(it.0 == "set" && tag.assigns);
        if matches!(tag.keyword, "else" | "elif") {
            if let Some(section) = self.open.last_mut() {
                section.add(tag);
            }
        } else if let Some(kind) = SECTIONS.iter().position(|it| opens(&it)) {
            let (piece, inside) = (tag.piece, tag.events.is_some());
            let mut section = Open { kind, piece, inside, tags: Vec::new(), together: true };
            section.add(tag);
            self.open.push(section);
            self.counts[kind] += 1;
        } else if let Some(kind) = SECTIONS.iter().position(|it| it.1 == tag.keyword) {
            self.close(kind, tag);
        }
    }

    /// Closes the innermost section of this kind; those inside of it have no end.
    fn close(&mut self, kind: usize, tag: &Tag<'_>) {
        if self.counts[kind] == 0 {
            return;
        }
        while let Some(mut section) = self.open.pop() {
            self.counts[section.kind] -= 1;
            if section.kind != kind {
                continue;
            }
            section.add(tag);
            if section.captures() {
                self.captures.push(section.piece..tag.piece);
            }
            if section.together && self.open.len() < MAX_DEPTH {
                let end = tag.events.as_ref().map_or(tag.piece + 1, |events| events.end);
                let sections = if section.inside { &mut self.inside } else { &mut self.between };
                sections.push(Section { tags: section.tags, end });
            }
            return;
        }
    }
}

/// A section in one word is part of that word; the tags of others stand between words.
fn set_roles(flat: &mut Flat, sections: &[Section]) {
    if sections.is_empty() {
        return;
    }
    // How many pieces in front of each end a word, and how many have text.
    let counts: Vec<(u32, u32)> = flat
        .pieces
        .iter()
        .scan((0, 0), |counts, piece| {
            let before = *counts;
            counts.0 += u32::from(!piece.role.is_word());
            counts.1 += u32::from(piece.role == Role::Word);
            Some(before)
        })
        .collect();
    for section in sections {
        let Some(&first) = section.tags.first() else { continue };
        let (breaks, words) = counts[section.end - 1];
        let role =
            if breaks == counts[first].0 && words > counts[first].1 { Role::Word } else { Role::Blank };
        for tag in &section.tags {
            flat.pieces[*tag].role = role;
        }
    }
}

/// Puts nodes for sections into the insides of pieces.
fn add_events(flat: &mut Flat, sections: &[Section]) {
    if sections.is_empty() {
        return;
    }
    // Ends come before what begins at the same place.
    let mut inserts: Vec<(usize, bool, &[Event])> = Vec::new();
    for section in sections {
        let [first, middle @ .., last] = section.tags.as_slice() else { continue };
        inserts.push((*first, true, &[Event::Start(BLOCK), Event::Start(CLAUSE)]));
        inserts.extend(middle.iter().map(|tag| (*tag, true, &[Event::Finish, Event::Start(CLAUSE)] as &[_])));
        inserts.push((*last, true, &[Event::Finish]));
        inserts.push((section.end, false, &[Event::Finish]));
    }
    inserts.sort_by_key(|it| (it.0, it.1));
    let mut inserts = inserts.into_iter().peekable();
    let mut events = Vec::with_capacity(flat.events.len() + 6 * sections.len());
    for idx in 0..flat.pieces.len() {
        let old = flat.pieces[idx].event as usize;
        let len = flat.events(idx).len();
        flat.pieces[idx].event = events.len() as u32;
        for at in old..old + len {
            while let Some((_, _, added)) = inserts.next_if(|it| it.0 <= at) {
                events.extend_from_slice(added);
            }
            events.push(flat.events[at]);
        }
    }
    flat.events = events;
}

/// Ranges in order, those that touch joined.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
