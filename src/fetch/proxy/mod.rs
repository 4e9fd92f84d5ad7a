//! The recording proxy: the whole internet of a sandbox.
//!
//! It owns the listening sockets of one sandbox, answers what is recorded, records what is new (if it may), and
//! in the end tells which requests were made and which got no answer that can be kept. See `spec/lock.md`.

mod authority;
mod connection;
mod dns;
mod exchange;
mod mirror;
mod part;
mod reply;
mod request;
mod spool;
mod table;
mod wire;

use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use self::connection::{Connection, Next};
use self::exchange::Exchange;
use self::reply::Reply;
use self::wire::{Closed, Wire};
use super::http::{Client, Error};
use crate::lock::NetworkEntry;
use crate::sandbox::Listeners;
use crate::store::Store;

pub use self::authority::Authority;
pub use self::exchange::CA_FILE;
pub use self::mirror::missing_bodies;

/// Connections at the same time; more wait.
const MAX_CONNECTIONS: usize = 64;
/// How long bodies may still arrive after the sandbox is gone.
const DRAIN_TIME: Duration = Duration::from_secs(30);
/// How long a checkpoint waits for connections that a step left behind.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// What a proxy works with.
pub struct ProxyConfig {
    /// Requests of the lock, with their answers.
    pub recorded: Vec<NetworkEntry>,
    /// Requests that this build has made before, in steps that are not done again.
    pub answered: Vec<NetworkEntry>,
    /// Requests that are not recorded are made, and recorded; otherwise they are refused (`--locked`).
    pub allow_new: bool,
    /// Nothing is fetched; only the store answers.
    pub offline: bool,
    /// Mirrors and repositories of the base, recorded as `debian:NAME/PATH`.
    pub mirrors: Vec<MirrorAlias>,
    /// How this machine reaches the network.
    pub client: Client,
    /// Where bodies are kept.
    pub store: Store,
    /// Hears what happens, on any thread.
    pub on_event: Arc<dyn Fn(ProxyEvent<'_>) + Send + Sync>,
}

/// One mirror under two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorAlias {
    /// In the lock: empty for the mirror of the base itself.
    pub name: String,
    /// URL as the image names it.
    pub seen: String,
    /// URL that this machine fetches from.
    pub fetch_from: String,
    /// URLs to get recorded bodies from that are gone there.
    pub snapshots: Vec<String>,
}

/// Something that happens in a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyEvent<'a> {
    /// A request was answered from the store.
    Replayed {
        /// As the client asked for it.
        url: &'a str,
    },
    /// A request was answered from the network.
    Fetched {
        /// As the client asked for it.
        url: &'a str,
        /// Size of the body.
        size: u64,
    },
    /// A request gets no answer that can be kept; a later try may still succeed.
    Refused {
        /// As the client asked for it.
        url: &'a str,
    },
    /// So many more bytes came from the network.
    Bytes(u64),
}

/// What a sandbox asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All requests that were answered, sorted: what the lock must hold.
    pub used: Vec<NetworkEntry>,
    /// Requests without an answer that can be kept, sorted: if there is one, the build has failed.
    pub refused: Vec<Refusal>,
}

/// A request without an answer that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// HTTP method.
    pub method: String,
    /// URL as the client asked for it.
    pub url: String,
    /// Why.
    pub reason: String,
    /// It is recorded, but its body is nowhere any more.
    pub is_lost: bool,
}

/// A proxy at work.
pub struct Proxy {
    shared: Arc<Shared>,
    /// The sockets that clients connect to.
    sockets: Vec<TcpListener>,
    /// Listeners end when this is closed.
    wake: Option<UnixStream>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    exchange: Exchange,
    connections: Mutex<Connections>,
    changed: Condvar,
}

#[derive(Default)]
struct Connections {
    stopping: bool,
    next_id: u64,
    open: Vec<(u64, TcpStream)>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts to answer.
    pub fn start(listeners: Listeners, config: ProxyConfig) -> Result<Proxy, Error> {
        let socket = |source| Error::Setting { setting: "the proxy".into(), reason: format!("{source}") };
        let shared = Arc::new(Shared {
            exchange: Exchange::new(config)?,
            connections: Mutex::default(),
            changed: Condvar::new(),
        });
        let (wake, woken) = UnixStream::pair().map_err(socket)?;
        let mut threads = Vec::new();
        let mut sockets = Vec::new();
        for listener in [listeners.http, listeners.https] {
            let (shared, woken) = (shared.clone(), woken.try_clone().map_err(socket)?);
            listener.set_nonblocking(true).map_err(socket)?;
            sockets.push(listener.try_clone().map_err(socket)?);
            threads.push(std::thread::spawn(move || accept(&shared, &listener, &woken)));
        }
        listeners.dns.set_nonblocking(true).map_err(socket)?;
        threads.push(std::thread::spawn(move || answer_names(&listeners.dns, &woken)));
        Ok(Proxy { shared, sockets, wake: Some(wake), listeners: threads })
    }

