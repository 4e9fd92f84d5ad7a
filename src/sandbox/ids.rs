//! Which user and group ids a sandbox has, and what the host must offer for it.
//!
//! Inside there are always root and 65,535 others. As root they are a high range of the host, as an ordinary
//! user they come from `/etc/subuid` and `/etc/subgid` through newuidmap and newgidmap.

use std::ffi::CStr;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Trouble};

/// First host id of a sandbox made by root: above every range that distributions hand out by default.
const SHIFT: u32 = 2_000_000;
/// Where ranges of ordinary users begin by convention.
const FIRST_SUB: u32 = 100_000;
/// Number of ids inside.
const COUNT: u32 = 65_536;

/// How this process may fill a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum IdPlan {
    /// Caller is root.
    Root,
    /// Caller is an ordinary user: 0 is the caller, 1 and up are the range.
    Sub { uid: u32, gid: u32, uids: Range, gids: Range },
}

/// A range of host ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub first: u32,
    pub count: u32,
}

/// What the ids of one sandbox become on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdMap {
    /// Root, ids shifted; mounts shift them back, so that files on disk have the ids that are seen inside.
    Shifted,
    /// Root where shifted mounts do not work; ids are the host's.
    Identity,
    /// Ordinary user.
    Sub,
}

/// Whether this host can run sandboxes for the calling user; the error says how to change that.
pub fn check_host() -> Result<(), Error> {
    let zero = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
    if zero("/proc/sys/user/max_user_namespaces") {
        return Err(Error::NoUserNamespaces {
            setting: "user.max_user_namespaces = 0",
            fix: "sysctl -w user.max_user_namespaces=15000",
        });
    }
    let IdPlan::Sub { .. } = plan()? else { return Ok(()) };
    if zero("/proc/sys/kernel/unprivileged_userns_clone") {
        return Err(Error::NoUserNamespaces {
            setting: "kernel.unprivileged_userns_clone = 0",
            fix: "sysctl -w kernel.unprivileged_userns_clone=1",
        });
    }
    Ok(())
}

/// In words, whose ids files have that a sandbox of the calling user wrote. They mean nothing to others.
pub fn ids_on_disk() -> Result<String, Error> {
    Ok(match plan()? {
        IdPlan::Root => "those seen inside".to_owned(),
        IdPlan::Sub { uid, gid, uids, gids } => {
            format!("user {uid} and {} up, group {gid} and {} up", uids.first, gids.first)
        }
    })
}

/// A hint for failures that a security module causes.
pub(super) fn restriction_hint() -> &'static str {
    let path = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    match fs::read_to_string(path) {
        Ok(text) if text.trim() == "1" => {
            " (AppArmor restricts user namespaces here; run as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
        }
        _ => "",
    }
}

/// Finds out how the calling user gets its ids.
pub(super) fn plan() -> Result<IdPlan, Error> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if uid == 0 {
        return Ok(IdPlan::Root);
    }
    for program in ["newuidmap", "newgidmap"] {
        if !in_path(program) {
            return Err(Error::NoUidmap(program));
        }
    }
    let name = user_name(uid);
    let files = ["/etc/subuid", "/etc/subgid"];
    let [users, groups] = files.map(|file| fs::read_to_string(file).unwrap_or_default());
    let range = |file: &'static str, text: &str| {
        let range = largest_range(text, name.as_deref(), uid);
        if let Some(range) = range.filter(|it| it.count >= COUNT - 1) {
            return Ok(range);
        }
        let user = name.clone().unwrap_or_else(|| uid.to_string());
        let first = first_free(&[&users, &groups]);
        let ids = format!("{first}-{}", first.saturating_add(COUNT - 1));
        let fix = format!("usermod --add-subuids {ids} --add-subgids {ids} {user}");
        Err(match range {
            Some(range) => Error::FewSubIds { user, file, count: range.count, least: COUNT - 1, fix },
            None => Error::NoSubIds { user, file, fix },
        })
    };
    let [uids, gids] = [range(files[0], &users)?, range(files[1], &groups)?];
    Ok(IdPlan::Sub { uid, gid, uids, gids })
}

/// The first id above all that these texts of `/etc/subuid` and `/etc/subgid` hand out, to whomever.
fn first_free(texts: &[&str]) -> u32 {
    let ends = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)
    });
    ends.fold(FIRST_SUB, u32::max)
}

