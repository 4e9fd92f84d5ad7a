//! Tokens of ordinary text, and of the inside of strings.
//!
//! A CR belongs to a word unless an LF follows. A backslash belongs to a bareword, as it always did, but
//! starts a token of its own in operators, so that `&& \` and `&&\` both continue the line. Two of them
//! are text.

use crate::syntax::kind::SyntaxKind::{self, *};

/// What a byte may be. Bytes of characters beyond ASCII are like `+`.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// Starts a bareword.
    Letter,
    Digit,
    /// A token by itself.
    Punctuation,
    /// `$`, which may stand inside of words.
    Dollar,
    /// `#`, which may stand inside of words.
    Hash,
    Backslash,
    Cr,
    Newline,
    Blank,
    Other,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'"' | b',' | b'.' | b'/' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'}' | b'-' => {
                Class::Punctuation
            }
            b'$' => Class::Dollar,
            b'#' => Class::Hash,
            b'\\' => Class::Backslash,
            b'\r' => Class::Cr,
            b'\n' => Class::Newline,
            b' ' | b'\t' => Class::Blank,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Whether a byte goes on with a word, by its class; CR depends on what follows.
const INSIDE: [bool; 256] = {
    let mut inside = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        inside[byte] =
            !matches!(CLASSES[byte], Class::Punctuation | Class::Cr | Class::Newline | Class::Blank);
        byte += 1;
    }
    inside
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Whether a character may stand inside a bareword.
pub(super) fn is_word_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| INSIDE[usize::from(byte)] || byte == b'\r') || !c.is_ascii()
}

/// The token of ordinary text at `start`, and where it ends. A string is told by its `QUOTE`, a comment by
/// `COMMENT` for its `#`.
pub(super) fn word_token(text: &[u8], start: usize) -> (SyntaxKind, usize) {
    let byte = text[start];
    let next = start + 1;
    match class(byte) {
        Class::Letter => (BAREWORD, word_end(text, next, true)),
        Class::Digit => (NUMBER, run_end(text, next, |byte| byte.is_ascii_digit())),
        Class::Punctuation => (punctuation(byte), next),
        Class::Dollar => (DOLLAR, next),
        Class::Hash => (COMMENT, next),
        Class::Newline => (NEWLINE, next),
        Class::Blank => (WHITESPACE, blank_end(text, next)),
        Class::Cr => {
            let end = run_end(text, next, |byte| byte == b'\r');
            match text.get(end) {
                Some(b'\n') if end == next => (NEWLINE, end + 1),
                Some(b'\n') => (OPERATOR, end - 1),
                _ => (OPERATOR, word_end(text, end, false)),
            }
        }
        Class::Backslash => match (text.get(next), text.get(next + 1)) {
            (Some(b'\n'), _) => (WHITESPACE, blank_end(text, next + 1)),
            (Some(b'\r'), Some(b'\n')) => (WHITESPACE, blank_end(text, next + 2)),
            (Some(b'\\'), _) => (OPERATOR, next + 1),
            _ => (OPERATOR, word_end(text, next, false)),
        },
        Class::Other => (OPERATOR, word_end(text, next, false)),
    }
}

fn punctuation(byte: u8) -> SyntaxKind {
    match byte {
        b'"' => QUOTE,
        b',' => COMMA,
        b'.' => DOT,
        b'/' => SLASH,
        b':' => COLON,
        b'=' => EQUALS,
        b'@' => AT,
        b'[' => L_BRACKET,
        b']' => R_BRACKET,
        b'{' => L_BRACE,
        b'}' => R_BRACE,
        _ => MINUS,
    }
}

/// End of a bareword or of an operator.
fn word_end(text: &[u8], mut at: usize, is_bareword: bool) -> usize {
    let goes_on = |byte: u8| INSIDE[usize::from(byte)] && (is_bareword || byte != b'\\');
    loop {
        at = run_end(text, at, goes_on);
        if text.get(at) != Some(&b'\r') {
            return at;
        }
        let after = run_end(text, at, |byte| byte == b'\r');
        if !text.get(after).is_some_and(|byte| goes_on(*byte)) {
            return at;
        }
        at = after;
    }
}

/// End of blanks and continuations.
fn blank_end(text: &[u8], mut at: usize) -> usize {
    loop {
        at = run_end(text, at, |byte| matches!(byte, b' ' | b'\t'));
        at = match text.get(at..).unwrap_or_default() {
            [b'\\', b'\n', ..] => at + 2,
            [b'\\', b'\r', b'\n', ..] => at + 3,
            _ => return at,
        };
    }
}

fn run_end(text: &[u8], from: usize, goes_on: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().position(|byte| !goes_on(*byte)).map_or(text.len(), |len| from + len)
}

/// Tokens behind the opening quote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StringToken {
    /// The closing quote.
    Quote,
    Escape,
    BadEscape,
    Text,
    /// The string is not closed.
    Newline,
}

/// The token at `start` inside of a string, and where it ends.
pub(super) fn string_token(text: &str, start: usize) -> (StringToken, usize) {
    let bytes = text.as_bytes();
    let next = start + 1;
    match bytes[start] {
        b'"' => (StringToken::Quote, next),
        b'\n' => (StringToken::Newline, next),
        b'\r' if bytes.get(next) == Some(&b'\n') => (StringToken::Newline, next + 1),
        b'\r' => (StringToken::Text, next),
        b'\\' => match text[next..].chars().next() {
            Some('n' | 't' | '"' | '\\') => (StringToken::Escape, next + 1),
            // A backslash at the end of the line.
            None | Some('\r' | '\n') => (StringToken::Text, next),
            Some(c) => (StringToken::BadEscape, next + c.len_utf8()),
        },
        _ => (StringToken::Text, run_end(bytes, next, |it| !matches!(it, b'"' | b'\\' | b'\r' | b'\n'))),
    }
}