    /// What was asked so far, while no client is alive: waits until everything is dealt with that they left behind.
    /// `None` if that takes too long.
    pub fn settled(&self) -> Option<Outcome> {
        let deadline = Instant::now() + SETTLE_TIME;
        let mut connections = self.shared.lock();
        loop {
            // A connection is taken and noted under this lock, so there is none in between.
            if connections.open.is_empty() && self.sockets.iter().all(|it| !has_client(it)) {
                let (used, refused) = self.shared.exchange.table.peek();
                return Some(Outcome { used, refused });
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return None;
            }
            let waited = self.shared.changed.wait_timeout(connections, rest.min(Duration::from_millis(10)));
            connections = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Ends the proxy, once its sandbox is gone. Bodies that are still coming get some time to arrive.
    pub fn finish(mut self) -> Outcome {
        self.stop(DRAIN_TIME);
        let (used, refused) = self.shared.exchange.table.take();
        Outcome { used, refused }
    }

    fn stop(&mut self, drain_time: Duration) {
        self.wake = None;
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
        let deadline = Instant::now() + drain_time;
        let mut connections = self.shared.lock();
        connections.shut_down(Shutdown::Read);
        while !connections.open.is_empty() {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                connections.shut_down(Shutdown::Both);
                self.shared.exchange.shut_down();
                break;
            }
            let waited = self.shared.changed.wait_timeout(connections, rest);
            connections = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        let threads = std::mem::take(&mut connections.threads);
        drop(connections);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Connections {
    fn shut_down(&self, how: Shutdown) {
        for (_, stream) in &self.open {
            let _ = stream.shutdown(how);
        }
    }
}

/// Gives each connection a thread, until it is time to stop.
fn accept(shared: &Arc<Shared>, listener: &TcpListener, woken: &UnixStream) {
    while is_ready(listener, woken) {
        let mut connections = shared.lock();
        while connections.open.len() >= MAX_CONNECTIONS && !connections.stopping {
            connections = shared.changed.wait(connections).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        // The client may be gone meanwhile; without descriptors there is nothing but to wait.
        let Ok((stream, _)) = listener.accept() else {
            drop(connections);
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (Ok(()), Ok(handle)) = (stream.set_nonblocking(false), stream.try_clone()) else { continue };
        let id = connections.next_id;
        connections.next_id += 1;
        connections.open.push((id, handle));
        connections.threads.retain(|thread| !thread.is_finished());
        let shared = shared.clone();
        connections.threads.push(std::thread::spawn(move || {
            serve(&shared, &stream);
            shared.lock().open.retain(|(other, _)| *other != id);
            shared.changed.notify_all();
        }));
    }
}

/// Waits for something to do; false when it is time to stop.
fn is_ready(socket: &impl AsFd, woken: &UnixStream) -> bool {
    loop {
        let mut fds = [PollFd::new(woken, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether somebody has connected whom nobody has taken yet.
fn has_client(socket: &TcpListener) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

fn serve(shared: &Shared, stream: &TcpStream) {
    let (mut early, mut tunnel) = (Vec::new(), None);
    loop {
        let wire = match Wire::accept(stream, early, tunnel.as_deref()) {
            Ok(wire) => wire,
            Err(closed) => {
                if let Closed::Tls(host, why) = closed {
                    shared.exchange.refuse_tls(&host, &why);
                }
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        };
        let mut connection = Connection::new(&wire);
        match serve_requests(shared, &wire, &mut connection) {
            Some(host) => (early, tunnel) = (connection.into_rest(), Some(host)),
            None => return wire.close(),
        }
    }
}

/// Answers requests until the last, or until the client wants a tunnel, of which we are the other end.
fn serve_requests(shared: &Shared, wire: &Wire<'_>, connection: &mut Connection<'_>) -> Option<String> {
    loop {
        let keep_alive = match connection.next() {
            Next::Request(request) => shared.exchange.answer(&request, Reply::new(wire, &request.head)),
            Next::Tunnel(_) if wire.is_secure() => {
                Reply::last(wire).fail(501, "a tunnel inside TLS is not supported")
            }
            Next::Tunnel(host) => {
                wire.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
                return Some(host);
            }
            Next::Bad(bad) => Reply::last(wire).fail(bad.status, bad.reason),
            Next::Http2 => Reply::last(wire).fail(505, &shared.exchange.refuse_http2(&wire.address())),
            Next::End => false,
        };
        if !keep_alive {
            return None;
        }
    }
}

fn answer_names(socket: &UdpSocket, woken: &UnixStream) {
    let mut query = [0; 1500];
    while is_ready(socket, woken) {
        let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
        if let Some(answer) = query.get(..length).and_then(dns::answer) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

#[cfg(test)]
mod tests;
