//! Templates in source text, cut where minijinja cuts them.
//!
//! Rules: `{{`, `{%`, `{#` anywhere, `$ ` as the first thing on a line; a block ends at its closing mark
//! outside of strings and brackets; `{% raw %}` makes the text up to `{% endraw %}` ordinary.

use logos::Logos;

use super::Lexer;
use crate::diag::Code;
use crate::syntax::SyntaxError;
use crate::syntax::kind::SyntaxKind::{self, *};

/// What opens a template.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Marker {
    Expr,
    Block,
    Comment,
    Line,
}

impl Marker {
    fn node(self) -> SyntaxKind {
        match self {
            Marker::Expr => TEMPLATE_EXPR,
            Marker::Block => TEMPLATE_BLOCK,
            Marker::Comment => TEMPLATE_COMMENT,
            Marker::Line => LINE_STATEMENT,
        }
    }

    fn open(self) -> &'static str {
        match self {
            Marker::Expr => "{{",
            Marker::Block => "{%",
            Marker::Comment => "{#",
            Marker::Line => "$ ",
        }
    }

    fn close(self) -> &'static str {
        match self {
            Marker::Expr => "}}",
            Marker::Block => "%}",
            Marker::Comment => "#}",
            Marker::Line => "\n",
        }
    }
}

/// Tokens inside of `{{ }}`, `{% %}` and line statements.
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
enum TemplateToken {
    #[regex(r"[ \t\x0b\x0c]+")]
    Blank,
    #[regex(r"\r\n|\n|\r")]
    Newline,
    #[regex("[A-Za-z_][A-Za-z0-9_]*")]
    Name,
    #[regex("[0-9][0-9A-Za-z_]*")]
    Number,
    #[regex(r#""([^"\\]|\\[\s\S])*""#)]
    #[regex(r"'([^'\\]|\\[\s\S])*'")]
    String,
    #[regex(r#""([^"\\]|\\[\s\S])*\\?"#)]
    #[regex(r"'([^'\\]|\\[\s\S])*\\?")]
    OpenString,
    #[regex(r"//|\*\*|==|!=|>=|<=|[-+*/%.,:~|=<>]")]
    Operator,
    #[regex(r"[(\[{]")]
    OpenBracket,
    #[regex(r"[)\]}]")]
    CloseBracket,
}

