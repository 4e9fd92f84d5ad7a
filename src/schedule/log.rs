//! Logs of steps, one compressed file per derivation.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::derivation::DrvId;
use crate::store::{Key, Store};

/// Lines of output kept for error messages.
const TAIL: usize = 12;
/// Longest line kept for error messages, in bytes.
const TAIL_LINE: usize = 4096;

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
        let mut out = zstd::Encoder::new(fs::File::create(work.join("log.zst"))?, 3)?;
        out.include_checksum(true)?;
        Ok(Log { file: store.log_file(&id.to_string()), out, tail: Default::default(), line: Vec::new() })
    }

    /// Begins with what an earlier build wrote, as far as it can be read, and says that its steps are not done again.
    pub fn resume(&mut self, earlier: &Path, steps: usize) -> std::io::Result<()> {
        let earlier = fs::File::open(earlier).and_then(zstd::Decoder::new);
        // What was kept ends where its writer had got to, which the decoder takes for an error.
        let _ = earlier.and_then(|mut earlier| std::io::copy(&mut earlier, &mut self.out));
        writeln!(self.out, "==> steps 1 to {steps}: from a checkpoint")
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
        writeln!(self.out, "==> {number}: {text}")
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
        self.out.write_all(bytes)
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
