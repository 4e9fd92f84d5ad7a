//! A connection with a client, perhaps inside TLS that ends here.
//!
//! Which of the two it is, its first byte says, on any port and in any tunnel: so programs that speak plainly to port
//! 443, or TLS to port 80, are understood as well.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use rustls::server::Acceptor;

use super::authority::{Authority, without_port};

/// How long a connection may be idle.
pub const IDLE_TIME: Duration = Duration::from_secs(120);
/// How long a client may not read what we write.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// Time for the beginning of TLS, from its first byte.
const HELLO_TIME: Duration = Duration::from_secs(30);
/// First byte of a TLS connection.
const HANDSHAKE: u8 = 22;
/// Most bytes that TLS takes at a time.
const PIECE: usize = 16 * 1024;

/// A connection; used by one thread.
pub struct Wire<'a> {
    stream: &'a TcpStream,
    /// Bytes that came already.
    early: RefCell<Vec<u8>>,
    tls: Option<RefCell<ServerConnection>>,
    /// The host that a client of TLS asked for.
    host: String,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Closed {
    /// Nothing was said: some programs only look whether the port is open.
    Silent,
    /// TLS with this host did not come about: why.
    Tls(String, String),
}

impl<'a> Wire<'a> {
    /// Waits for the client's first word; `early` is what came of it already, `tunnel` is where the client wanted to
    /// be connected to, if it said so.
    pub fn accept(
        stream: &'a TcpStream,
        early: Vec<u8>,
        tunnel: Option<&str>,
    ) -> std::result::Result<Wire<'a>, Closed> {
        let silent = |_| Closed::Silent;
        stream.set_write_timeout(Some(WRITE_TIME)).map_err(silent)?;
        stream.set_nodelay(true).map_err(silent)?;
        let early = RefCell::new(early);
        let mut wire = Wire { stream, early, tls: None, host: String::new() };
        if wire.early.borrow().is_empty() {
            let mut first = vec![0; PIECE];
            let n_read = wire.read(&mut first, Instant::now() + IDLE_TIME).map_err(silent)?;
            first.truncate(n_read);
            wire.early = RefCell::new(first);
        }
        let first = wire.early.borrow().first().copied();
        match first {
            None => return Err(Closed::Silent),
            Some(HANDSHAKE) => {}
            Some(_) => return Ok(wire),
        }
        wire.host = match tunnel {
            Some(tunnel) => without_port(tunnel).to_owned(),
            // Each address is one of this machine, so this is the one that the client meant.
            None => stream.local_addr().map(|it| it.ip().to_string()).unwrap_or_default(),
        };
        match wire.begin_tls() {
            Ok(tls) => Ok(Wire { tls: Some(RefCell::new(tls)), ..wire }),
            Err(why) => Err(Closed::Tls(wire.host, why)),
        }
    }

    /// Reads the client's greeting, and chooses the certificate that it wants to see.
    fn begin_tls(&mut self) -> std::result::Result<ServerConnection, String> {
        let deadline = Instant::now() + HELLO_TIME;
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            let n_read = acceptor.read_tls(&mut Incoming { wire: self, deadline }).map_err(words)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) if n_read == 0 => return Err("the connection was closed".into()),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let _ = alert.write_all(&mut &*self.stream);
                    return Err(error.to_string());
                }
            }
        };
        if let Some(name) = accepted.client_hello().server_name() {
            self.host = name.to_ascii_lowercase();
        }
        let config = Authority::of_process().and_then(|it| it.server(&self.host)).map_err(words)?;
        let mut tls = accepted.into_connection(config).map_err(|(error, mut alert)| {
            let _ = alert.write_all(&mut &*self.stream);
            error.to_string()
        })?;
        while tls.is_handshaking() {
            flush(&mut tls, self.stream).map_err(words)?;
            if tls.read_tls(&mut Incoming { wire: self, deadline }).map_err(words)? == 0 {
                return Err("the connection was closed".into());
            }
            self.process(&mut tls)?;
        }
        flush(&mut tls, self.stream).map_err(words)?;
        Ok(tls)
    }

    /// Decrypts what came; what there is to say about it is said to the client too.
    fn process(&self, tls: &mut ServerConnection) -> std::result::Result<(), String> {
        match tls.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = flush(tls, self.stream);
                Err(match error {
                    rustls::Error::AlertReceived(alert) => {
                        format!("the program answered with the alert {alert:?}")
                    }
                    other => other.to_string(),
                })
            }
        }
    }

    /// Whether requests come through TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The address that the client connected to.
    pub fn address(&self) -> String {
        self.stream.local_addr().map(|it| it.ip().to_string()).unwrap_or_default()
    }

    /// Reads some bytes; none when the client has ended its half.
    pub fn read(&self, buffer: &mut [u8], deadline: Instant) -> Result<usize> {
        let Some(tls) = &self.tls else { return Incoming { wire: self, deadline }.read(buffer) };
        let mut tls = tls.borrow_mut();
        loop {
            match tls.reader().read(buffer) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut Incoming { wire: self, deadline })? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.process(&mut tls).map_err(|why| Error::new(ErrorKind::InvalidData, why))?;
            flush(&mut tls, self.stream)?;
        }
    }

    /// Writes all bytes.
    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.stream;
        let Some(tls) = &self.tls else { return stream.write_all(bytes) };
        let mut tls = tls.borrow_mut();
        for piece in bytes.chunks(PIECE) {
            tls.writer().write_all(piece)?;
            flush(&mut tls, stream)?;
        }
        Ok(())
    }

    /// Ends the connection, so that the client knows that it has everything.
    pub fn close(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            tls.send_close_notify();
            let _ = flush(&mut tls, self.stream);
        }
        self.cut();
    }

    /// Ends the connection, so that the client knows that it has not. Other handles of it may be open, so that
    /// dropping this one would not do.
    pub fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// What a client sends, before a time.
struct Incoming<'a> {
    wire: &'a Wire<'a>,
    deadline: Instant,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut early = self.wire.early.borrow_mut();
        if !early.is_empty() {
            let n_read = early.as_slice().read(buffer)?;
            early.drain(..n_read);
            return Ok(n_read);
        }
        let rest = self.deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.wire.stream.set_read_timeout(Some(rest))?;
        let mut stream = self.wire.stream;
        stream.read(buffer)
    }
}

fn flush(tls: &mut ServerConnection, mut stream: &TcpStream) -> Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut stream)?;
    }
    Ok(())
}

fn words(error: impl ToString) -> String {
    error.to_string()
}