/// The largest range of a user in the text of `/etc/subuid` or `/etc/subgid`.
fn largest_range(text: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (user, first, count) = (fields.next()?, fields.next()?, fields.next()?);
            if Some(user) != name && user != number {
                return None;
            }
            Some(Range { first: first.parse().ok()?, count: count.parse().ok()? })
        })
        .filter(|range| range.count > 0)
        .max_by_key(|range| range.count)
}

/// The maps to try, best first.
pub(super) fn candidates(plan: &IdPlan) -> Vec<IdMap> {
    match plan {
        IdPlan::Sub { .. } => vec![IdMap::Sub],
        IdPlan::Root => {
            let mapped = own_ranges();
            let end = u64::from(SHIFT) + u64::from(COUNT);
            let reachable =
                mapped.iter().any(|r| r.first <= SHIFT && u64::from(r.first) + u64::from(r.count) >= end);
            // Overlays accept shifted lower directories since Linux 5.19.
            match reachable && kernel() >= (5, 19) {
                true => vec![IdMap::Shifted, IdMap::Identity],
                false => vec![IdMap::Identity],
            }
        }
    }
}

/// Writes the maps of the user namespace of process `pid`.
pub(super) fn write_maps(plan: &IdPlan, map: IdMap, pid: i32) -> Result<(), Trouble> {
    let direct = |line: &str| {
        for kind in ["uid", "gid"] {
            fs::write(format!("/proc/{pid}/{kind}_map"), line)?;
        }
        Ok(())
    };
    match (map, plan) {
        (IdMap::Shifted, _) => direct(&format!("0 {SHIFT} {COUNT}")),
        (IdMap::Sub, IdPlan::Sub { uid, gid, uids, gids }) => helpers(pid, (*uid, *uids), (*gid, *gids)),
        (IdMap::Identity | IdMap::Sub, _) => {
            let count = own_ranges().iter().find(|r| r.first == 0).map_or(1, |r| r.count.min(COUNT));
            direct(&format!("0 0 {count}"))
        }
    }
}

/// Runs newuidmap and newgidmap, both at once.
fn helpers(pid: i32, uid: (u32, Range), gid: (u32, Range)) -> Result<(), Trouble> {
    let start = |program: &'static str, (own, range): (u32, Range)| {
        let child = Command::new(program)
            .args([pid.to_string(), "0".into(), own.to_string(), "1".into(), "1".into()])
            .args([range.first.to_string(), (COUNT - 1).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {program}"))?;
        Ok::<_, Trouble>((program, child))
    };
    for (program, child) in [start("newuidmap", uid)?, start("newgidmap", gid)?] {
        let output = child.wait_with_output().context(|| program)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Trouble(format!("{program} failed ({}): {}", output.status, said.trim())));
        }
    }
    Ok(())
}

/// Ids that this process itself may hand out, by their number inside its own namespace.
fn own_ranges() -> Vec<Range> {
    let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let first = fields.next()?.parse().ok()?;
            Some(Range { first, count: fields.nth(1)?.parse().ok()? })
        })
        .collect()
}

/// Major and minor number of the running kernel.
fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}

/// Name of a user, from wherever this system keeps its users.
fn user_name(uid: u32) -> Option<String> {
    // SAFETY: an all-zero passwd is a valid value of this plain C struct.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut buffer = vec![0; 16 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the buffer's length is passed along.
    let status = unsafe { libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success `pw_name` is a C string inside `buffer`, which is still alive.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    name.to_str().ok().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_range_by_name_or_number() {
        let text = "# a comment\nanna:100000:10\n1000:200000:65536\nbert:300000:65536\nanna:x:1\n";
        let range = |name, uid| largest_range(text, name, uid).map(|r| (r.first, r.count));
        assert_eq!(range(Some("anna"), 1000), Some((200000, 65536)));
        assert_eq!(range(Some("anna"), 7), Some((100000, 10)));
        assert_eq!(range(Some("bert"), 7), Some((300000, 65536)));
        assert_eq!(range(Some("carl"), 7), None);
        assert_eq!(range(None, 1000), Some((200000, 65536)));
    }

    #[test]
    fn a_range_that_is_advised_overlaps_with_none() {
        let texts = ["anna:100000:10\nbert:300000:65536\n", "carl:400000:1\nanna:x:1\nanna:4294967295:7\n"];
        assert_eq!(first_free(&texts), 400_001);
        assert_eq!(first_free(&["", "root:1000:5\n"]), 100_000);
    }
}
