//! `raptor fmt`: lays out files as `spec/format.md` has it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use raptor_lang::format::{self, Kept};
use similar::TextDiff;

use super::args::Fmt;
use super::errors::CliError;
use super::session::Session;
use crate::store;

/// Name of standard input in messages.
const STDIN: &str = "<stdin>";
/// Longest search for the smallest difference of one file; after it, any difference will do.
const DIFF_TIME: Duration = Duration::from_secs(2);

pub fn main(session: &Session, args: &Fmt) -> Result<ExitCode, CliError> {
    let run = Run { session, args };
    if args.files.iter().any(|file| file == Path::new("-")) {
        if args.files.len() > 1 {
            return Err(CliError::Usage("`-` stands alone: standard input is one text".into()));
        }
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        let changes = run.stdin(bytes)?;
        return Ok(run.status(usize::from(changes)));
    }
    let mut n_failed = 0;
    let mut n_changes = 0;
    let mut on_error = |err: CliError| {
        err.report(&session.ui);
        n_failed += 1;
    };
    for file in run.files(&mut on_error) {
        match run.file(&file) {
            Ok(changes) => n_changes += usize::from(changes),
            // Whoever reads our output has seen enough.
            Err(CliError::Io(err)) if err.kind() == std::io::ErrorKind::BrokenPipe => {
                return Err(CliError::Io(err));
            }
            Err(err) => on_error(err),
        }
    }
    match n_failed {
        0 => Ok(run.status(n_changes)),
        1 => Err(CliError::Diagnosed("1 file could not be formatted".into())),
        n => Err(CliError::Diagnosed(format!("{n} files could not be formatted"))),
    }
}

struct Run<'a> {
    session: &'a Session,
    args: &'a Fmt,
}

impl Run<'_> {
    fn status(&self, n_changes: usize) -> ExitCode {
        match self.args.check && n_changes > 0 {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }

    /// The files that the command line means, each once, sorted within directories.
    fn files(&self, on_error: &mut dyn FnMut(CliError)) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let is_root = rustix::process::geteuid().is_root();
        let store = self.session.global.store.clone();
        let store = store.or_else(|| store::default_root(is_root, |name| std::env::var_os(name)));
        let store = store.and_then(|dir| std::fs::canonicalize(dir).ok());
        let here = [PathBuf::from(".")];
        let named = if self.args.files.is_empty() { &here } else { self.args.files.as_slice() };
        for path in named {
            match path.is_dir() {
                true => walk(path, store.as_deref(), &mut files, on_error),
                false => files.push(path.clone()),
            }
        }
        let files =
            files.into_iter().map(|file| file.strip_prefix(".").map(Path::to_path_buf).unwrap_or(file));
        let mut seen = BTreeSet::new();
        files.filter(|file| seen.insert(file.clone())).collect()
    }

    /// Formats standard input; says whether that changes it.
    fn stdin(&self, bytes: Vec<u8>) -> Result<bool, CliError> {
        let text = utf8(bytes, Path::new(STDIN))?;
        let new = self.format(Path::new(STDIN), &text);
        match self.args.check || self.args.diff {
            true => self.show(Path::new(STDIN), &text, &new)?,
            false => std::io::stdout().write_all(new.as_bytes())?,
        }
        Ok(new != text)
    }

    /// Formats one file; says whether that changes it.
    fn file(&self, path: &Path) -> Result<bool, CliError> {
        let text = utf8(fs_err::read(path)?, path)?;
        let new = self.format(path, &text);
        if new == text {
            return Ok(false);
        }
        if self.args.check || self.args.diff {
            self.show(path, &text, &new)?;
        } else if self.session.global.no_act {
            self.session.ui.info(&format!("Would format {}", path.display()));
        } else {
            replace(path, &new)?;
            self.session.ui.info(&format!("Formatted {}", path.display()));
        }
        Ok(true)
    }

    /// The new text. What could not be formatted is told.
    fn format(&self, path: &Path, text: &str) -> String {
        let formatted = format::format(text);
        let (mut line, mut counted) = (1, 0);
        for Kept { range, reason } in formatted.kept {
            let before = text.get(counted..range.start).unwrap_or_default();
            line += before.matches('\n').count();
            counted = range.start.max(counted);
            let place = format!("{}:{line}", path.display());
            self.session.ui.warning(&format!("{place}: left as it is: {reason}"));
        }
        formatted.text
    }

    /// What `--check` and `--diff` print of a file: its name, or the differences, which name it, too.
    fn show(&self, path: &Path, old: &str, new: &str) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        if new == old {
            return Ok(());
        }
        if !self.args.diff {
            return Ok(writeln!(out, "{}", path.display())?);
        }
        let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
        let name = path.display();
        let (before, after) = (format!("a/{name}"), format!("b/{name}"));
        Ok(write!(out, "{}", diff.unified_diff().header(&before, &after))?)
    }
}

/// Adds the source files below a directory. Links are not followed; what is hidden is not looked at.
fn walk(dir: &Path, store: Option<&Path>, files: &mut Vec<PathBuf>, on_error: &mut dyn FnMut(CliError)) {
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        if store.is_some() && std::fs::canonicalize(&dir).ok().as_deref() == store {
            continue;
        }
        let entries = fs_err::read_dir(&dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(err) => {
                on_error(err.into());
                continue;
            }
        };
        entries.sort_by_key(fs_err::DirEntry::file_name);
        let mut inner = Vec::new();
        for entry in entries {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let is_source = path.extension().is_some_and(|it| it == "rapt" || it == "rinc");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => inner.push(path),
                Ok(kind) if kind.is_file() && is_source => files.push(path),
                Ok(_) => {}
                Err(err) => on_error(err.into()),
            }
        }
        dirs.extend(inner.into_iter().rev());
    }
}

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|err| {
        let at = err.utf8_error().valid_up_to();
        CliError::Other(format!("{}: not UTF-8 (first bad byte at offset {at})", path.display()))
    })
}

/// Puts a new text into the place of a file at once; mode and owner stay.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    // A link stays a link.
    let path = fs_err::canonicalize(path)?;
    let old = fs_err::metadata(&path)?;
    let fail = |err: std::io::Error| CliError::Other(format!("cannot write {}: {err}", path.display()));
    if old.permissions().readonly() {
        return Err(CliError::Other(format!("cannot write {}: it is read-only", path.display())));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
    temp.write_all(text.as_bytes()).map_err(fail)?;
    // Somebody else's file stays theirs; if that cannot be, it is not for us to write.
    let new = temp.as_file().metadata().map_err(fail)?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(temp.as_file(), Some(old.uid()), Some(old.gid())).map_err(fail)?;
    }
    temp.as_file().set_permissions(old.permissions()).map_err(fail)?;
    temp.as_file().sync_all().map_err(fail)?;
    temp.persist(&path).map_err(|err| fail(err.error))?;
    Ok(())
}
