//! Sandboxes: namespaces, overlay and file steps; the same as root and as an ordinary user.
//!
//! [`run`] starts this program anew as a supervisor ([`entry`]), which starts a process in a user namespace
//! (`stage`), which starts process 1 of the sandbox (`init`). Specified in `spec/sandbox.md`.

mod request;

mod console;
mod error;
mod ids;
mod launch;
mod limits;
mod terminal;

mod cgroup;
mod entry;
mod memory;
mod stage;
mod watchdog;

mod ground;
mod init;
mod network;
mod procfs;
mod root;

mod confine;
mod debs;
mod files;
mod images;
mod program;

mod checkpoint;

mod canonical;
mod capture;
mod normalise;

mod mounts;
mod process;
mod wire;

pub use console::Caller;
pub use entry::entry;
pub use error::{Error, StepFailure};
pub use ids::{check_host, ids_on_disk};
pub use launch::{InteractRequest, Launcher, hash, interact, owns_ids, reenter, remove, run};
pub use limits::{Limit, Limits};
pub use request::{
    Attrs, Capture, Checkpoints, CopySource, Event, LayerBlob, Mount, MountSource, Network, Report, Request,
    Step,
};
pub use terminal::Modes as TerminalModes;

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};

/// Sockets made inside a sandbox with [`Network::Proxy`]; whoever holds them is its whole internet.
///
/// They answer for every IPv4 address: inside, all of them are local.
pub struct Listeners {
    /// TCP port 80
    pub http: TcpListener,
    /// TCP port 443
    pub https: TcpListener,
    /// UDP port 53
    pub dns: UdpSocket,
}

/// The environment of every program, below the one of its step; `SOURCE_DATE_EPOCH` comes on top.
pub fn base_env() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TERM", "dumb"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        // Hash tables in the same order each time.
        ("PYTHONHASHSEED", "0"),
        ("PERL_HASH_SEED", "0"),
        ("container", "raptor"),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into()
}
