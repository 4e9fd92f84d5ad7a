//! Making everything as it was at a checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};

use super::super::error::{Context, Fault, Trouble};
use super::super::init::Notes;
use super::image::{Image, Kind, Node, files};
use super::{Known, KnownFile, MEMORY, Stamp, kept, lists_newest_first, pack};

/// A checkpoint that a build begins with.
pub(in super::super) struct Resumed {
    /// Of the steps that are not done again.
    pub notes: Notes,
    upper: Option<Node>,
    memory: BTreeMap<&'static str, Node>,
    packs: Vec<(String, File)>,
    /// Names of files with several, made so far.
    links: HashMap<u64, PathBuf>,
    known: HashMap<(u64, u64), KnownFile>,
}

/// Why it does not become what it was.
enum Problem {
    /// The checkpoint is damaged.
    Bad(Trouble),
    /// Something else is wrong, which another checkpoint would not change.
    Other(Trouble),
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Problem {
        Problem::Other(trouble)
    }
}

impl From<std::io::Error> for Problem {
    fn from(err: std::io::Error) -> Problem {
        Problem::Other(err.into())
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        match problem {
            Problem::Bad(Trouble(why)) => Fault::Checkpoint(why),
            Problem::Other(trouble) => trouble.into(),
        }
    }
}

impl Resumed {
    /// Opens a checkpoint and the packs that it needs.
    pub fn open(dir: &Path, name: &str) -> Result<Resumed, Fault> {
        let bad = |Trouble(why): Trouble| Fault::Checkpoint(why);
        let [manifest, _] = files(dir, name);
        let image = Image::read(&manifest).map_err(bad)?;
        let open = |name: String| {
            let [_, pack] = files(dir, &name);
            let file = File::open(&pack).context(|| pack.display())?;
            Ok((name, file))
        };
        let Image { packs, notes, upper, memory } = image;
        let packs = packs.into_iter().map(open).collect::<Result<_, _>>().map_err(bad)?;
        let memory = MEMORY.into_iter().zip(memory).collect();
        let (links, known) = Default::default();
        Ok(Resumed { notes, upper: Some(upper), memory, packs, links, known })
    }

    /// Fills the upper dir, which is empty.
    pub fn fill_upper(&mut self, dir: &Path) -> Result<(), Fault> {
        let node = self.upper.take().ok_or_else(|| Fault::Checkpoint("it was used already".into()))?;
        Ok(self.root(dir, node)?)
    }

    /// Fills the directories in memory, which are empty.
    pub fn fill_memory(&mut self) -> Result<(), Fault> {
        for dir in MEMORY {
            let node = self.memory.remove(dir);
            let node = node.ok_or_else(|| Fault::Checkpoint(format!("it does not have {dir}")))?;
            self.root(Path::new(dir), node)?;
        }
        Ok(())
    }

    /// What is known of the files now.
    pub(super) fn into_known(self) -> Known {
        let packs = self.packs.into_iter().map(|(name, _)| name).collect();
        Known { packs, files: self.known, looked: Some(SystemTime::now()) }
    }

    /// Fills a directory that exists and is empty.
    fn root(&mut self, dir: &Path, node: Node) -> Result<(), Problem> {
        self.links.clear();
        let newest_first = lists_newest_first(dir)?;
        let Kind::Dir(children) = &node.kind else {
            return Err(Problem::Bad(Trouble(format!("{} is no directory", dir.display()))));
        };
        self.children(dir, children, newest_first)?;
        for (name, _) in kept(dir)? {
            rustix::fs::lremovexattr(dir, &name).context(|| format!("cannot restore {}", dir.display()))?;
        }
        self.attributes(dir, &node)
    }

    /// Makes the content of a directory, so that it lists in the same order if the order is that of making.
    fn children(&mut self, dir: &Path, nodes: &[Node], newest_first: bool) -> Result<(), Problem> {
        let mut make = |node: &Node| self.node(dir.join(&node.name), node, newest_first);
        match newest_first {
            true => nodes.iter().rev().try_for_each(&mut make),
            false => nodes.iter().try_for_each(&mut make),
        }
    }

    fn node(&mut self, path: PathBuf, node: &Node, newest_first: bool) -> Result<(), Problem> {
        if let Some(link) = node.link {
            if let Some(first) = self.links.get(&link) {
                return Ok(fs::hard_link(first, &path)?);
            }
            self.links.insert(link, path.clone());
        }
        let special = |kind: FileType| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), 0)
                .context(|| format!("cannot make {}", path.display()))
        };
        match &node.kind {
            Kind::Whiteout => {
                return Ok(rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
                    .context(|| format!("cannot make a whiteout at {}", path.display()))?);
            }
            Kind::Dir(nodes) => {
                fs::create_dir(&path)?;
                self.children(&path, nodes, newest_first)?;
            }
            Kind::File(content) => {
                let mut options = File::options();
                options.read(true).write(true).create_new(true).mode(0o600);
                let mut file = options.open(&path).context(|| path.display())?;
                let lost = || Problem::Bad(Trouble(format!("the content of {} is damaged", path.display())));
                let (_, pack) = self.packs.get_mut(content.pack as usize).ok_or_else(lost)?;
                if !pack::extract(pack, content, &mut file).context(|| path.display())? {
                    return Err(lost());
                }
            }
            Kind::Symlink(target) => {
                symlink(target, &path).context(|| format!("cannot make the link {}", path.display()))?;
            }
            Kind::Fifo => special(FileType::Fifo)?,
            Kind::Socket => special(FileType::Socket)?,
        }
        self.attributes(&path, node)
    }

    /// Owner before mode, which it changes; extended attributes after both, for writing and a new owner take
    /// capabilities away; the time last.
    fn attributes(&mut self, path: &Path, node: &Node) -> Result<(), Problem> {
        let what = || format!("cannot restore {}", path.display());
        let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        rustix::fs::chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        if !matches!(node.kind, Kind::Symlink(_)) {
            rustix::fs::chmod(path, Mode::from_raw_mode(node.mode)).context(what)?;
        }
        for (name, value) in &node.xattrs {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).context(what)?;
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: node.mtime.0, tv_nsec: node.mtime.1 },
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        let content = match &node.kind {
            Kind::File(content) => Some(*content),
            Kind::Dir(_) => None,
            _ => return Ok(()),
        };
        let meta = fs::symlink_metadata(path)?;
        let file = KnownFile { stamp: Stamp::of(&meta), xattrs: node.xattrs.clone(), content };
        self.known.insert((meta.dev(), meta.ino()), file);
        Ok(())
    }
}
