//! Decompressing and hashing a layer in a thread of its own, some way ahead of what is done with it.

use std::io::{BufRead, BufReader, Read, Result};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use super::super::error::{Context, Trouble};
use crate::archive::Compression;

/// Bytes that are handed over at a time, and how many such pieces may wait.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 16;

/// Digests (hex) of a layer.
pub(super) struct Digests {
    /// Of the tar file.
    pub tar: String,
    /// Of the layer as it is stored.
    pub stored: String,
}

/// The end that decompresses.
pub(super) struct Chunks(SyncSender<Result<Vec<u8>>>);

/// The end that reads what is decompressed.
pub(super) struct Received {
    chunks: Receiver<Result<Vec<u8>>>,
    chunk: Vec<u8>,
    read: usize,
}

/// Both ends.
pub(super) fn channel() -> (Chunks, Received) {
    let (send, chunks) = sync_channel(WAITING);
    (Chunks(send), Received { chunks, chunk: Vec::new(), read: 0 })
}

/// Decompresses a blob to its end; in the end its digests are known. It ends early when nobody reads any more.
pub(super) fn decompress(blob: impl Read, chunks: Chunks) -> std::result::Result<Digests, Trouble> {
    let mut stored = BufReader::with_capacity(CHUNK, Hashed { inner: blob, hasher: Sha256::new() });
    let tar = match send_all(&mut stored, &chunks) {
        Ok(tar) => tar,
        Err(error) => {
            let told = Trouble(format!("cannot read: {error}"));
            // It is told by whoever reads.
            let _ = chunks.0.send(Err(error));
            return Err(told);
        }
    };
    // The end of what is read: this must not wait for what follows a compressed file.
    drop(chunks);
    std::io::copy(&mut stored, &mut std::io::sink()).context(|| "cannot read")?;
    Ok(Digests { tar: hex(tar), stored: hex(stored.into_inner().hasher) })
}

fn send_all<R: Read>(stored: &mut BufReader<R>, chunks: &Chunks) -> Result<Sha256> {
    let mut tar: Box<dyn Read + '_> = match Compression::of(stored.fill_buf()?) {
        Compression::None => Box::new(stored),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stored)?),
        Compression::Other(name) => {
            let message = format!("it is compressed with {name}, which images must not be");
            return Err(std::io::Error::other(message));
        }
    };
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        tar.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(hasher);
        }
        hasher.update(&chunk);
        if chunks.0.send(Ok(chunk)).is_err() {
            return Err(std::io::Error::other("nobody reads it"));
        }
    }
}

fn hex(hasher: Sha256) -> String {
    format!("{:x}", hasher.finalize())
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.read == self.chunk.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.chunk, self.read) = (chunk?, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = self.chunk.get(self.read..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.read += n;
        Ok(n)
    }
}

/// A reader that hashes what goes through it.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n_read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..n_read).unwrap_or_default());
        Ok(n_read)
    }
}
