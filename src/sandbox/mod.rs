//! Sandboxes: namespaces, overlay and file steps; the same as root and as an ordinary user.

mod request;

pub use request::{Attrs, Capture, CopySource, Event, Mount, MountSource, Network, Report, Request, Step};

use std::net::{TcpListener, UdpSocket};

/// Sockets made inside a sandbox with [`Network::Proxy`]; whoever holds them is its whole internet.
pub struct Listeners {
    /// TCP 127.0.0.1:80
    pub http: TcpListener,
    /// TCP 127.0.0.1:443
    pub https: TcpListener,
    /// UDP 127.0.0.1:53
    pub dns: UdpSocket,
}
