//! What the engine and the processes of a sandbox say to each other: JSON in packets, with file descriptors.

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::ids::IdPlan;
use super::request::{Event, Report, Request};
use crate::tree::TreeInfo;

/// Longest packet; only sentences and reports travel so, a request goes in a memory file.
const PACKET: usize = 128 * 1024;
/// Most descriptors of one packet; the kernel's own limit is 253.
pub(super) const MAX_FDS: usize = 240;

/// What a sandbox process is started for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// How to enter the user namespace.
    pub ids: IdPlan,
    /// What to do there.
    pub task: Task,
}

/// What to do in the user namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// A sandbox.
    Run { request: Box<Request>, stdio: Stdio },
    /// Delete a file or directory.
    Remove(PathBuf),
    /// Hash a tree.
    Hash(PathBuf),
    /// Become this program with these arguments.
    Reenter(Vec<OsString>),
}

/// Standard streams of the programs that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stdio {
    /// No input; output goes to the engine.
    Captured,
    /// The last step has the three descriptors that came with the job.
    Inherited,
    /// The last step has a terminal of its own, like the one that came with the job; its other end goes to the
    /// engine.
    Terminal,
}

/// First packet; its descriptors are the memory file with the job, and for programs that have the caller's standard
/// streams these three, where their signals come from ([`Deliver`]), and perhaps one to hold until the end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello;

/// A signal for the program of [`Stdio::Inherited`] or [`Stdio::Terminal`], from the engine to init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deliver {
    pub signal: i32,
    /// To its whole process group, as the keyboard does it.
    pub group: bool,
}

/// What a sandbox tells the engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Comes with the three sockets.
    Listeners,
    /// Comes with both ends of the terminal, the controlling one first.
    Terminal,
    Event(Event),
    /// The sandbox is done.
    Done(Report),
    /// The other tasks are done.
    Removed,
    Hashed(TreeInfo),
    /// A [`Task::Reenter`] ended with this status.
    Exited(i32),
    Failed(Fault),
}

/// Between the supervisor and the process that enters the namespaces, and between this and init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sync {
    /// The user namespace exists and waits for its maps.
    Unshared,
    /// The maps are written. Comes with the mounts of trees, work dir and host paths if they are shifted.
    Mapped {
        /// A control group limits memory and processes.
        grouped: bool,
    },
    /// Init has entered the root. Comes with its `/proc` and its file systems in memory.
    Entered,
}

/// One end of a packet connection.
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> rustix::io::Result<(Channel, Channel)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(a), Channel(b)))
    }

    /// Sends a packet; the descriptors arrive with it.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOBIG.into());
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return result.map(|_| ()).map_err(Into::into),
            }
        }
    }

    /// Waits for a packet; `None` when the other side has closed.
    pub fn receive<T: DeserializeOwned>(&self) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let n = loop {
            let iov = &mut [IoSliceMut::new(&mut buffer)];
            match rustix::net::recvmsg(&self.0, iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result?.bytes,
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        let message = serde_json::from_slice(buffer.get(..n).unwrap_or_default())?;
        Ok(Some((message, fds)))
    }

    /// Tells the other side that it may stop; what it still says can be received.
    pub fn hang_up(&self) {
        // The other side may be gone already, which is what we want.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Channel {
        Channel(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}
