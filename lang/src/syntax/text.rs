//! What pieces of words say: unquoting, and names made of pieces.

use std::str::FromStr;

use super::kind::SyntaxKind::{self, *};
use crate::def::{ModuleName, NameError};
use crate::stmt::{ImageFile, ImageFormat};

/// Value of a string literal, quotes and escapes removed. A missing closing quote is not minded.
pub(super) fn unquote(raw: &str) -> String {
    let inner = raw.strip_prefix('"').unwrap_or(raw);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(c) => value.push(c),
                None => {}
            },
            c => value.push(c),
        }
    }
    value
}

/// A string literal with this value.
pub(super) fn quote(value: &str) -> String {
    let mut raw = String::from('"');
    for c in value.chars() {
        match c {
            '\n' => raw.push_str("\\n"),
            '\t' => raw.push_str("\\t"),
            '"' => raw.push_str("\\\""),
            '\\' => raw.push_str("\\\\"),
            c => raw.push(c),
        }
    }
    raw.push('"');
    raw
}

/// Value of a word: strings unquoted, everything glued.
pub(super) fn word<'a>(pieces: impl Iterator<Item = (SyntaxKind, &'a str)> + Clone) -> String {
    let mut value = String::with_capacity(pieces.clone().map(|(_, raw)| raw.len()).sum());
    for (kind, raw) in pieces {
        match kind {
            STRING => value.push_str(&unquote(raw)),
            _ => value.push_str(raw),
        }
    }
    value
}

/// Why a word is no module name.
#[derive(Debug)]
pub(super) enum ModuleError {
    /// Quotes before the instance.
    Quoted,
    /// Anything else.
    Name(NameError),
}

/// The module name that a word spells. Only the instance may be quoted.
pub(super) fn module<'a>(
    pieces: impl Iterator<Item = (SyntaxKind, &'a str)>,
) -> Result<ModuleName, ModuleError> {
    let mut name = String::new();
    let mut in_instance = false;
    for (kind, raw) in pieces {
        match kind {
            STRING if in_instance => name.push_str(&unquote(raw)),
            STRING => return Err(ModuleError::Quoted),
            _ => name.push_str(raw),
        }
        in_instance |= kind == AT;
    }
    ModuleName::from_str(&name).map_err(ModuleError::Name)
}

/// The image that `scheme:text` names, `text` being `PATH[:REFERENCE]`; `None` if a part is empty.
pub(super) fn image_file(scheme: &str, text: &str) -> Option<ImageFile> {
    let format = ImageFormat::ALL.iter().copied().find(|it| it.scheme() == scheme)?;
    let (path, reference) = match text.split_once(':') {
        Some((path, reference)) => (path, Some(reference)),
        None => (text, None),
    };
    let is_empty = path.is_empty() || reference.is_some_and(str::is_empty);
    (!is_empty).then(|| ImageFile { format, path: path.to_owned(), reference: reference.map(str::to_owned) })
}

/// Value of `--chown` in pieces: `[user][:[group]]`; `None` if something else stands there.
///
/// `user:` means the group of that name, and `:` alone changes nothing.
pub(super) fn owner<'a>(
    pieces: impl Iterator<Item = (SyntaxKind, &'a str)>,
) -> Option<(Option<String>, Option<String>)> {
    let mut names: [Option<String>; 2] = [None, None];
    let mut quoted = [false, false];
    let mut side = 0;
    let mut colon = false;
    for (kind, raw) in pieces {
        match kind {
            WHITESPACE => {}
            COLON if !colon => (colon, side) = (true, 1),
            STRING if names[side].is_none() => {
                names[side] = Some(unquote(raw));
                quoted[side] = true;
            }
            BAREWORD | NUMBER | TRUE | FALSE | MINUS | DOT if !quoted[side] => {
                names[side].get_or_insert_default().push_str(raw);
            }
            _ => return None,
        }
    }
    let [user, group] = names;
    if user.is_none() && !colon {
        return None;
    }
    let group = if colon { group.or_else(|| user.clone()) } else { None };
    Some((user, group))
}

/// What `<<EOF` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeredocOperator<'a> {
    /// The line that ends the text.
    pub word: &'a str,
    /// Bytes of the operator.
    pub len: usize,
    /// Whether tabs at the start of lines do not count, `<<-`.
    strips_tabs: bool,
}

/// The operator at the start of a text. Quotes around its word change nothing, as nothing expands anyway.
pub(super) fn heredoc_operator(text: &str) -> Option<HeredocOperator<'_>> {
    let rest = text.strip_prefix("<<")?;
    let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let quote = rest.starts_with(['"', '\'']).then(|| &rest[..1]);
    let rest = quote.map_or(rest, |quote| &rest[quote.len()..]);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    let rest = quote.map_or(Some(rest), |quote| rest.strip_prefix(quote))?;
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    is_word.then(|| HeredocOperator { word, len: text.len() - rest.len(), strips_tabs })
}

/// Whether the author most likely meant a heredoc; no other word starts like that.
pub(super) fn looks_like_heredoc(word: &str) -> bool {
    let Some(rest) = word.strip_prefix("<<") else { return false };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    rest.strip_prefix(['"', '\'']).unwrap_or(rest).starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

impl HeredocOperator<'_> {
    /// Whether this line, without its newline, ends the text.
    pub(super) fn ends_at(&self, line: &str) -> bool {
        let line = if self.strips_tabs { line.trim_start_matches('\t') } else { line };
        line == self.word
    }

    /// The text that the lines between operator and end stand for.
    pub(super) fn body(&self, raw: &str) -> String {
        let mut body = String::with_capacity(raw.len());
        for line in raw.split_inclusive('\n') {
            let line = if self.strips_tabs { line.trim_start_matches('\t') } else { line };
            match line.strip_suffix("\r\n") {
                Some(line) => body.extend([line, "\n"]),
                None => body.push_str(line),
            }
        }
        body
    }
}