impl Lexer<'_> {
    /// A whole source text.
    pub(super) fn source(&mut self) {
        while let Some((start, marker)) = self.find_marker() {
            let data = &self.text[self.pos..start];
            let kept = match self.text.as_bytes().get(start + 2) {
                _ if marker == Marker::Line => {
                    data.trim_end_matches(|c: char| c.is_whitespace() && c != '\n' && c != '\r')
                }
                Some(b'-') => data.trim_end(),
                _ => data,
            };
            self.data(self.pos + kept.len());
            self.stripped(start);
            let strips = match marker {
                Marker::Comment => self.template_comment(),
                Marker::Block if self.basic_tag(start, "raw").is_some() => self.raw_block(),
                _ => self.template_code(marker),
            };
            self.strip_after(strips);
        }
        self.data(self.text.len());
    }

    fn find_marker(&self) -> Option<(usize, Marker)> {
        let bytes = self.text.as_bytes();
        let mut from = self.pos;
        loop {
            let at = from + bytes.get(from..)?.iter().position(|b| matches!(b, b'{' | b'$'))?;
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'{'), Some(b'{')) => return Some((at, Marker::Expr)),
                (Some(b'{'), Some(b'%')) => return Some((at, Marker::Block)),
                (Some(b'{'), Some(b'#')) => return Some((at, Marker::Comment)),
                (Some(b'$'), Some(b' ')) => {
                    let before = self.text[..at].trim_end_matches([' ', '\t']);
                    if before.is_empty() || before.ends_with(['\n', '\r']) {
                        return Some((at, Marker::Line));
                    }
                }
                _ => {}
            }
            from = at + 1;
        }
    }

    /// Emits the opening mark with its whitespace control.
    fn open(&mut self, marker: Marker) {
        self.start(marker.node());
        let control = matches!(self.text.as_bytes().get(self.pos + 2), Some(b'-' | b'+'));
        let len = if control && marker != Marker::Line { 3 } else { 2 };
        self.leaf(TEMPLATE_OPEN, self.pos + len);
    }

    fn strip_after(&mut self, strips: bool) {
        if strips {
            let rest = &self.text[self.pos..];
            self.stripped(self.text.len() - rest.trim_start().len());
        }
    }

    fn template_comment(&mut self) -> bool {
        let start = self.pos;
        self.open(Marker::Comment);
        let Some(len) = self.text[self.pos..].find("#}") else {
            if self.pos < self.text.len() {
                self.leaf(TEMPLATE_TEXT, self.text.len());
            }
            self.unclosed(Marker::Comment, start);
            return false;
        };
        let end = self.pos + len;
        let control = len > 0 && matches!(self.text.as_bytes().get(end - 1), Some(b'-' | b'+'));
        let strips = len > 0 && self.text.as_bytes().get(end - 1) == Some(&b'-');
        let text_end = if control { end - 1 } else { end };
        if text_end > self.pos {
            self.leaf(TEMPLATE_TEXT, text_end);
        }
        self.leaf(TEMPLATE_CLOSE, end + 2);
        self.finish();
        strips
    }

    /// `{{ … }}`, `{% … %}` or a line statement; says whether it strips the whitespace behind it.
    fn template_code(&mut self, marker: Marker) -> bool {
        let text = self.text;
        let start = self.pos;
        self.open(marker);
        let mut brackets = 0usize;
        loop {
            let rest = &text[self.pos..];
            if brackets == 0 && marker != Marker::Line {
                let control = usize::from(rest.starts_with(['-', '+']));
                if rest[control..].starts_with(marker.close()) {
                    self.leaf(TEMPLATE_CLOSE, self.pos + control + marker.close().len());
                    self.finish();
                    return control == 1 && rest.starts_with('-');
                }
            }
            let mut tokens = TemplateToken::lexer(rest);
            let Some(token) = tokens.next() else {
                if marker == Marker::Line {
                    self.finish();
                } else {
                    self.unclosed(marker, start);
                }
                return false;
            };
            let end = self.pos + tokens.span().end;
            match token {
                Ok(TemplateToken::Newline) if brackets == 0 && marker == Marker::Line => {
                    self.leaf(NEWLINE, end);
                    self.finish();
                    return false;
                }
                Ok(TemplateToken::Blank | TemplateToken::Newline) => self.leaf(WHITESPACE, end),
                Ok(TemplateToken::Name) => self.leaf(TEMPLATE_NAME, end),
                Ok(TemplateToken::Number) => self.leaf(TEMPLATE_NUMBER, end),
                Ok(TemplateToken::String) => self.leaf(TEMPLATE_STRING, end),
                Ok(TemplateToken::Operator) => self.leaf(TEMPLATE_OPERATOR, end),
                Ok(TemplateToken::OpenBracket) => {
                    brackets += 1;
                    self.leaf(TEMPLATE_OPERATOR, end);
                }
                Ok(TemplateToken::CloseBracket) => {
                    brackets = brackets.saturating_sub(1);
                    self.leaf(TEMPLATE_OPERATOR, end);
                }
                Ok(TemplateToken::OpenString) | Err(()) => self.leaf(TEMPLATE_ERROR, end),
            }
        }
    }

    /// `{% raw %}`, ordinary text, `{% endraw %}`.
    fn raw_block(&mut self) -> bool {
        let start = self.pos;
        let strips = self.raw_block_tag("raw");
        let body = self.pos;
        let mut from = body;
        let end = loop {
            let Some(len) = self.text[from..].find(Marker::Block.open()) else {
                self.out.template_errors.push(unclosed("{% raw %}", "{% endraw %}", start..body));
                self.data(self.text.len());
                return false;
            };
            if self.basic_tag(from + len, "endraw").is_some() {
                break from + len;
            }
            from += len + 2;
        };
        if strips {
            let kept = self.text[body..end].trim_start().len();
            self.stripped(end - kept);
        }
        let strips_end = self.text.as_bytes().get(end + 2) == Some(&b'-');
        let data_end = if strips_end { self.pos + self.text[self.pos..end].trim_end().len() } else { end };
        self.data(data_end);
        self.stripped(end);
        self.raw_block_tag("endraw")
    }

    /// Emits a tag that [`Lexer::basic_tag`] has found; says whether it strips.
    fn raw_block_tag(&mut self, name: &str) -> bool {
        let Some((end, strips)) = self.basic_tag(self.pos, name) else { return false };
        self.open(Marker::Block);
        let blank = |lexer: &mut Self| {
            let rest = &lexer.text[lexer.pos..];
            let len = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
            if len > 0 {
                lexer.leaf(WHITESPACE, lexer.pos + len);
            }
        };
        blank(self);
        self.leaf(TEMPLATE_NAME, self.pos + name.len());
        blank(self);
        self.leaf(TEMPLATE_CLOSE, end);
        self.finish();
        strips
    }

    /// The end of `{% name %}` at `at`, and whether it strips the whitespace behind it.
    fn basic_tag(&self, at: usize, name: &str) -> Option<(usize, bool)> {
        let is_blank = |c: char| c.is_ascii_whitespace();
        let rest = self.text[at..].strip_prefix("{%")?;
        let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start_matches(is_blank);
        let rest = rest.strip_prefix(name)?.trim_start_matches(is_blank);
        let (rest, strips) = match rest.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (rest.strip_prefix('+').unwrap_or(rest), false),
        };
        let rest = rest.strip_prefix("%}")?;
        Some((self.text.len() - rest.len(), strips))
    }

    fn unclosed(&mut self, marker: Marker, start: usize) {
        let error = unclosed(marker.open(), marker.close(), start..start + marker.open().len());
        self.out.template_errors.push(error);
        self.finish();
    }
}

fn unclosed(open: &str, close: &str, range: std::ops::Range<usize>) -> SyntaxError {
    let message = format!("`{open}` is not closed");
    SyntaxError::new(Code::TemplateSyntax, range, message, "starts here").with_hint(format!(
        "close it with `{close}`; for text that is no template, wrap it in `{{% raw %}}` and `{{% endraw %}}`"
    ))
}
