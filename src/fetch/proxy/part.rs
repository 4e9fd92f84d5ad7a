//! Parts of answers: what is recorded is always the whole, so a part is taken from that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::exchange::{Exchange, Failure, start};
use super::reply::{Reply, Start};
use super::request::Range;
use crate::fetch::http::Error;
use crate::lock::NetworkEntry;

/// The bytes of a body that a range means.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From one byte to another, both included.
    Some(u64, u64),
    /// The body has none of them.
    Nothing,
    /// The range does not count.
    Whole,
}

impl Exchange {
    /// Sends a part of an answer whose body is in the store.
    pub(super) fn send_part(
        &self,
        entry: &NetworkEntry,
        range: &Range,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let mut begin = start(entry);
        if entry.size == 0 {
            reply.begin(begin);
            return Ok(());
        }
        let (first, last) = match part(entry, range) {
            Part::Nothing => {
                let size = ("content-range".to_owned(), format!("bytes */{}", entry.size));
                reply.begin(Start { status: 416, headers: vec![size], length: Some(0) });
                return Ok(());
            }
            Part::Whole => (0, entry.size - 1),
            Part::Some(first, last) => {
                begin.status = 206;
                let range = format!("bytes {first}-{last}/{}", entry.size);
                begin.headers.push(("content-range".to_owned(), range));
                (first, last)
            }
        };
        let gone = || "its body is gone from the store".to_owned();
        let path = self.store.fetched(&entry.sha256, entry.size).map_err(Error::from)?.ok_or_else(gone)?;
        let named = |source| Error::File { path: path.clone(), source };
        let mut file = File::open(&path).map_err(named)?;
        file.seek(SeekFrom::Start(first)).map_err(named)?;
        let length = last - first + 1;
        reply.begin(Start { length: Some(length), ..begin });
        let mut body = file.take(length);
        let mut piece = vec![0; 64 * 1024];
        loop {
            match body.read(&mut piece).map_err(named)? {
                0 if body.limit() > 0 => return Err(gone().into()),
                0 => return Ok(()),
                n_read => reply.push(piece.get(..n_read).unwrap_or_default()),
            }
        }
    }
}

fn part(entry: &NetworkEntry, range: &Range) -> Part {
    let is = |wanted: &String| {
        let marks = ["etag", "last-modified"];
        entry.headers.iter().any(|(name, value)| marks.contains(&name.as_str()) && value == wanted)
    };
    if entry.status != 200 || !range.unless_changed.as_ref().is_none_or(is) {
        return Part::Whole;
    }
    let end = entry.size - 1;
    match (range.first, range.last) {
        (Some(first), _) if first > end => Part::Nothing,
        (Some(first), last) => Part::Some(first, last.unwrap_or(end).min(end)),
        (None, Some(0) | None) => Part::Nothing,
        (None, Some(n_last)) => Part::Some(entry.size.saturating_sub(n_last), end),
    }
}
