//! The network inside: loopback, and for [`Network::Proxy`] three sockets that answer for the whole internet.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Listeners;
use super::error::{Context, Trouble};
use super::mounts::last_errno;
use super::request::Network;
use super::wire::{Channel, Reply};

/// Brings the network up; the sockets go to the engine.
pub(super) fn set_up(network: Network, engine: &Channel) -> Result<(), Trouble> {
    if network == Network::Host {
        return Ok(());
    }
    loopback_up().context(|| "cannot bring the loopback interface up")?;
    if network == Network::Proxy {
        // Whatever address a program or an old resolv.conf names, it is here.
        all_addresses_local().context(|| "cannot add the local route")?;
        let bind = |port| (Ipv4Addr::UNSPECIFIED, port);
        let http = TcpListener::bind(bind(80)).context(|| "port 80")?;
        let https = TcpListener::bind(bind(443)).context(|| "port 443")?;
        let dns = UdpSocket::bind(bind(53)).context(|| "port 53")?;
        engine
            .send(&Reply::Listeners, &[http.as_fd(), https.as_fd(), dns.as_fd()])
            .context(|| "cannot pass the sockets")?;
    }
    Ok(())
}

/// The sockets as they arrive at the engine.
pub(super) fn listeners(fds: Vec<OwnedFd>) -> Option<Listeners> {
    let mut fds = fds.into_iter();
    Some(Listeners { http: fds.next()?.into(), https: fds.next()?.into(), dns: fds.next()?.into() })
}

fn loopback_up() -> rustix::io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in interface.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    interface.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request takes a pointer to an ifreq, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &interface) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// `ip route add local 0.0.0.0/0 dev lo`, as a netlink message (rtnetlink(7)).
fn all_addresses_local() -> std::io::Result<()> {
    const LOOPBACK_INDEX: u32 = 1;
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, port.
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
    message.extend(36u32.to_ne_bytes());
    message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
    let (family, boot, host) = (libc::AF_INET as u8, 3, 254);
    message.extend([family, 0, 0, 0, libc::RT_TABLE_LOCAL, boot, host, libc::RTN_LOCAL]);
    message.extend(0u32.to_ne_bytes());
    // struct rtattr: length, type; then the interface.
    message.extend(8u16.to_ne_bytes());
    message.extend(libc::RTA_OIF.to_ne_bytes());
    message.extend(LOOPBACK_INDEX.to_ne_bytes());

    // Protocol 0 is NETLINK_ROUTE.
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(&socket, &message, rustix::net::SendFlags::empty())?;
    let mut answer = [0; 1024];
    rustix::net::recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty())?;
    // struct nlmsgerr after the header: a negative error number, 0 for success.
    let code =
        answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(-libc::EIO, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(-code)) }
}
