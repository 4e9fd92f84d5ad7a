//! Reading the text of a lock file.
//!
//! Takes any TOML of the right meaning, and accepts nothing that the rest of the program would have to doubt.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::string::FromUtf8Error;

use toml_edit::{Document, InlineTable, Item, TableLike, Value};

use super::file::VERSION;
use super::{EMPTY_SHA256, FilePin, KEPT_HEADERS, Lock, LockError, NetworkEntry, debian, docker, link};

/// Reads the text of a lock file; `path` is for messages only.
pub fn parse(path: &Path, text: &str) -> Result<Lock, LockError> {
    let document = Document::parse(text).map_err(|err| {
        let conflict = text.lines().find(|line| line.starts_with("<<<<<<< "));
        let fault = match conflict.and_then(|line| text.find(line)) {
            Some(at) => Fault::new(at..at, "a merge conflict is not resolved here"),
            None => Fault::new(err.span().unwrap_or(0..0), err.message().trim()),
        };
        invalid(path, text, fault)
    })?;
    let root = Fields {
        table: document.as_table(),
        span: 0..0,
        known: &["version", "debian", "docker", "fetch", "link", "layers"],
    };
    // The version comes first: a newer file may well have fields that are unknown here.
    let version = root.integer("version").map_err(|fault| invalid(path, text, fault))?;
    if version > VERSION {
        return Err(LockError::Newer { path: path.to_path_buf(), found: version });
    }
    lock(&root, version).map_err(|fault| invalid(path, text, fault))
}

/// The error for a file that is not even text.
pub fn not_text(path: &Path, err: &FromUtf8Error) -> LockError {
    let good = err.as_bytes().get(..err.utf8_error().valid_up_to()).unwrap_or_default();
    let text = String::from_utf8_lossy(good);
    invalid(path, &text, Fault::new(good.len()..good.len(), "this is not UTF-8"))
}

/// Something wrong at a place of the text.
pub(super) struct Fault {
    span: Range<usize>,
    message: String,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { span, message: message.into() }
    }
}

