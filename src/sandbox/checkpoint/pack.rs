//! Packs: contents of files, one after the other in one file. Large ones share their blocks with the files where the
//! file system can, and keep their holes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

use super::super::error::{Context, Trouble};
use super::super::mounts::last_errno;
use super::image::Content;

/// Files of at least this many bytes are not read into memory.
const LARGE: u64 = 1 << 17;
/// Blocks can be shared in units of this.
const BLOCK: u64 = 4096;
/// Small contents are written together.
const BUFFER: usize = 1 << 20;

/// A pack being written.
pub(super) struct Writer {
    file: File,
    /// Index of the pack.
    idx: u32,
    /// How much of the pack is in the file.
    written: u64,
    /// What comes next.
    buffer: Vec<u8>,
    can_share: bool,
}

impl Writer {
    /// An empty pack.
    pub fn create(path: &Path, idx: usize) -> Result<Writer, Trouble> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.context(|| path.display())?;
        let idx = u32::try_from(idx).context(|| path.display())?;
        Ok(Writer { file, idx, written: 0, buffer: Vec::new(), can_share: true })
    }

    /// Adds the content of a file, unless it is `known` already.
    pub fn add(&mut self, path: &Path, size: u64, known: Option<Content>) -> Result<Content, Trouble> {
        let mut file = File::open(path).context(|| path.display())?;
        let known = known.filter(|it| it.size == size);
        if size < LARGE {
            let mut content = Vec::new();
            file.take(LARGE).read_to_end(&mut content).context(|| path.display())?;
            if content.len() as u64 != size {
                return Err(Trouble(format!("{} changes while it is read", path.display())));
            }
            let blake3 = *blake3::hash(&content).as_bytes();
            if let Some(known) = known.filter(|it| it.blake3 == blake3) {
                return Ok(known);
            }
            let offset = self.written + self.buffer.len() as u64;
            self.buffer.extend_from_slice(&content);
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
            return Ok(Content { pack: self.idx, offset, size, blake3 });
        }
        let blake3 = hash(&mut file).context(|| path.display())?;
        if let Some(known) = known.filter(|it| it.blake3 == blake3) {
            return Ok(known);
        }
        let end = self.written + self.buffer.len() as u64;
        let offset = end.next_multiple_of(BLOCK);
        self.buffer.resize(self.buffer.len() + (offset - end) as usize, 0);
        self.flush()?;
        if !(self.can_share && share(&file, 0, &self.file, offset, 0)) {
            self.can_share = false;
            copy(&mut file, 0, &mut self.file, offset, size).context(|| path.display())?;
        }
        self.written = offset + size;
        self.file.set_len(self.written).context(|| "pack")?;
        Ok(Content { pack: self.idx, offset, size, blake3 })
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), Trouble> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.file.write_all_at(&self.buffer, self.written).context(|| "pack")?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Puts a content of a pack into an empty file. False if the pack does not have it any more.
pub(super) fn extract(pack: &mut File, content: &Content, to: &mut File) -> std::io::Result<bool> {
    let Content { offset, size, blake3, .. } = *content;
    if size < LARGE {
        let mut bytes = vec![0; size as usize];
        match pack.read_exact_at(&mut bytes, offset) {
            Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if *blake3::hash(&bytes).as_bytes() != blake3 {
            return Ok(false);
        }
        return to.write_all(&bytes).map(|()| true);
    }
    let whole = size - size % BLOCK;
    let shared = if share(pack, offset, to, 0, whole) { whole } else { 0 };
    copy(pack, offset + shared, to, shared, size - shared)?;
    to.set_len(size)?;
    Ok(hash(to)? == blake3)
}

fn hash(file: &mut File) -> std::io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
    Ok(*blake3::Hasher::new().update_reader(file)?.finalize().as_bytes())
}

/// Lets two files share blocks; a length of 0 is up to the end. False if the file system cannot.
fn share(from: &File, at: u64, to: &File, offset: u64, length: u64) -> bool {
    let range = libc::file_clone_range {
        src_fd: i64::from(from.as_raw_fd()),
        src_offset: at,
        src_length: length,
        dest_offset: offset,
    };
    // SAFETY: both descriptors are open, and the kernel only reads `range`.
    unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE as _, &range) == 0 }
}

/// Copies the data of a range; holes stay holes.
fn copy(from: &mut File, start: u64, to: &mut File, offset: u64, length: u64) -> std::io::Result<()> {
    let end = start + length;
    let mut at = start;
    while at < end {
        let data = match seek(from, at, libc::SEEK_DATA) {
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
            Ok(data) if data >= end => break,
            Ok(data) => data,
        };
        at = seek(from, data, libc::SEEK_HOLE)?.min(end);
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(offset + (data - start)))?;
        std::io::copy(&mut (&*from).take(at - data), to)?;
    }
    Ok(())
}

fn seek(file: &File, at: u64, whence: i32) -> Result<u64, Errno> {
    // SAFETY: lseek(2) touches no memory.
    let found = unsafe { libc::lseek(file.as_raw_fd(), at as libc::off_t, whence) };
    u64::try_from(found).map_err(|_| last_errno())
}
