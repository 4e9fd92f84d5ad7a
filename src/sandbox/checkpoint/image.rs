//! The manifest of a checkpoint: what it knows of each file, content apart.

use std::ffi::OsString;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::super::error::{Context, Trouble};
use super::super::init::Notes;

/// Quick rather than small: manifests are mostly names.
const LEVEL: i32 = 1;

/// Extended attributes by name, those of overlays too.
pub(super) type Xattrs = Vec<(OsString, Vec<u8>)>;

/// A checkpoint without the contents of files.
#[derive(Serialize, Deserialize)]
pub(super) struct Image {
    /// Names of the packs that [`Content`] refers to.
    pub packs: Vec<String>,
    /// What the capture will have to know of the steps so far.
    pub notes: Notes,
    /// The upper dir as the overlay left it.
    pub upper: Node,
    /// Contents of [`super::MEMORY`], in that order.
    pub memory: Vec<Node>,
}

/// A file of any kind. Its name is the parent's business.
#[derive(Serialize, Deserialize)]
pub(super) struct Node {
    pub name: OsString,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub xattrs: Xattrs,
    /// The same for all names of one file, if it has several.
    pub link: Option<u64>,
    pub kind: Kind,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Kind {
    /// In the order in which the directory lists them.
    Dir(Vec<Node>),
    File(Content),
    Symlink(PathBuf),
    Fifo,
    Socket,
    Whiteout,
}

/// Where the content of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Index into the names of packs.
    pub pack: u32,
    pub offset: u64,
    pub size: u64,
    pub blake3: [u8; 32],
}

/// The files of a checkpoint: manifest and pack.
pub(super) fn files(dir: &Path, name: &str) -> [PathBuf; 2] {
    ["manifest", "pack"].map(|extension| dir.join(format!("{name}.{extension}")))
}

impl Image {
    pub fn write(&self, path: &Path) -> Result<(), Trouble> {
        let what = || format!("cannot write {}", path.display());
        let mut out = zstd::Encoder::new(fs::File::create(path)?, LEVEL).context(what)?;
        out.include_checksum(true).context(what)?;
        let mut out = postcard::to_io(self, BufWriter::new(out)).context(what)?;
        out.flush().context(what)?;
        let out = out.into_inner().map_err(|err| err.into_error()).context(what)?;
        out.finish().context(what).map(drop)
    }

    pub fn read(path: &Path) -> Result<Image, Trouble> {
        let what = || format!("cannot read {}", path.display());
        let mut text = Vec::new();
        let mut file = zstd::Decoder::with_buffer(BufReader::new(fs::File::open(path)?)).context(what)?;
        file.read_to_end(&mut text).context(what)?;
        postcard::from_bytes(&text).context(what)
    }
}
