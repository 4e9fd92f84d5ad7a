//! Options: `--chmod`, `--chown` and `-p` of file instructions, and those of MOUNT.

use std::ops::Range;

use super::{Parser, Step, shorten};
use crate::diag::Code;
use crate::syntax::SyntaxError;
use crate::syntax::hints::{Advice, did_you_mean};
use crate::syntax::kind::SyntaxKind::*;
use crate::syntax::text;

/// Options of one file instruction, besides those of all.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Extra {
    None,
    /// `-p`
    Parents,
    /// `--exclude`
    Exclude,
    /// `--sha256`, `--blake3`
    Digest,
}

impl Extra {
    fn names(self) -> &'static [&'static str] {
        match self {
            Extra::None | Extra::Parents => &["chmod", "chown"],
            Extra::Exclude => &["chmod", "chown", "exclude"],
            Extra::Digest => &["chmod", "chown", "sha256", "blake3"],
        }
    }
}

const MOUNT_OPTIONS: &[&str] =
    &["simple", "file", "layers", "overlay", "readonly", "readwrite", "optional", "required", "each"];

// File instructions.
impl Parser<'_> {
    /// Options in front of the operands; behind the first operand they are operands.
    pub(super) fn file_options(&mut self, extra: Extra) -> Step {
        while self.skip_trivia() && self.nth(0) == MINUS {
            self.node(OPTION, |parser| parser.file_option(extra))?;
        }
        Some(())
    }

    fn file_option(&mut self, extra: Extra) -> Step {
        let parents = extra == Extra::Parents;
        if parents && self.nth(1) == BAREWORD && self.raw(1) == "p" {
            (0..2).for_each(|_| self.bump());
            return Some(());
        }
        match self.option_name() {
            Some("chmod") => {
                self.option_value("chmod", "three or four octal digits, such as `755`")?;
                self.mode()
            }
            Some("chown") => {
                self.option_value("chown", "an owner, such as `root:root`")?;
                self.owner()
            }
            Some("exclude") if extra == Extra::Exclude => {
                self.option_value("exclude", "a pattern, such as `*.o`")?;
                self.word(WORD);
                Some(())
            }
            Some(name @ ("sha256" | "blake3")) if extra == Extra::Digest => {
                self.option_value(name, "64 hexadecimal digits")?;
                self.digest()
            }
            name => {
                let advice = match name {
                    Some("parents") if parents => {
                        Some(Advice { hint: "write `-p`".into(), instead: Some("-p".into()) })
                    }
                    Some(name) => did_you_mean("--", name, extra.names().iter().copied()),
                    None => None,
                };
                let advice = advice.unwrap_or_else(|| {
                    let flag = if parents { ", `-p`" } else { "" };
                    let names = extra.names().join("`, `--");
                    let hint =
                        format!("the options here are `--{names}`{flag}; quote a path that starts with `-`");
                    Advice { hint, instead: None }
                });
                self.unknown_option(advice)
            }
        }
    }

    fn digest(&mut self) -> Step {
        let len = self.word_len();
        let range = self.word_range();
        let digits = text::word(self.pieces(len));
        let templated = self.pieces(len).any(|(kind, _)| kind == TEMPLATE_EXPR);
        self.wrap(WORD, len);
        if templated || (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Some(());
        }
        let message = format!("`{}` is not a digest", shorten(&self.text[range.clone()]));
        self.fail(SyntaxError::new(Code::BadOption, range, message, "expected 64 hexadecimal digits"))
    }

    fn mode(&mut self) -> Step {
        let mode = self.raw(0);
        let octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if self.nth(0) == TEMPLATE_EXPR || (self.nth(0) == NUMBER && octal) {
            self.bump();
            return Some(());
        }
        let range = self.word_range();
        let message = format!("`{}` is not a mode", shorten(&self.text[range.clone()]));
        let error = SyntaxError::new(Code::BadOption, range, message, "expected three or four octal digits");
        self.fail(error.with_hint("for example `--chmod 755` or `--chmod=0644`"))
    }

    /// `[user][:[group]]`; blanks may stand before the colon.
    fn owner(&mut self) -> Step {
        let mut len = self.pieces(self.word_len()).take_while(|(kind, _)| *kind != COLON).count();
        if len > 0 && self.nth(len) == WHITESPACE && self.nth(len + 1) == COLON {
            len += 1;
        }
        if self.nth(len) == COLON {
            len += 1;
            while self.role(len).is_word() {
                len += 1;
            }
        }
        let range = self.range(0).start..self.range(len.saturating_sub(1)).end;
        let valid = text::owner(self.pieces(len)).is_some();
        let templated = self.pieces(len).any(|(kind, _)| kind == TEMPLATE_EXPR);
        self.wrap(OWNER, len);
        if valid || templated {
            return Some(());
        }
        let message = format!("`{}` is not an owner", shorten(&self.text[range.clone()]));
        let error =
            SyntaxError::new(Code::BadOption, range, message, "expected `user`, `user:group` or `:group`");
        self.fail(error.with_hint("names have letters, digits, `_`, `.` and `-`; quote any other name"))
    }
}

