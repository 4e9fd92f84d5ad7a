//! The tree as two flat lists: pieces in the order of the text, and nodes that span runs of them.
//!
//! It is all that statements need; the rowan tree is made from it when somebody asks for one. Offsets and
//! indices have 32 bits, as those of rowan.

use std::ops::Range;

use super::kind::SyntaxKind::{self, *};

/// How the leaves of the tree follow each other inside a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    /// A group begins.
    Start(SyntaxKind),
    /// One token; it ends at this offset.
    Leaf(SyntaxKind, u32),
    /// The innermost group ends.
    Finish,
}

/// What a piece means for words and lines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Part of a word.
    Word,
    /// Stands between words.
    Blank,
    /// A template without text of its own: part of a word if it is glued to one, otherwise between words.
    Tag,
    /// Ends the line.
    End,
}

impl Role {
    /// The role of most pieces of a kind.
    pub(super) fn of(kind: SyntaxKind) -> Role {
        match kind {
            WHITESPACE | STRIPPED | LINE_STATEMENT => Role::Blank,
            TEMPLATE_BLOCK | TEMPLATE_COMMENT => Role::Tag,
            NEWLINE | COMMENT | EOF | HEREDOC_BODY | HEREDOC_END => Role::End,
            _ => Role::Word,
        }
    }

    /// Whether a word may go on with it.
    pub(super) fn is_word(self) -> bool {
        matches!(self, Role::Word | Role::Tag)
    }

    /// Whether it may stand between words.
    pub(super) fn is_trivia(self) -> bool {
        matches!(self, Role::Blank | Role::Tag)
    }
}

/// One token, or a group of tokens: string, comment, template, text of a heredoc.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// Where it ends; it starts where the piece before it ends.
    pub end: u32,
    /// Its first event; a single token has none.
    pub event: u32,
    /// Kind of the token or of the group.
    pub kind: SyntaxKind,
    /// What it means for words and lines.
    pub role: Role,
    /// Whether there is a template in it.
    pub templated: bool,
}

/// A node above the pieces. They are in preorder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FlatNode {
    /// Its kind.
    pub kind: SyntaxKind,
    /// In a statement: it has no error and no template.
    pub clear: bool,
    /// First piece.
    pub start: u32,
    /// One past its last piece.
    pub end: u32,
    /// The next node that is not inside of it.
    pub next: u32,
}

/// Pieces and nodes of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flat {
    /// Offset of the first piece.
    pub start: u32,
    /// They leave no gaps.
    pub pieces: Vec<Piece>,
    /// Insides of the groups.
    pub events: Vec<Event>,
    /// Nodes below the root.
    pub nodes: Vec<FlatNode>,
}

impl Flat {
    /// Start of the `idx`-th piece; for the number of pieces, the end of the text.
    pub(super) fn offset(&self, idx: usize) -> usize {
        match idx.checked_sub(1).and_then(|before| self.pieces.get(before)) {
            Some(piece) => piece.end as usize,
            None => self.start as usize,
        }
    }

    /// Bytes of the `idx`-th piece.
    pub(super) fn range(&self, idx: usize) -> Range<usize> {
        let start = self.offset(idx);
        start..self.pieces.get(idx).map_or(start, |piece| piece.end as usize)
    }

    /// The inside of the `idx`-th piece.
    pub(super) fn events(&self, idx: usize) -> &[Event] {
        let start = self.pieces.get(idx).map_or(self.events.len(), |piece| piece.event as usize);
        let end = self.pieces.get(idx + 1).map_or(self.events.len(), |piece| piece.event as usize);
        &self.events[start..end]
    }

    /// All statements, also in sections of templates.
    pub(super) fn statements<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Node<'a>> {
        let nodes = (0..self.nodes.len()).map(move |idx| Node { flat: self, text, idx });
        nodes.filter(|node| node.kind().is_statement())
    }
}

/// A node with its tree.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    flat: &'a Flat,
    text: &'a str,
    idx: usize,
}

impl<'a> Node<'a> {
    fn data(self) -> &'a FlatNode {
        &self.flat.nodes[self.idx]
    }

    /// Its kind.
    pub(super) fn kind(self) -> SyntaxKind {
        self.data().kind
    }

    /// Whether nothing is wrong or uncertain in a statement.
    pub(super) fn is_clear(self) -> bool {
        self.data().clear
    }

    /// Bytes of the text.
    pub(super) fn range(self) -> Range<usize> {
        let node = self.data();
        self.flat.offset(node.start as usize)..self.flat.offset(node.end as usize)
    }

    /// Its text.
    pub(super) fn text(self) -> &'a str {
        &self.text[self.range()]
    }

    /// Nodes directly below it.
    pub(super) fn children(self) -> impl Iterator<Item = Node<'a>> {
        let end = self.data().next as usize;
        let mut next = self.idx + 1;
        std::iter::from_fn(move || {
            let child = Node { idx: next, ..self };
            (next < end).then(|| {
                next = child.data().next as usize;
                child
            })
        })
    }

    /// The children of one kind.
    pub(super) fn children_of(self, kind: SyntaxKind) -> impl Iterator<Item = Node<'a>> {
        self.children().filter(move |child| child.kind() == kind)
    }

    /// Text and range of its first piece of one kind.
    pub(super) fn piece(self, kind: SyntaxKind) -> Option<(&'a str, Range<usize>)> {
        let node = self.data();
        let found =
            (node.start as usize..node.end as usize).find(|idx| self.flat.pieces[*idx].kind == kind)?;
        let range = self.flat.range(found);
        Some((&self.text[range.clone()], range))
    }

    /// All pieces in it, those of nodes below too.
    pub(super) fn pieces(self) -> impl Iterator<Item = (SyntaxKind, &'a str)> + Clone {
        let Node { flat, text, .. } = self;
        let node = self.data();
        let pieces = &flat.pieces[node.start as usize..node.end as usize];
        let mut start = flat.offset(node.start as usize);
        pieces.iter().map(move |piece| {
            let raw = &text[start..piece.end as usize];
            start = piece.end as usize;
            (piece.kind, raw)
        })
    }
}