fn invalid(path: &Path, text: &str, fault: Fault) -> LockError {
    let before = text.get(..fault.span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    LockError::Invalid {
        path: path.to_path_buf(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: fault.message,
    }
}

fn lock(root: &Fields, version: i64) -> Result<Lock, Fault> {
    if version < 1 {
        return Err(Fault::new(root.span_of("version"), "the version is below 1"));
    }
    root.no_others()?;
    let mut lock = Lock::default();
    for (name, item) in root.tables("debian")? {
        lock.debian.insert(name.to_owned(), debian::parse(&item)?);
    }
    for (name, item) in root.tables("docker")? {
        lock.docker.insert(name.to_owned(), docker::parse(&item)?);
    }
    for (url, item) in root.tables("fetch")? {
        if !is_mirror(url) {
            return Err(Fault::new(item.span, format!("`{url}` is not an http or https URL")));
        }
        lock.fetch.insert(url.to_owned(), file_pin(&item)?);
    }
    for (name, item) in root.tables("link")? {
        lock.link.insert(name.to_owned(), link::pin(&item)?);
    }
    for (name, item) in root.tables("layers")? {
        lock.layers.insert(name.to_owned(), requests(&item)?);
    }
    Ok(lock)
}

fn file_pin(table: &Fields) -> Result<FilePin, Fault> {
    let table = table.with_known(&["sha256", "size"])?;
    Ok(FilePin { sha256: table.checked("sha256", SHA256, is_sha256)?, size: table.size("size")? })
}

fn requests(table: &Fields) -> Result<Vec<NetworkEntry>, Fault> {
    let table = table.with_known(&["requests"])?;
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for fields in table.inline_tables("requests")? {
        let entry = network_entry(&fields)?;
        let NetworkEntry { url, method, accept, body, .. } = entry.clone();
        if !seen.insert((url, method, accept, body)) {
            let message = format!("the request `{} {}` is here twice", entry.method, entry.url);
            return Err(Fault::new(fields.span, message));
        }
        entries.push(entry);
    }
    entries.sort();
    Ok(entries)
}

fn network_entry(fields: &Fields) -> Result<NetworkEntry, Fault> {
    let fields =
        fields.with_known(&["method", "url", "accept", "body", "status", "sha256", "size", "headers"])?;
    let method = match fields.has("method") {
        true => fields.checked("method", "an HTTP method", is_method)?,
        false => "GET".to_owned(),
    };
    let status = if fields.has("status") { fields.integer("status")? } else { 200 };
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (200..500).contains(status))
        .ok_or_else(|| Fault::new(fields.span_of("status"), "`status` is not between 200 and 499"))?;
    let (sha256, size) = match fields.has("sha256") || fields.has("size") {
        true => (fields.checked("sha256", SHA256, is_sha256)?, fields.size("size")?),
        false => (EMPTY_SHA256.to_owned(), 0),
    };
    if (size == 0) != (sha256 == EMPTY_SHA256) {
        return Err(Fault::new(fields.span_of("size"), "`size` and `sha256` contradict each other"));
    }
    let headers = headers(&fields, &method)?;
    Ok(NetworkEntry {
        url: fields.checked("url", "an http, https or debian URL", is_request_url)?,
        accept: fields.optional("accept", "a header value", is_header_value)?,
        body: fields.optional("body", SHA256, is_sha256)?,
        method,
        status,
        sha256,
        size,
        headers,
    })
}

fn headers(fields: &Fields, method: &str) -> Result<Vec<(String, String)>, Fault> {
    let Some(item) = fields.table.get("headers") else { return Ok(Vec::new()) };
    let Some(table) = item.as_table_like() else {
        return Err(Fault::new(fields.span_of("headers"), "`headers` is not a table"));
    };
    let mut headers = Vec::new();
    for (name, item) in table.iter() {
        let span = item.span().unwrap_or_else(|| fields.span.clone());
        let is_kept = KEPT_HEADERS.contains(&name) || method == "HEAD" && name == "content-length";
        if !is_kept {
            return Err(Fault::new(span, format!("the header `{name}` does not belong in a lock")));
        }
        match item.as_str().filter(|value| is_header_value(value)) {
            Some(value) => headers.push((name.to_owned(), value.to_owned())),
            None => return Err(Fault::new(span, format!("`{name}` is not a header value"))),
        }
    }
    headers.sort();
    Ok(headers)
}

pub(super) const SHA256: &str = "a sha256 in 64 lower-case hex digits";

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_header_value(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

pub(super) fn is_mirror(text: &str) -> bool {
    is_visible(text) && (text.starts_with("http://") || text.starts_with("https://"))
}

fn is_request_url(text: &str) -> bool {
    is_visible(text) && (is_mirror(text) || is_alias(text))
}

/// `debian:/PATH`, or `debian:NAME/PATH` for a further suite or repository.
fn is_alias(text: &str) -> bool {
    text.strip_prefix("debian:").is_some_and(|it| it.contains('/'))
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase())
}

pub(super) fn is_package_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

pub(super) fn is_package_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+:~-".contains(&b))
}

pub(super) fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

