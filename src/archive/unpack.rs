//! Unpacking of whole tar files into a directory of ours, without any help of the kernel against what is in them.
//!
//! Nothing is ever written through a link: each name is looked up among those that the archive made itself.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tar::EntryType;

use super::{Bounded, Compression, below};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes of all its files.
const MAX_BYTES: u64 = 16 << 30;
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 256;

/// What an archive made of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Dir,
    File,
    Link,
}

/// Unpacks a tar file, plain or compressed with gzip, xz or Zstandard, into an empty directory. Files become 0644 or
/// 0755, links stay as they are, owners and times do not matter. `strip` directories are taken off each name; what has
/// not that many is left out.
pub fn unpack(file: &File, dest: &Path, strip: usize, cancel: &AtomicBool) -> Result<()> {
    let mut stored = BufReader::with_capacity(1 << 16, file);
    let start = stored.fill_buf()?;
    if start.starts_with(b"PK\x03\x04") {
        return Err(refused("it is a zip file; only tar files can be unpacked"));
    }
    let tar: Box<dyn Read + '_> = match Compression::of(start) {
        Compression::None => Box::new(stored),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stored)?),
        Compression::Other("xz") => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(stored)),
        Compression::Other(name) => {
            return Err(refused(format!("it is compressed with {name}; use gzip, xz or zstd")));
        }
    };
    let (tar, limit) = Bounded::new(tar);
    let mut unpacking = Unpacking { dest, strip, made: HashMap::new(), n_bytes: 0 };
    for (n, entry) in tar::Archive::new(tar).entries()?.enumerate() {
        let mut entry =
            entry.map_err(|err| Error::new(err.kind(), format!("not a whole tar file: {err}")))?;
        if n >= MAX_ENTRIES {
            return Err(refused(format!("it has more than {MAX_ENTRIES} entries")));
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        limit.content(MAX_BYTES);
        unpacking.entry(&mut entry)?;
        // Whatever was not read belongs to the content, too.
        std::io::copy(&mut entry, &mut std::io::sink())?;
        limit.headers();
    }
    Ok(())
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, message.into())
}

struct Unpacking<'a> {
    dest: &'a Path,
    strip: usize,
    /// Paths below `dest`.
    made: HashMap<PathBuf, Made>,
    n_bytes: u64,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let written = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let Some(path) = self.inside(&written)? else { return Ok(()) };
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if kind == EntryType::Directory {
            return self.dirs(&path);
        }
        self.dirs(path.parent().unwrap_or(Path::new("")))?;
        let file = self.dest.join(&path);
        match self.made.get(&path) {
            Some(Made::Dir) => {
                return Err(refused(format!("{} is a directory and something else", written.display())));
            }
            // As with tar, the last of a name counts.
            Some(Made::File | Made::Link) => fs::remove_file(&file)?,
            None => {}
        }
        let made = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mode = if entry.header().mode()? & 0o111 != 0 { 0o755 } else { 0o644 };
                let mut to = File::options().write(true).create_new(true).mode(mode).open(&file)?;
                let left = MAX_BYTES.saturating_sub(self.n_bytes);
                let n = std::io::copy(&mut entry.take(left + 1), &mut to)?;
                if n > left {
                    return Err(refused(format!("its files are larger than {MAX_BYTES} bytes")));
                }
                self.n_bytes += n;
                Made::File
            }
            EntryType::Symlink => {
                symlink(link_name(entry, &written)?, &file)?;
                Made::Link
            }
            EntryType::Link => {
                let name = link_name(entry, &written)?;
                let target = self.inside(&name)?.filter(|it| self.made.get(it) == Some(&Made::File));
                let Some(target) = target else {
                    let message = format!("{} is a hard link to no file of the archive", written.display());
                    return Err(refused(message));
                };
                // A copy: the tree must not remember who shares what with whom.
                self.n_bytes += fs::copy(self.dest.join(target), &file)?;
                if self.n_bytes > MAX_BYTES {
                    return Err(refused(format!("its files are larger than {MAX_BYTES} bytes")));
                }
                Made::File
            }
            _ => {
                let message = format!("{} is neither a file, a directory nor a link", written.display());
                return Err(refused(message));
            }
        };
        self.made.insert(path, made);
        Ok(())
    }

    /// Path below `dest` of a name, or nothing if it has too few parts.
    fn inside(&self, written: &Path) -> Result<Option<PathBuf>> {
        let leads_out = || refused(format!("{} leads out of the archive", written.display()));
        if written.components().any(|it| it == Component::ParentDir) {
            return Err(leads_out());
        }
        let path = below(written).ok_or_else(leads_out)?;
        let mut parts = path.components();
        if self.strip > 0 && parts.by_ref().nth(self.strip - 1).is_none() {
            return Ok(None);
        }
        Ok(Some(parts.as_path().to_path_buf()))
    }

    /// Makes a directory and those above it, as far as they are missing.
    fn dirs(&mut self, path: &Path) -> Result<()> {
        let mut dir = PathBuf::new();
        for (depth, part) in path.components().enumerate() {
            if depth >= MAX_DEPTH {
                return Err(refused(format!("directories are nested more than {MAX_DEPTH} deep")));
            }
            dir.push(part);
            match self.made.get(&dir) {
                Some(Made::Dir) => {}
                Some(Made::File | Made::Link) => {
                    return Err(refused(format!("{} is a directory and something else", dir.display())));
                }
                None => {
                    fs::create_dir(self.dest.join(&dir))?;
                    self.made.insert(dir.clone(), Made::Dir);
                }
            }
        }
        Ok(())
    }
}

