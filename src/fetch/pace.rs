//! Bodies that come too slowly: a server that sends a byte now and then would keep a build for ever.

use std::io::Read;
use std::time::{Duration, Instant};

/// Least bytes per second, taken over the time that a server may be silent.
const LEAST_RATE: f64 = 1024.0;

/// A reader that fails if not enough comes.
pub struct Paced<R> {
    inner: R,
    span: Duration,
    since: Instant,
    bytes: usize,
}

impl<R> Paced<R> {
    /// Looks at the rate once in a while.
    pub fn new(inner: R, span: Duration) -> Paced<R> {
        Paced { inner, span, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n_read = self.inner.read(buffer)?;
        self.bytes += n_read;
        let passed = self.since.elapsed();
        if n_read > 0 && passed >= self.span {
            if (self.bytes as f64) < LEAST_RATE * passed.as_secs_f64() {
                let message = format!("only {} bytes came in {} s", self.bytes, passed.as_secs());
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(n_read)
    }
}