pub(super) fn is_component(text: &str) -> bool {
    is_safe_path(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

/// A path that stays below the directory it is joined to.
pub(super) fn is_safe_path(text: &str) -> bool {
    is_visible(text) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A table under reading, with its place in the text.
pub(super) struct Fields<'a> {
    table: &'a dyn TableLike,
    pub(super) span: Range<usize>,
    known: &'a [&'a str],
}

impl<'a> Fields<'a> {
    /// The same table, once all its fields are among `known`.
    pub(super) fn with_known<'b>(&'b self, known: &'b [&'b str]) -> Result<Fields<'b>, Fault> {
        let fields = Fields { table: self.table, span: self.span.clone(), known };
        fields.no_others()?;
        Ok(fields)
    }

    fn no_others(&self) -> Result<(), Fault> {
        match self.table.iter().find(|(name, _)| !self.known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let span = self.table.key(name).and_then(|key| key.span()).unwrap_or(self.span_of(name));
                Err(Fault::new(span, format!("unknown field `{name}`")))
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    pub(super) fn span_of(&self, name: &str) -> Range<usize> {
        self.table.get(name).and_then(Item::span).unwrap_or_else(|| self.span.clone())
    }

    fn get(&self, name: &str) -> Result<&'a Item, Fault> {
        self.table.get(name).ok_or_else(|| Fault::new(self.span.clone(), format!("`{name}` is missing")))
    }

    pub(super) fn checked(&self, name: &str, what: &str, check: fn(&str) -> bool) -> Result<String, Fault> {
        match self.get(name)?.as_str() {
            Some(text) if check(text) => Ok(text.to_owned()),
            _ => Err(Fault::new(self.span_of(name), format!("`{name}` is not {what}"))),
        }
    }

    /// The same; nothing if the field is missing.
    pub(super) fn optional(
        &self,
        name: &str,
        what: &str,
        check: fn(&str) -> bool,
    ) -> Result<Option<String>, Fault> {
        self.has(name).then(|| self.checked(name, what, check)).transpose()
    }

    pub(super) fn integer(&self, name: &str) -> Result<i64, Fault> {
        self.get(name)?
            .as_integer()
            .ok_or_else(|| Fault::new(self.span_of(name), format!("`{name}` is not a whole number")))
    }

    pub(super) fn size(&self, name: &str) -> Result<u64, Fault> {
        u64::try_from(self.integer(name)?)
            .map_err(|_| Fault::new(self.span_of(name), format!("`{name}` is negative")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        let Some(item) = self.table.get(name) else { return Ok(false) };
        item.as_bool()
            .ok_or_else(|| Fault::new(self.span_of(name), format!("`{name}` is neither true nor false")))
    }

    fn array(&self, name: &str) -> Result<Vec<&'a Value>, Fault> {
        match self.get(name)?.as_array() {
            Some(array) => Ok(array.iter().collect()),
            None => Err(Fault::new(self.span_of(name), format!("`{name}` is not an array"))),
        }
    }

    pub(super) fn strings(
        &self,
        name: &str,
        what: &str,
        check: fn(&str) -> bool,
    ) -> Result<Vec<String>, Fault> {
        let string = |value: &Value| match value.as_str() {
            Some(text) if check(text) => Ok(text.to_owned()),
            _ => {
                let span = value.span().unwrap_or_else(|| self.span.clone());
                Err(Fault::new(span, format!("this is not {what}")))
            }
        };
        self.array(name)?.into_iter().map(string).collect()
    }

    pub(super) fn inline_tables(&self, name: &str) -> Result<Vec<Fields<'a>>, Fault> {
        let table = |value: &'a Value| {
            let span = value.span().unwrap_or_else(|| self.span.clone());
            match value.as_inline_table() {
                Some(table) => Ok(fields(table, span)),
                None => Err(Fault::new(span, "this is not a table")),
            }
        };
        self.array(name)?.into_iter().map(table).collect()
    }

    /// The tables in a table; none if it is missing.
    pub(super) fn tables(&self, name: &str) -> Result<Vec<(&'a str, Fields<'a>)>, Fault> {
        let Some(item) = self.table.get(name) else { return Ok(Vec::new()) };
        let not_a_table = |name: &str, span| Fault::new(span, format!("`{name}` is not a table"));
        let outer = item.as_table_like().ok_or_else(|| not_a_table(name, self.span_of(name)))?;
        let mut tables = Vec::new();
        for (name, item) in outer.iter() {
            let span = item.span().unwrap_or_else(|| self.span.clone());
            let table = item.as_table_like().ok_or_else(|| not_a_table(name, span.clone()))?;
            tables.push((name, Fields { table, span, known: &[] }));
        }
        Ok(tables)
    }
}

fn fields(table: &InlineTable, span: Range<usize>) -> Fields<'_> {
    Fields { table, span, known: &[] }
}
