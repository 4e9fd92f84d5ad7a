//! A machine without anybody at its keyboard: waits for what its console shows, and types lines.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use regex::{Regex, RegexBuilder};
use rustix::pipe::{PipeFlags, pipe_with};

use super::args::Vm;
use super::text::Text;
use crate::cli::errors::CliError;

/// Lines of the console that an error shows.
const LAST_LINES: usize = 12;
/// Text in which expressions look for a match; older text is forgotten.
const WINDOW: usize = 1 << 18;

/// What is waited for, each with what is typed then.
pub struct Script(Vec<(Regex, Option<String>)>);

/// Ends of a machine's streams that are the machine's.
pub struct Streams<'a> {
    pub keyboard: BorrowedFd<'a>,
    pub screen: BorrowedFd<'a>,
    /// Signals for QEMU come out here, a byte each.
    pub signals: BorrowedFd<'a>,
}

/// What became of a script.
pub struct Watched<T> {
    /// What starting the machine gave.
    pub ended: T,
    /// What it still waits for.
    pub missing: Option<String>,
    /// The machine was ended when nothing was left to wait for.
    pub done: bool,
    /// What the console showed last.
    pub last: Vec<String>,
}

impl Script {
    /// The script of a command line, if it has one.
    pub fn new(args: &Vm) -> Result<Option<Script>, CliError> {
        if args.send.len() > args.wait_for.len() {
            return Err(CliError::Usage("each --send needs a --wait-for before it".to_owned()));
        }
        let steps = args.wait_for.iter().enumerate().map(|(idx, pattern)| {
            let regex = RegexBuilder::new(pattern).multi_line(true).build();
            let regex = regex.map_err(|err| CliError::Usage(format!("--wait-for {pattern}: {err}")))?;
            Ok((regex, args.send.get(idx).cloned()))
        });
        let steps = steps.collect::<Result<Vec<_>, CliError>>()?;
        Ok((!steps.is_empty()).then_some(Script(steps)))
    }

    /// Does the script while `run` runs a machine on streams; `stop` is the signal that ends it.
    pub fn watch<T>(&self, stop: i32, run: impl FnOnce(Streams<'_>) -> T) -> Result<Watched<T>, CliError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from);
        let ((keyboard, keys), (shown, screen)) = (pipe()?, pipe()?);
        let (signals, signal) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        let reader = Reader {
            script: &self.0,
            next: 0,
            text: String::new(),
            from: 0,
            keys: keys.into(),
            signal,
            stop,
        };
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || reader.read(shown.into()));
            let streams =
                Streams { keyboard: keyboard.as_fd(), screen: screen.as_fd(), signals: signals.as_fd() };
            let ended = run(streams);
            // What was shown ends where nobody can show anything any more.
            drop((keyboard, screen));
            let reader =
                reading.join().map_err(|_| CliError::Other("the console was not read".to_owned()))?;
            Ok(reader.result(ended))
        })
    }
}

/// Who sits before the screen.
struct Reader<'a> {
    script: &'a [(Regex, Option<String>)],
    /// The step that is waited for.
    next: usize,
    text: String,
    /// Where the text begins that nothing has matched yet.
    from: usize,
    keys: File,
    signal: UnixStream,
    stop: i32,
}

impl Reader<'_> {
    fn read(mut self, mut shown: File) -> Self {
        let mut text = Text::default();
        let mut buffer = [0; 4096];
        loop {
            let n = match shown.read(&mut buffer) {
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(n) if n > 0 => n,
                _ => return self,
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            // What nobody wants to see is waited for all the same.
            let mut out = std::io::stdout();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
            self.text.push_str(&text.read(bytes));
            self.step();
            self.forget();
        }
    }

    /// Does what the text on the screen allows.
    fn step(&mut self) {
        while let Some((regex, send)) = self.script.get(self.next) {
            let Some(found) = regex.find_at(&self.text, self.from) else { return };
            self.from = found.end();
            self.next += 1;
            if let Some(line) = send {
                // A machine that has ended takes no keys.
                let _ = self.keys.write_all(format!("{line}\n").as_bytes());
            } else if self.is_done() {
                let _ = self.signal.write_all(&[self.stop as u8]);
            }
        }
    }

    /// Nothing is left to wait for, and nothing was typed at the end that could have a result.
    fn is_done(&self) -> bool {
        self.next == self.script.len() && self.script.last().is_some_and(|(_, send)| send.is_none())
    }

    fn forget(&mut self) {
        let too_much = self.text.len().saturating_sub(WINDOW);
        if let Some(cut) =
            (too_much..self.text.len()).find(|at| too_much > 0 && self.text.is_char_boundary(*at))
        {
            self.text.drain(..cut);
            self.from = self.from.saturating_sub(cut);
        }
    }

    fn result<T>(self, ended: T) -> Watched<T> {
        let lines: Vec<&str> = self.text.lines().filter(|it| !it.trim().is_empty()).collect();
        let last =
            lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|it| (*it).to_owned()).collect();
        let missing = self.script.get(self.next).map(|(regex, _)| regex.to_string());
        Watched { ended, missing, done: self.is_done(), last }
    }
}
