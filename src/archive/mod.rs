//! Tar files that strangers made: read with bounded memory, and their members found by name.

mod unpack;

use std::cell::Cell;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tar::EntryType;

pub use unpack::unpack;

/// Most bytes between two entries: headers and the long names and attributes that belong to them, which the tar
/// library reads into memory.
const MAX_HEADERS: u64 = 4 << 20;
/// Most entries that a member is looked for among.
const MAX_MEMBERS: u64 = 100_000;
/// Most links from name to name.
const MAX_LINKS: usize = 8;

/// A reader that ends with an error where a [`Limit`] says so.
pub struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

/// How much a [`Bounded`] reader still gives.
pub struct Limit(Rc<Cell<u64>>);

impl<R> Bounded<R> {
    /// A reader and its limit, which begins with that for headers.
    pub fn new(inner: R) -> (Bounded<R>, Limit) {
        let left = Rc::new(Cell::new(MAX_HEADERS));
        (Bounded { inner, left: left.clone() }, Limit(left))
    }
}

impl Limit {
    /// The next entry is looked for. What came before must have been read to its end.
    pub fn headers(&self) {
        self.0.set(MAX_HEADERS);
    }

    /// At most `n` bytes of content are read.
    pub fn content(&self, n: u64) {
        self.0.set(n);
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        if n == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "more bytes than an honest archive has here"));
        }
        let n_read = self.inner.read(buffer.get_mut(..n).unwrap_or_default())?;
        self.left.set(self.left.get() - n_read as u64);
        Ok(n_read)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.inner.seek(to)
    }
}

/// Where a member of a tar file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset of its content in the file.
    pub start: u64,
    /// Size of its content in bytes.
    pub size: u64,
}

/// Finds the first member of this name that is a file, through links inside of the archive.
pub fn member(file: &File, name: &str) -> Result<Option<Member>> {
    let mut wanted = match below(Path::new(name)) {
        Some(path) => path,
        None => return Ok(None),
    };
    for _ in 0..MAX_LINKS {
        match look_for(file, &wanted)? {
            Some(Found::File(member)) => return Ok(Some(member)),
            Some(Found::Link(target)) => wanted = target,
            None => return Ok(None),
        }
    }
    Err(Error::new(ErrorKind::InvalidData, format!("{name}: too many links")))
}

enum Found {
    File(Member),
    Link(PathBuf),
}

fn look_for(mut file: &File, wanted: &Path) -> Result<Option<Found>> {
    file.seek(SeekFrom::Start(0))?;
    refuse_compressed(file)?;
    file.seek(SeekFrom::Start(0))?;
    let (reader, limit) = Bounded::new(file);
    let mut archive = tar::Archive::new(reader);
    for (n, entry) in archive.entries_with_seek()?.enumerate() {
        let entry = entry.map_err(|err| Error::new(err.kind(), format!("not a whole tar file: {err}")))?;
        if n as u64 >= MAX_MEMBERS {
            return Err(Error::new(ErrorKind::InvalidData, "the archive has too many members"));
        }
        let path = entry.path()?;
        if below(&path).as_deref() == Some(wanted) {
            let target = |dir: &Path| {
                let link = entry.link_name()?;
                let path = link.and_then(|link| below(&dir.join(link)));
                path.ok_or_else(|| {
                    let message = format!("{} is a link out of the archive", wanted.display());
                    Error::new(ErrorKind::InvalidData, message)
                })
            };
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (start, size) = (entry.raw_file_position(), entry.size());
                    return Ok(Some(Found::File(Member { start, size })));
                }
                EntryType::Symlink => {
                    return target(wanted.parent().unwrap_or(Path::new(""))).map(|it| Some(Found::Link(it)));
                }
                EntryType::Link => return target(Path::new("")).map(|it| Some(Found::Link(it))),
                _ => {}
            }
        }
        limit.headers();
    }
    Ok(None)
}

/// The same path without `.` and `..`, if it stays below where it starts.
fn below(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !inside.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// Compression of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None that is known.
    None,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
    /// One that is known and not supported, with its name.
    Other(&'static str),
}

impl Compression {
    /// What a file that begins so is compressed with.
    pub fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Compression::Other("xz"),
            [b'B', b'Z', b'h', ..] => Compression::Other("bzip2"),
            _ => Compression::None,
        }
    }
}

fn refuse_compressed(file: &File) -> Result<()> {
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start)?;
    let name = match Compression::of(&start) {
        Compression::None => return Ok(()),
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Other(name) => name,
    };
    let message = format!("the archive is compressed with {name}; decompress it first");
    Err(Error::new(ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            match kind.is_file() {
                true => header.set_size(text.len() as u64),
                false => {
                    header.set_size(0);
                    header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
                }
            }
            header.set_cksum();
            builder.append(&header, if kind.is_file() { text.as_bytes() } else { b"" }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn content(mut file: &File, name: &str) -> String {
        match member(file, name) {
            Ok(Some(Member { start, size })) => {
                let mut text = String::new();
                file.seek(SeekFrom::Start(start)).unwrap();
                file.take(size).read_to_string(&mut text).unwrap();
                text
            }
            Ok(None) => "nothing".into(),
            Err(err) => format!("error: {err}"),
        }
    }

    #[test]
    fn members_by_name() {
        let file = archive(&[
            ("./a", EntryType::Regular, "A"),
            ("d/", EntryType::Directory, ""),
            ("d/b", EntryType::Regular, "B"),
            ("d/link", EntryType::Symlink, "../a"),
            ("d/hard", EntryType::Link, "d/b"),
            ("d/out", EntryType::Symlink, "../../etc/passwd"),
            ("d/abs", EntryType::Symlink, "/etc/passwd"),
            ("loop", EntryType::Symlink, "loop"),
            ("a", EntryType::Regular, "second"),
        ]);
        for (name, expected) in [
            ("a", "A"),
            ("d/b", "B"),
            ("d/link", "A"),
            ("d/hard", "B"),
            ("none", "nothing"),
            ("../a", "nothing"),
            ("d/out", "error: d/out is a link out of the archive"),
            ("d/abs", "error: d/abs is a link out of the archive"),
            ("loop", "error: loop: too many links"),
        ] {
            assert_eq!(content(&file, name), expected, "{name}");
        }
    }

    #[test]
    fn compressed_and_hostile_archives() {
        let mut gzip = tempfile::tempfile().unwrap();
        gzip.write_all(&[0x1f, 0x8b, 8, 0]).unwrap();
        assert_eq!(content(&gzip, "a"), "error: the archive is compressed with gzip; decompress it first");
        // A name of 64 MiB.
        let mut long = tar::Header::new_gnu();
        long.set_entry_type(EntryType::GNULongName);
        long.set_size(64 << 20);
        long.set_cksum();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(long.as_bytes()).unwrap();
        file.set_len(80 << 20).unwrap();
        assert_eq!(
            content(&file, "a"),
            "error: not a whole tar file: more bytes than an honest archive has here"
        );
    }
}
