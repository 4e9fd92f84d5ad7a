//! How much memory a sandbox takes, seen from the stage: by its processes, and by its files in memory.
//!
//! An upper bound costs little and nearly always answers the question. Only when it is above the limit does it
//! matter who shares what with whom.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::limits::meminfo;

/// What the kernel keeps for a file in memory beside its content, about.
const TMPFS_INODE: u64 = 1024;

/// A sandbox, for those who measure it.
pub(super) struct Inside {
    /// Its `/proc`.
    pub proc: OwnedFd,
    /// Its file systems in memory.
    pub tmpfs: Vec<OwnedFd>,
    /// Its process namespace, as a link in `/proc` says it, if its `/proc` shows other processes too.
    pub namespace: Option<String>,
}

impl Inside {
    /// Numbers of its processes.
    pub fn processes(&self) -> Vec<String> {
        let mut pids = entries(&self.proc, ".");
        pids.retain(|pid| pid.bytes().all(|it| it.is_ascii_digit()));
        if let Some(namespace) = &self.namespace {
            pids.retain(|pid| self.link(&format!("{pid}/ns/pid")).as_ref() == Some(namespace));
        }
        pids
    }

    /// Not less than what these processes and all files in memory take: it counts what forks share once for each,
    /// and files in memory and swap of the whole machine.
    pub fn at_most(&self, pids: &[String]) -> u64 {
        let host = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let of = |name| meminfo(&host, name).unwrap_or(0);
        let swapped = of("SwapTotal").saturating_sub(of("SwapFree"));
        pids.iter().map(|pid| self.unshared(pid)).sum::<u64>() + of("Shmem") + swapped
    }

    /// What they really take. Of files in memory that are also mapped, the larger sum counts, so it is never more.
    pub fn exactly(&self, pids: &[String]) -> u64 {
        let (mut own, mut mapped) = (0, 0);
        for pid in pids {
            match self.read(&format!("{pid}/smaps_rollup")) {
                Some(text) if text.contains("Pss_Anon:") => {
                    let of = |name| meminfo(&text, name).unwrap_or(0);
                    own += of("Pss_Anon") + of("SwapPss");
                    mapped += of("Pss_Shmem");
                }
                _ => own += self.unshared(pid),
            }
        }
        let files = self.tmpfs_bytes(pids) + self.memfd_bytes(pids) + sysv_bytes();
        own + files.max(mapped)
    }

    /// Memory of a process that is not of files.
    fn unshared(&self, pid: &str) -> u64 {
        let text = self.read(&format!("{pid}/statm")).unwrap_or_default();
        let mut pages = text.split(' ').skip(1).map_while(|it| it.parse::<u64>().ok());
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(shared) * page_size()
    }

    /// Content of all file systems in memory, also of those that a program has mounted in namespaces of its own.
    fn tmpfs_bytes(&self, pids: &[String]) -> u64 {
        let mut systems = BTreeMap::new();
        for fd in &self.tmpfs {
            if let (Ok(stat), Ok(system)) = (rustix::fs::fstat(fd), rustix::fs::fstatvfs(fd)) {
                systems.insert(stat.st_dev, taken(&system));
            }
        }
        let mut namespaces = BTreeSet::new();
        for pid in pids {
            if !self.link(&format!("{pid}/ns/mnt")).is_some_and(|it| namespaces.insert(it)) {
                continue;
            }
            for line in self.read(&format!("{pid}/mountinfo")).unwrap_or_default().lines() {
                let Some((device, point)) = tmpfs_mount(line) else { continue };
                if systems.contains_key(&device) {
                    continue;
                }
                let root = format!("{pid}/root{point}");
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let Ok(fd) = rustix::fs::openat(&self.proc, root, flags, Mode::empty()) else { continue };
                let same = rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_dev == device);
                if let (true, Ok(system)) = (same, rustix::fs::fstatvfs(&fd)) {
                    systems.insert(device, taken(&system));
                }
            }
        }
        systems.values().sum()
    }

    /// Content of open memory files.
    fn memfd_bytes(&self, pids: &[String]) -> u64 {
        let mut files = BTreeMap::new();
        for pid in pids {
            for fd in entries(&self.proc, &format!("{pid}/fd")) {
                let path = format!("{pid}/fd/{fd}");
                if self.link(&path).is_some_and(|it| it.starts_with("/memfd:"))
                    && let Ok(stat) = rustix::fs::statat(&self.proc, path, AtFlags::empty())
                {
                    files.insert(stat.st_ino, stat.st_blocks as u64 * 512);
                }
            }
        }
        files.values().sum()
    }

    fn read(&self, path: &str) -> Option<String> {
        let fd =
            rustix::fs::openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn link(&self, path: &str) -> Option<String> {
        let target = rustix::fs::readlinkat(&self.proc, path, Vec::new()).ok()?;
        Some(target.to_string_lossy().into_owned())
    }
}

/// Names in a directory; none if it cannot be read, for processes end at any time.
fn entries(dir: impl AsFd, path: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(dir, path, flags, Mode::empty()) else { return Vec::new() };
    let Ok(list) = Dir::new(fd) else { return Vec::new() };
    let names = list.flatten().map(|it| it.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "." && name != "..").collect()
}

fn taken(system: &rustix::fs::StatVfs) -> u64 {
    let blocks = system.f_blocks.saturating_sub(system.f_bfree) * system.f_frsize;
    blocks + system.f_files.saturating_sub(system.f_ffree) * TMPFS_INODE
}

/// Device and mount point of a line of `mountinfo`, if it is a tmpfs.
fn tmpfs_mount(line: &str) -> Option<(u64, String)> {
    let (mount, system) = line.split_once(" - ")?;
    if system.split(' ').next()? != "tmpfs" {
        return None;
    }
    let mut fields = mount.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some((device, unescaped(fields.nth(1)?)))
}

/// Blanks, tabs, line ends and backslashes are written in octal.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

fn page_size() -> u64 {
    // SAFETY: sysconf(3) touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// System V segments of this process's IPC namespace, which is the sandbox's.
fn sysv_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let in_memory = |line: &str| {
        let mut last = line.split_whitespace().rev();
        Some(last.next()?.parse::<u64>().ok()? + last.next()?.parse::<u64>().ok()?)
    };
    text.lines().skip(1).filter_map(in_memory).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_tmpfs_are_found() {
        let line = "36 35 0:42 / /a\\040b\\134c rw,nosuid shared:1 - tmpfs tmpfs rw,size=1g";
        assert_eq!(tmpfs_mount(line), Some((rustix::fs::makedev(0, 42), "/a b\\c".to_owned())));
        assert_eq!(tmpfs_mount("36 35 8:1 / / rw - ext4 /dev/sda1 rw"), None);
        assert_eq!(tmpfs_mount("garbage"), None);
    }
}
