//! Flat lists → rowan tree.

use rowan::{GreenNode, GreenNodeBuilder, Language, NodeCache};

use super::flat::{Event, Flat, FlatNode};
use super::kind::RaptLanguage;
use super::kind::SyntaxKind::{self, *};

/// The tree of a text.
pub(super) fn build(flat: &Flat, text: &str) -> GreenNode {
    let mut cache = NodeCache::default();
    let mut tree = Tree { flat, text, builder: GreenNodeBuilder::with_cache(&mut cache), pos: 0 };
    tree.builder.start_node(raw(ROOT));
    let mut open: Vec<&FlatNode> = Vec::new();
    for (idx, node) in flat.nodes.iter().enumerate() {
        while let Some(before) = open.pop_if(|before| before.next as usize <= idx) {
            tree.close(before.end);
        }
        tree.pieces(node.start);
        tree.builder.start_node(raw(node.kind));
        open.push(node);
    }
    while let Some(node) = open.pop() {
        tree.close(node.end);
    }
    tree.pieces(flat.pieces.len() as u32);
    tree.builder.finish_node();
    tree.builder.finish()
}

struct Tree<'a, 'cache> {
    flat: &'a Flat,
    text: &'a str,
    builder: GreenNodeBuilder<'cache>,
    /// Pieces that are in the tree.
    pos: u32,
}

impl Tree<'_, '_> {
    fn close(&mut self, end: u32) {
        self.pieces(end);
        self.builder.finish_node();
    }

    fn pieces(&mut self, end: u32) {
        while self.pos < end {
            self.piece(self.pos as usize);
            self.pos += 1;
        }
    }

    fn piece(&mut self, idx: usize) {
        let mut start = self.flat.offset(idx);
        let events = self.flat.events(idx);
        if events.is_empty() {
            self.builder.token(raw(self.flat.pieces[idx].kind), &self.text[self.flat.range(idx)]);
        }
        for event in events {
            match *event {
                Event::Start(kind) => self.builder.start_node(raw(kind)),
                Event::Finish => self.builder.finish_node(),
                Event::Leaf(kind, end) => {
                    self.builder.token(raw(kind), &self.text[start..end as usize]);
                    start = end as usize;
                }
            }
        }
    }
}

fn raw(kind: SyntaxKind) -> rowan::SyntaxKind {
    RaptLanguage::kind_to_raw(kind)
}