// MOUNT.
impl Parser<'_> {
    pub(super) fn mount_options(&mut self) -> Step {
        let mut layers = false;
        let mut each: Option<Range<usize>> = None;
        while self.skip_trivia() && self.nth(0) == MINUS {
            let start = self.range(0).start;
            let name = self.option_name().unwrap_or("");
            self.node(OPTION, |parser| parser.mount_option(name))?;
            match name {
                "simple" | "file" | "overlay" => layers = false,
                "layers" => layers = true,
                "each" => each = Some(start..self.offset()),
                _ => {}
            }
        }
        match each {
            Some(range) if !layers => {
                let message = "`--each` works only with `--layers`";
                let error = SyntaxError::new(Code::BadOption, range, message, "this mount has no layers");
                self.fail(error.with_hint("write `MOUNT --layers --each module name path`"))
            }
            _ => Some(()),
        }
    }

    fn mount_option(&mut self, name: &str) -> Step {
        if name == "each" {
            self.option_value("each", "a module")?;
            return self.module();
        }
        if MOUNT_OPTIONS.contains(&name) {
            (0..3).for_each(|_| self.bump());
            return Some(());
        }
        let advice = did_you_mean("--", name, MOUNT_OPTIONS.iter().copied()).unwrap_or_else(|| {
            let hint = format!("the options here are `--{}`", MOUNT_OPTIONS.join("`, `--"));
            Advice { hint, instead: None }
        });
        self.unknown_option(advice)
    }
}

// Both.
impl<'a> Parser<'a> {
    /// `name` of `--name` at the cursor.
    fn option_name(&self) -> Option<&'a str> {
        ([self.nth(0), self.nth(1), self.nth(2)] == [MINUS, MINUS, BAREWORD]).then(|| self.raw(2))
    }

    /// Moves over `--name` and `=` or blanks, to the value.
    fn option_value(&mut self, name: &str, what: &str) -> Step {
        let range = self.range(0).start..self.range(2).end;
        (0..3).for_each(|_| self.bump());
        let has_value = match self.nth(0) {
            EQUALS => {
                self.bump();
                self.role(0).is_word()
            }
            _ => !self.role(0).is_word() && self.skip_trivia(),
        };
        if has_value {
            return Some(());
        }
        let message = format!("`--{name}` needs a value");
        self.fail(SyntaxError::new(Code::BadOption, range, message, format!("expected {what}")))
    }

    fn unknown_option(&mut self, advice: Advice) -> Step {
        let len = self.pieces(self.word_len()).take_while(|(kind, _)| *kind != EQUALS).count();
        let range = self.range(0).start..self.range(len.saturating_sub(1)).end;
        let message = format!("unknown option `{}`", shorten(&self.text[range.clone()]));
        self.fail(SyntaxError::new(Code::BadOption, range, message, "not an option here").with_advice(advice))
    }
}
