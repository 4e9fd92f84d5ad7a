//! A control group for each sandbox, where this host lets us make one: then the kernel sees to memory and processes.
//!
//! Groups stand beside the caller's own if that has no limit, else below it if systemd has delegated it. They are named
//! after the supervisor, which removes its own at the end, and those whose supervisor is gone.

use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::process::{Pid, getpid, getppid};

use super::limits::{Limit, Limits, PROCESSES};

/// Begins the names of our groups.
const PREFIX: &str = "raptor-";
/// The group of an engine that had to leave the one it was started in.
const ENGINE: &str = "raptor-engine";
/// What a group of ours needs.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// A control group; removed when dropped, which must be after all of its processes.
pub(super) struct Group {
    dir: PathBuf,
    memory: u64,
}

impl Group {
    /// Puts a process into a group of its own. `None` if this host has no control groups for us.
    pub fn around(process: Pid, limits: &Limits) -> Option<Group> {
        let parent = place(process)?;
        remove_abandoned(&parent);
        let dir = parent.join(format!("{PREFIX}{}", getpid().as_raw_pid()));
        fs::create_dir(&dir).ok()?;
        let group = Group { dir, memory: limits.memory };
        // Without swap accounting there is no such file.
        let _ = group.set("memory.swap.max", "0");
        group.set("memory.max", &limits.memory.to_string())?;
        group.set("memory.oom.group", "1")?;
        group.set("pids.max", &PROCESSES.to_string())?;
        group.set("cgroup.procs", &process.as_raw_pid().to_string())?;
        Some(group)
    }

    /// The memory limit, if the kernel has ended the group for it.
    pub fn met(&self) -> Option<Limit> {
        let events = fs::read_to_string(self.dir.join("memory.events")).ok()?;
        let count = |name| {
            let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        };
        // If the whole machine has no memory left, the kernel ends groups that are within their limits too.
        (count("oom") > 0 && count("oom_kill") > 0).then_some(Limit::Memory(self.memory))
    }

    fn set(&self, file: &str, value: &str) -> Option<()> {
        write(&self.dir.join(file), value)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next sandbox.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The group below which ours can be made.
fn place(process: Pid) -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (top, own) = own_group(&cgroups, &mounts)?;
    if own == top {
        // Only the root of all groups, which has no type, may have processes of its own and controllers for others.
        return (!own.join("cgroup.type").exists() && controls(&own)).then_some(own);
    }
    let parent = own.parent()?.to_path_buf();
    // A group's own limit holds for what we start, too.
    let unlimited = |file| fs::read_to_string(own.join(file)).map_or(true, |it| it.trim() == "max");
    if unlimited("memory.max") && unlimited("memory.high") && controls(&parent) && may_change(&parent) {
        return Some(parent);
    }
    (is_delegated(&own) && leave(&own, process) && take_control(&own)).then_some(own)
}

/// Directory of the group hierarchy, and that of this process's group.
fn own_group(cgroups: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = mount.split(' ').skip(3);
    let (root, top) = (fields.next()?, Path::new(fields.next()?));
    // Outside of what is mounted, the path would begin with `/..`.
    let below = Path::new(own).strip_prefix(root).ok()?;
    let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
    inside.then(|| {
        (top.to_path_buf(), if below == Path::new("") { top.to_path_buf() } else { top.join(below) })
    })
}

fn controls(group: &Path) -> bool {
    let enabled = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    CONTROLLERS.iter().all(|one| enabled.split_whitespace().any(|it| it == *one))
}

fn take_control(group: &Path) -> bool {
    write(&group.join("cgroup.subtree_control"), &CONTROLLERS.map(|it| format!("+{it}")).join(" ")).is_some()
}

fn may_change(group: &Path) -> bool {
    rustix::fs::access(group.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
}

/// systemd marks the groups that it leaves to whoever runs in them.
fn is_delegated(group: &Path) -> bool {
    let mut value = [0; 4];
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        rustix::fs::getxattr(group, *name, &mut value[..]).is_ok_and(|n| value.get(..n) == Some(b"1"))
    })
}

/// Moves this process, `process` and the engine down, out of a group that nobody else is in.
fn leave(group: &Path, process: Pid) -> bool {
    let ours: Vec<String> =
        getppid().into_iter().chain([getpid(), process]).map(|pid| pid.as_raw_pid().to_string()).collect();
    let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    if inside.lines().any(|pid| !ours.iter().any(|it| it == pid)) {
        return false;
    }
    let below = group.join(ENGINE);
    // Another sandbox of the same engine may have made it.
    let _ = fs::create_dir(&below);
    ours.iter().all(|pid| write(&below.join("cgroup.procs"), pid).is_some())
}

/// Removes groups whose supervisor is gone.
fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|it| it.strip_prefix(PREFIX)) else { continue };
        let is_number = pid.bytes().all(|it| it.is_ascii_digit());
        if is_number && !Path::new("/proc").join(pid).exists() {
            // One that still has processes stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Sets a value; groups have no other files.
fn write(file: &Path, value: &str) -> Option<()> {
    let mut file = fs::OpenOptions::new().write(true).open(file).ok()?;
    std::io::Write::write_all(&mut file, value.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_whatever_is_mounted() {
        let own = |cgroups, mounts| {
            own_group(cgroups, mounts)
                .map(|(top, own)| (top.display().to_string(), own.display().to_string()))
        };
        let mounts =
            "24 1 0:22 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(own("0::/a/b\n", mounts), both("/sys/fs/cgroup", "/sys/fs/cgroup/a/b"));
        assert_eq!(own("1:name=x:/\n0::/\n", mounts), both("/sys/fs/cgroup", "/sys/fs/cgroup"));
        assert_eq!(own("0::/../x\n", mounts), None);
        let part = "30 23 0:26 /pod /c rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(own("0::/pod/x\n", part), both("/c", "/c/x"));
        assert_eq!(own("0::/other\n", part), None);
        assert_eq!(own("4:memory:/x\n", mounts), None);
    }
}
