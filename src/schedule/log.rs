//! Logs of steps, one compressed file per derivation.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fs_err as fs;

use crate::derivation::DrvId;
use crate::store::{self, AtWork, Key, Store};

/// Lines of output kept for error messages.
const TAIL: usize = 12;
/// Longest line kept for error messages, in bytes.
const TAIL_LINE: usize = 4096;
/// How often a log that is being written is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The log of a derivation being realized; it is kept whether the derivation succeeds or fails.
pub struct Log {
    file: PathBuf,
    out: zstd::Encoder<'static, fs::File>,
    tail: std::collections::VecDeque<String>,
    line: Vec<u8>,
}

impl Log {
    /// A new log that takes the place of an older one when finished.
    pub fn create(work: &Path, id: &DrvId, store: &Store) -> std::io::Result<Log> {
        let mut out = zstd::Encoder::new(fs::File::create(work.join(name_at_work(id)))?, 3)?;
        out.include_checksum(true)?;
        Ok(Log { file: store.log_file(&id.to_string()), out, tail: Default::default(), line: Vec::new() })
    }

    /// Begins with what an earlier build wrote, as far as it can be read, and says that its steps are not done again.
    pub fn resume(&mut self, earlier: &Path, steps: usize) -> std::io::Result<()> {
        let earlier = fs::File::open(earlier).and_then(zstd::Decoder::new);
        // What was kept ends where its writer had got to, which the decoder takes for an error.
        let _ = earlier.and_then(|mut earlier| std::io::copy(&mut earlier, &mut self.out));
        self.note(&format!("steps 1 to {steps}: from a checkpoint"))
    }

    /// Something that is no output of a step.
    pub fn note(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "==> {text}")
    }

    /// Keeps what was written so far for [`Log::resume`].
    pub fn keep(&mut self, to: &Path) -> std::io::Result<()> {
        self.out.flush()?;
        fs::copy(self.out.get_ref().path(), to).map(drop)
    }

    /// The heading of a step; the output kept for messages starts anew.
    pub fn step(&mut self, number: usize, text: &str) -> std::io::Result<()> {
        self.tail.clear();
        self.line.clear();
        writeln!(self.out, "==> {number}: {text}")?;
        self.out.flush()
    }

    /// Output of the step.
    pub fn output(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.line.len() < TAIL_LINE => self.line.push(*byte),
                _ => {}
            }
        }
        self.out.write_all(bytes)?;
        // For those who follow it. Whoever prints much is read in large pieces.
        self.out.flush()
    }

    /// Ends the log and gives the last lines of the last step.
    pub fn finish(mut self) -> std::io::Result<Vec<String>> {
        if !self.line.is_empty() {
            self.end_line();
        }
        let file = self.out.finish()?;
        fs::rename(file.path(), &self.file)?;
        Ok(self.tail.into())
    }

    fn end_line(&mut self) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        // Progress bars redraw their line: only what was last on it counts.
        let line = self.line.rsplit(|&b| b == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
        self.tail.push_back(String::from_utf8_lossy(line).into_owned());
        self.line.clear();
    }
}

/// Gives the log of a derivation a second name, the key of its result: ids change when the lock does.
pub fn name_by_key(store: &Store, id: &DrvId, key: &Key) -> std::io::Result<()> {
    let (from, to) = (store.log_file(&id.to_string()), store.log_file(&key.to_string()));
    match fs::hard_link(&from, &to) {
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_file(&to)?;
            fs::hard_link(from, to)
        }
        other => other,
    }
}

/// Name of a log in the work directory of a build.
fn name_at_work(id: &DrvId) -> String {
    format!("log-{id}.zst")
}

/// Gives `out` the log of a derivation that is being built, piece by piece until it is complete. False if it is not
/// being built, or no longer although it was not completed.
pub fn follow_log(
    store: &Store,
    id: &DrvId,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<bool, store::Error> {
    let Some(at_work) = store.at_work(&name_at_work(id))? else { return Ok(false) };
    let Ok(file) = std::fs::File::open(&at_work.path) else { return Ok(false) };
    let mut log = zstd::Decoder::new(Growing { file, at_work, stop })?;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match log.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(n_read) => out.write_all(piece.get(..n_read).unwrap_or_default())?,
            // The rest was never written.
            Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(err) => return Err(err.into()),
        }
        out.flush()?;
    }
}

/// A file that ends when its writer does.
struct Growing<'a> {
    file: std::fs::File,
    at_work: AtWork,
    stop: &'a AtomicBool,
}

impl Read for Growing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            // Asked before reading, so that nothing that was written before the end is missed.
            let goes_on = self.at_work.goes_on() && !self.stop.load(Ordering::Relaxed);
            match self.file.read(buffer)? {
                0 if goes_on => std::thread::sleep(POLL),
                n_read => return Ok(n_read),
            }
        }
    }
}

/// The log with this name, a derivation id or a key; `None` if there is none.
pub fn read_log(store: &Store, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let Some(file) = store.find_log(name) else { return Ok(None) };
    let file = match fs::File::open(file) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let mut text = Vec::new();
    zstd::Decoder::new(file)?.read_to_end(&mut text)?;
    Ok(Some(text))
}