fn link_name(entry: &tar::Entry<'_, impl Read>, written: &Path) -> Result<PathBuf> {
    let name = entry.link_name_bytes().map(|it| PathBuf::from(OsStr::from_bytes(&it)));
    name.ok_or_else(|| refused(format!("{} is a link to nothing", written.display())))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    type Entry<'a> = (&'a str, EntryType, u32, &'a str);

    fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mode, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            // The library would refuse some of these names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let content = if kind.is_file() { text.as_bytes() } else { b"" };
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// All that is unpacked, with modes, or the error.
    fn unpacked(bytes: &[u8], strip: usize) -> std::result::Result<Vec<String>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("dest");
        fs::create_dir(&dest).unwrap();
        unpack(&file, &dest, strip, &AtomicBool::new(false)).map_err(|err| err.to_string())?;
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something is beside the directory");
        let mut found = Vec::new();
        list(&dest, &dest, &mut found);
        found.sort();
        Ok(found)
    }

    fn list(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if stat.is_dir() {
                found.push(format!("{name}/"));
                list(root, &path, found);
            } else if stat.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push(format!("{name} {:o} {text}", stat.permissions().mode() & 0o111));
            }
        }
    }

    fn compressed(plain: &[u8]) -> [Vec<u8>; 3] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(plain).unwrap();
        [gzip.finish().unwrap(), xz.finish().unwrap(), zstd::encode_all(plain, 1).unwrap()]
    }

    #[test]
    fn honest_archives() {
        let plain = tar_of(&[
            ("./top/", EntryType::Directory, 0o700, ""),
            ("top/a", FILE, 0o600, "first"),
            ("top/a", FILE, 0o600, "A"),
            ("top/d/run", FILE, 0o4775, "R"),
            ("top/d/link", EntryType::Symlink, 0o777, "/etc/passwd"),
            ("top/hard", EntryType::Link, 0o644, "top/a"),
            ("beside", FILE, 0o644, "B"),
        ]);
        let [gzip, xz, zstd] = compressed(&plain);
        for bytes in [&plain, &gzip, &xz, &zstd] {
            let found = unpacked(bytes, 1).unwrap();
            assert_eq!(found, ["a 0 A", "d/", "d/link -> /etc/passwd", "d/run 111 R", "hard 0 A"]);
        }
        let found = unpacked(&plain, 0).unwrap();
        assert_eq!(found[..3], ["beside 0 B", "top/", "top/a 0 A"]);
        assert_eq!(unpacked(&plain, 3).unwrap(), [""; 0]);
        let cut = unpacked(&gzip[..gzip.len() / 2], 0).unwrap_err();
        assert!(cut.contains("not a whole tar file"), "{cut}");
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn hostile_archives() {
        for (entries, expected) in [
            (vec![("/etc/a", FILE, 0o644, "x")], "/etc/a leads out of the archive"),
            (vec![("../a", FILE, 0o644, "x")], "../a leads out of the archive"),
            (vec![("a/../../b", FILE, 0o644, "x")], "a/../../b leads out of the archive"),
            (
                vec![("d", EntryType::Symlink, 0o777, "/tmp"), ("d/a", FILE, 0o644, "x")],
                "d is a directory and something else",
            ),
            (vec![("a", EntryType::Link, 0o644, "/etc/passwd")], "/etc/passwd leads out of the archive"),
            (
                vec![("l", EntryType::Symlink, 0o777, "/etc/passwd"), ("a", EntryType::Link, 0o644, "l")],
                "a is a hard link to no file of the archive",
            ),
            (vec![("p", EntryType::Fifo, 0o644, "")], "p is neither a file, a directory nor a link"),
            (vec![("c", EntryType::Char, 0o644, "")], "c is neither a file, a directory nor a link"),
            (
                vec![("d/", EntryType::Directory, 0o755, ""), ("d", FILE, 0o644, "x")],
                "d is a directory and something else",
            ),
        ] {
            assert_eq!(unpacked(&tar_of(&entries), 0).unwrap_err(), expected);
        }
        assert_eq!(
            unpacked(b"PK\x03\x04 and so on", 0).unwrap_err(),
            "it is a zip file; only tar files can be unpacked"
        );
        assert_eq!(unpacked(b"BZh9", 0).unwrap_err(), "it is compressed with bzip2; use gzip, xz or zstd");
        let deep = format!("{}a", "d/".repeat(300));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, deep, &b""[..]).unwrap();
        let message = unpacked(&builder.into_inner().unwrap(), 0).unwrap_err();
        assert_eq!(message, "directories are nested more than 256 deep");
    }
}
