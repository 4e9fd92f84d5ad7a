//! The source map: which bytes of a rendered text come from which bytes of which file.
//!
//! Raw text needs no marks to be recognised. The engine writes it as slices of the template's own buffer, so the
//! address of what is written tells file and offset. Values are written from elsewhere; the probe that ran last
//! (see [`super::scan`]) tells which expression they belong to. Buffers live as long as the engine, but a value
//! may have stood where a template is loaded later: so each write knows how many templates there were.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::source::{FileId, Span};

/// Longest text that a template may produce, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// Maps byte ranges of a rendered text to spans in the sources.
#[derive(Clone, Debug)]
pub struct SourceMap {
    root: FileId,
    /// Sorted by start; each reaches up to the next.
    pieces: Vec<Piece>,
    /// Length of each file in bytes. The loader adds a final newline to files that lack one, and no span may
    /// point behind the text as it was written.
    lens: BTreeMap<FileId, u32>,
    /// Length of the rendered text.
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Copied from `file` at this offset.
    Text { file: FileId, offset: usize },
    /// Written by the tag at this span.
    Tag(Span),
}

impl SourceMap {
    /// Of a file of `len` bytes that was rendered to itself and `n_added` more bytes.
    pub(super) fn identity(root: FileId, len: usize, n_added: usize) -> SourceMap {
        let origin = Origin::Text { file: root, offset: 0 };
        let lens = BTreeMap::from([(root, len as u32)]);
        SourceMap { root, pieces: vec![Piece { start: 0, origin }], lens, len: len + n_added }
    }

    /// Where the bytes of `range` come from.
    ///
    /// Raw text maps exactly, text of a value maps to its whole tag. A range over several pieces reaches from
    /// the start of the first to the end of the last; if they are in different files, or in the wrong order (loops,
    /// blocks), the first alone is returned.
    pub fn span(&self, range: Range<usize>) -> Span {
        let last_byte = range.end.saturating_sub(1).max(range.start);
        let (Some(first), Some(last)) = (self.piece(range.start), self.piece(last_byte)) else {
            return Span::new(self.root, 0, 0);
        };
        let start = match first.origin {
            Origin::Text { file, offset } => Span::new(file, offset + (range.start - first.start), 0),
            Origin::Tag(span) => span,
        };
        let end = match last.origin {
            Origin::Text { file, offset } => {
                let len = usize::from(!range.is_empty());
                Span::new(file, 0, offset + (last_byte - last.start) + len)
            }
            Origin::Tag(span) => span,
        };
        if start.file == end.file && start.start <= end.end {
            return self.clamp(Span { end: end.end, ..start });
        }
        let first_end = match first.origin {
            Origin::Text { .. } => start.start + (self.end_of(first) - range.start) as u32,
            Origin::Tag(span) => span.end,
        };
        self.clamp(Span { end: first_end, ..start })
    }

    fn piece(&self, pos: usize) -> Option<Piece> {
        let n_before = self.pieces.partition_point(|piece| piece.start <= pos);
        self.pieces.get(n_before.checked_sub(1)?).copied()
    }

    fn end_of(&self, piece: Piece) -> usize {
        let idx = self.pieces.partition_point(|it| it.start <= piece.start);
        self.pieces.get(idx).map_or(self.len, |next| next.start)
    }

    fn clamp(&self, span: Span) -> Span {
        let len = self.lens.get(&span.file).copied().unwrap_or(u32::MAX);
        Span { start: span.start.min(len), end: span.end.min(len), ..span }
    }
}

/// One source buffer of the engine.
pub(super) struct Buffer<'a> {
    /// The text that the engine compiled.
    pub(super) source: &'a str,
    /// Which file it was made from.
    pub(super) file: FileId,
    /// How many templates were loaded before it.
    pub(super) ordinal: u32,
    /// Way back to offsets of the file.
    pub(super) original: &'a dyn Fn(usize) -> usize,
}

/// Receives the rendered text together with where it came from.
pub(super) struct Recorder<'a> {
    text: Vec<u8>,
    writes: Vec<Write>,
    marks: &'a Marks,
}

/// What the engine's hooks tell the recorder while it listens.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Number of the tag that writes now.
    pub(super) probe: AtomicU32,
    /// How many templates were loaded so far.
    pub(super) n_loaded: AtomicU32,
}

struct Write {
    start: usize,
    len: usize,
    address: usize,
    probe: u32,
    n_loaded: u32,
}

impl<'a> Recorder<'a> {
    /// A recorder that attributes what is written to what `marks` hold at that time.
    pub(super) fn new(marks: &'a Marks) -> Recorder<'a> {
        Recorder { text: Vec::new(), writes: Vec::new(), marks }
    }

    /// The text and its map. `tag` gives the place of a probe's tag.
    pub(super) fn finish(
        self,
        root: FileId,
        lens: BTreeMap<FileId, u32>,
        mut buffers: Vec<Buffer<'_>>,
        tag: &dyn Fn(u32) -> Option<Span>,
    ) -> (String, SourceMap) {
        buffers.sort_by_key(|it| it.source.as_ptr() as usize);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut here = Span::new(root, 0, 0);
        for write in &self.writes {
            let origin = match buffer_at(&buffers, write) {
                Some(buffer) => {
                    let offset = (buffer.original)(write.address - buffer.source.as_ptr() as usize);
                    here = Span::new(buffer.file, offset + write.len, offset + write.len);
                    Origin::Text { file: buffer.file, offset }
                }
                None => Origin::Tag(tag(write.probe).unwrap_or(here)),
            };
            let goes_on = match (pieces.last(), origin) {
                (Some(Piece { origin: Origin::Tag(before), .. }), Origin::Tag(span)) => *before == span,
                _ => false,
            };
            if !goes_on {
                pieces.push(Piece { start: write.start, origin });
            }
        }
        let len = self.text.len();
        // Only whole strings were written, so nothing is lost here.
        let text = String::from_utf8_lossy(&self.text).into_owned();
        (text, SourceMap { root, pieces, lens, len })
    }
}

fn buffer_at<'b, 'a>(buffers: &'b [Buffer<'a>], write: &Write) -> Option<&'b Buffer<'a>> {
    let n_before = buffers.partition_point(|it| it.source.as_ptr() as usize <= write.address);
    let buffer = buffers.get(n_before.checked_sub(1)?)?;
    let end = buffer.source.as_ptr() as usize + buffer.source.len();
    (write.address + write.len <= end && buffer.ordinal < write.n_loaded).then_some(buffer)
}

impl io::Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the rendered text is longer than 64 MiB"));
        }
        if !bytes.is_empty() {
            self.writes.push(Write {
                start: self.text.len(),
                len: bytes.len(),
                address: bytes.as_ptr() as usize,
                probe: self.marks.probe.load(Ordering::Relaxed),
                n_loaded: self.marks.n_loaded.load(Ordering::Relaxed),
            });
            self.text.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
