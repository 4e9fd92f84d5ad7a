//! What pieces of words say: unquoting, and names made of pieces.

use std::str::FromStr;

use super::kind::SyntaxKind::{self, *};
use crate::def::{ModuleName, NameError};

/// Value of a string literal, quotes and escapes removed. A missing closing quote is not minded.
pub(super) fn unquote(raw: &str) -> String {
    let inner = raw.strip_prefix('"').unwrap_or(raw);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
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

/// Value of a word: strings unquoted, everything glued.
pub(super) fn word<'a>(pieces: impl Iterator<Item = (SyntaxKind, &'a str)>) -> String {
    let mut value = String::new();
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
