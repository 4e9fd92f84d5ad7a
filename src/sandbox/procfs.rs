//! `/proc` without the machine: what is not about processes says the same everywhere.
//!
//! Every entry of a new procfs that is no process is covered: with a constant text where programs read one, else
//! with nothing. `/proc/sys` becomes a constant tree. A kernel with more entries shows no more.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fs_err as fs;
use rustix::mount::MountAttrFlags;

use super::error::{Context, Trouble};
use super::mounts;

/// What stays as the kernel shows it: about processes, or about namespaces that are the sandbox's own.
const KEPT: [&str; 5] = ["self", "thread-self", "mounts", "net", "sysvipc"];

/// One processor with what every x86-64 has, 4 GiB of memory, nothing done yet.
const TEXTS: &[(&str, &str)] = &[
    (
        "cpuinfo",
        "processor\t: 0\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: x86-64\nstepping\t: 0\n\
         cpu MHz\t\t: 1000.000\ncache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\n\
         cpu cores\t: 1\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 1\nwp\t\t: yes\n\
         flags\t\t: fpu tsc msr cx8 cmov mmx fxsr sse sse2 syscall nx lm\nbogomips\t: 2000.00\n\
         clflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 40 bits physical, 48 bits virtual\n\n",
    ),
    ("filesystems", "nodev\tproc\nnodev\ttmpfs\nnodev\tdevpts\nnodev\toverlay\n\text4\n"),
    ("loadavg", "0.00 0.00 0.00 1/1 1\n"),
    (
        "meminfo",
        "MemTotal:        4194304 kB\nMemFree:         4194304 kB\nMemAvailable:    4194304 kB\n\
         Buffers:               0 kB\nCached:                0 kB\nSwapCached:            0 kB\n\
         SwapTotal:             0 kB\nSwapFree:              0 kB\nShmem:                 0 kB\n\
         Slab:                  0 kB\n",
    ),
    (
        "stat",
        "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime 315532800\nprocesses 1\n\
         procs_running 1\nprocs_blocked 0\nsoftirq 0\n",
    ),
    ("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    ("uptime", "1.00 1.00\n"),
    ("version", "Linux version 6.1.0 (raptor) #1\n"),
];

/// What programs look up below `/proc/sys`.
const SETTINGS: &[(&str, &str)] = &[
    ("fs/aio-max-nr", "65536"),
    ("fs/file-max", "9223372036854775807"),
    ("fs/inotify/max_user_instances", "128"),
    ("fs/inotify/max_user_watches", "65536"),
    ("fs/nr_open", "1048576"),
    ("fs/pipe-max-size", "1048576"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("kernel/cap_last_cap", "40"),
    ("kernel/core_pattern", "core"),
    ("kernel/domainname", "(none)"),
    ("kernel/hostname", "raptor"),
    ("kernel/ngroups_max", "65536"),
    ("kernel/osrelease", "6.1.0"),
    ("kernel/ostype", "Linux"),
    ("kernel/overflowgid", "65534"),
    ("kernel/overflowuid", "65534"),
    ("kernel/pid_max", "4194304"),
    ("kernel/random/boot_id", "00000000-0000-4000-8000-000000000000"),
    ("kernel/random/entropy_avail", "256"),
    ("kernel/random/poolsize", "256"),
    ("kernel/random/uuid", "00000000-0000-4000-8000-000000000000"),
    ("kernel/randomize_va_space", "0"),
    ("kernel/threads-max", "32768"),
    ("kernel/version", "#1"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_local_port_range", "32768\t60999"),
    ("net/ipv4/ip_unprivileged_port_start", "1024"),
    ("vm/max_map_count", "65530"),
    ("vm/mmap_min_addr", "65536"),
    ("vm/overcommit_memory", "0"),
    ("vm/swappiness", "60"),
];

/// The directory that everything is covered from: texts by name, `sys`, and nothing as file and directory.
const COVERS: &str = "c";

/// A mount of `proc` with its covers. The current directory is the private one.
pub(super) fn covered(proc: OwnedFd) -> Result<OwnedFd, Trouble> {
    make_covers(Path::new(COVERS))?;
    fs::create_dir("p")?;
    mounts::attach(proc.as_fd(), Path::new("p")).context(|| "/proc")?;
    for entry in fs::read_dir("p")? {
        let entry = entry?;
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process && !KEPT.iter().any(|kept| name == *kept) {
            let is_dir = entry.file_type()?.is_dir();
            cover(&entry.path(), &name.to_string_lossy(), is_dir)?;
        }
    }
    mounts::copy_all(Path::new("p")).context(|| "/proc")
}

fn make_covers(dir: &Path) -> Result<(), Trouble> {
    fs::create_dir(dir)?;
    fs::create_dir(dir.join("no-entries"))?;
    fs::write(dir.join("no-text"), "")?;
    for (name, text) in TEXTS {
        fs::write(dir.join(name), text)?;
    }
    for (name, value) in SETTINGS {
        let path = dir.join("sys").join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, format!("{value}\n"))?;
    }
    Ok(())
}

fn cover(path: &Path, name: &str, is_dir: bool) -> Result<(), Trouble> {
    let source = match name {
        "sys" => "sys",
        _ if is_dir => "no-entries",
        _ if TEXTS.iter().any(|(text, _)| *text == name) => name,
        _ => "no-text",
    };
    let what = || format!("cannot cover /proc/{name}");
    let cover = mounts::copy_one(&Path::new(COVERS).join(source)).context(what)?;
    let harmless = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mounts::set_attributes(cover.as_fd(), harmless).context(what)?;
    mounts::attach(cover.as_fd(), path).context(what)
}
