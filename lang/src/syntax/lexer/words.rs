//! Tokens of ordinary text, and of the inside of strings.

use logos::Logos;

use crate::syntax::kind::SyntaxKind::{self, *};

/// Tokens of ordinary text; keywords are told from barewords later.
///
/// A CR belongs to a word unless an LF follows. A backslash belongs to a bareword, as it always did, but
/// starts a token of its own in operators, so that `&& \` and `&&\` both continue the line. Two of them
/// are text.
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
pub(super) enum WordToken {
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token(":")]
    Colon,
    #[token("=")]
    Equals,
    #[token(",")]
    Comma,
    #[token("/")]
    Slash,
    #[token(".")]
    Dot,
    #[token("-")]
    Minus,
    #[token("$")]
    Dollar,
    #[token("@")]
    At,
    #[token("\"")]
    Quote,
    #[token("#")]
    Hash,
    #[regex(r#"[A-Za-z_](\r*[^ \t\r\n",./:=@\[\]{}\-])*"#)]
    Bareword,
    #[regex("[0-9]+")]
    Number,
    #[regex(r#"[^ \t\n",./:=@\[\]{}\-0-9A-Za-z_#$](\r*[^ \t\r\n",./:=@\[\]{}\-\\])*"#)]
    #[token("\\\\")]
    Operator,
    #[regex(r"\r?\n")]
    Newline,
    #[regex(r"([ \t]|\\\r?\n)+")]
    Whitespace,
}

impl WordToken {
    /// Kind of tokens that need no second look.
    pub(super) fn kind(self) -> SyntaxKind {
        match self {
            WordToken::LBracket => L_BRACKET,
            WordToken::RBracket => R_BRACKET,
            WordToken::LBrace => L_BRACE,
            WordToken::RBrace => R_BRACE,
            WordToken::Colon => COLON,
            WordToken::Equals => EQUALS,
            WordToken::Comma => COMMA,
            WordToken::Slash => SLASH,
            WordToken::Dot => DOT,
            WordToken::Minus => MINUS,
            WordToken::Dollar => DOLLAR,
            WordToken::At => AT,
            WordToken::Quote => QUOTE,
            WordToken::Hash => COMMENT_TEXT,
            WordToken::Bareword => BAREWORD,
            WordToken::Number => NUMBER,
            WordToken::Operator => OPERATOR,
            WordToken::Newline => NEWLINE,
            WordToken::Whitespace => WHITESPACE,
        }
    }
}

/// Whether a character may stand inside a bareword.
pub(super) fn is_word_char(c: char) -> bool {
    !matches!(c, ' ' | '\t' | '\n' | '"' | ',' | '.' | '/' | ':' | '=' | '@' | '[' | ']' | '{' | '}' | '-')
}

/// Tokens after the opening quote.
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
pub(super) enum StringToken {
    #[token("\"")]
    Quote,
    #[regex(r#"\\[nt"\\]"#)]
    Escape,
    #[regex(r#"\\[^nt"\\\r\n]"#)]
    BadEscape,
    /// At the end of the line.
    #[token("\\")]
    Backslash,
    #[regex(r#"[^"\\\r\n]+|\r"#)]
    Text,
    #[regex(r"\r?\n")]
    Newline,
}
