//! One rule for each instruction of language.md §2.

use super::{Parser, Step, is_word, shorten};
use crate::diag::Code;
use crate::syntax::SyntaxError;
use crate::syntax::kind::SyntaxKind::{self, *};
use crate::syntax::text::{self, ModuleError};

impl Parser<'_> {
    pub(super) fn instruction(&mut self, kind: SyntaxKind) -> Step {
        match kind {
            FROM_STMT => self.from(),
            RUN_STMT | CMD_STMT | ENTRYPOINT_STMT => self.argv(kind),
            ENV_STMT => self.env(),
            WORKDIR_STMT => self.path("a directory"),
            WRITE_STMT => self.write(),
            MKDIR_STMT => self.mkdir(),
            COPY_STMT => self.copy(),
            RENDER_STMT => self.render(),
            INCLUDE_STMT => self.include(),
            _ => self.mount(),
        }
    }

    fn from(&mut self) -> Step {
        if !self.skip_trivia() {
            return self.missing("a module, `docker://…` or `debian://…`");
        }
        if [self.nth(0), self.nth(1), self.nth(2), self.nth(3)] != [BAREWORD, COLON, SLASH, SLASH] {
            return self.module();
        }
        let kind = match self.raw(0) {
            "docker" => DOCKER_REF,
            "debian" => DEBIAN_REF,
            scheme => {
                let message = format!("unknown scheme `{}://`", shorten(scheme));
                let error = SyntaxError::new(Code::BadReference, self.range(0), message, "not known");
                return self.fail(error.with_hint("FROM knows `docker://`, `debian://` and modules"));
            }
        };
        self.node(kind, |parser| {
            (0..4).for_each(|_| parser.bump());
            if !is_word(parser.nth(0)) {
                return parser.missing(if kind == DOCKER_REF { "an image reference" } else { "a suite" });
            }
            parser.path("a reference")
        })
    }

    pub(super) fn module(&mut self) -> Step {
        let len = self.word_len();
        let range = self.word_range();
        let result = text::module(self.pieces(len));
        self.wrap(MODULE, len);
        match result {
            Ok(_) => Some(()),
            Err(ModuleError::Quoted) => {
                let message = "a module name is not quoted";
                let error = SyntaxError::new(Code::BadModuleName, range, message, "quotes in a module name");
                self.fail(error.with_hint("only the instance may be quoted: `name@\"instance\"`"))
            }
            Err(ModuleError::Name(name)) => {
                let message = shorten(&name.to_string());
                let mut error = SyntaxError::new(Code::BadModuleName, range, message, "not a module name");
                error.hint = name.hint();
                self.fail(error)
            }
        }
    }

    /// Words as a shell would see them; the older Raptor made several words of one with quotes in it.
    fn argv(&mut self, kind: SyntaxKind) -> Step {
        if !self.skip_trivia() {
            return self.missing("a program");
        }
        if let Some(len) = self.array_len(kind) {
            self.array(len);
            return Some(());
        }
        while self.skip_trivia() {
            let len = self.word_len();
            if len > 1 && self.pieces(len).any(|(kind, _)| kind == STRING) {
                let word = text::word(self.pieces(len));
                let message = "quotes in the middle of a word";
                let label = format!("one word, `{}`", shorten(&word));
                self.differs(len, message, label, "the older Raptor made separate words of the quoted parts");
            }
            self.word(WORD);
        }
        Some(())
    }

    fn differs(&mut self, len: usize, message: &str, label: String, hint: &str) {
        let range = self.range(0).start..self.range(len - 1).end;
        let error = SyntaxError::new(Code::DiffersFromUpstream, range, message, label);
        self.line.push(error.with_hint(hint));
    }

    /// How many pieces `["a", "b"]` has, if that is all there is. `RUN [ "x" ]` is the program `[`, as it
    /// always was.
    fn array_len(&self, kind: SyntaxKind) -> Option<usize> {
        let after_blanks = |mut at: usize| {
            while self.nth(at) == WHITESPACE {
                at += 1;
            }
            at
        };
        let mut len = 1;
        let mut commas = 0;
        if self.nth(0) != L_BRACKET {
            return None;
        }
        loop {
            len = after_blanks(len);
            if self.nth(len) != STRING {
                return None;
            }
            len = after_blanks(len + 1);
            match self.nth(len) {
                COMMA => commas += 1,
                R_BRACKET if kind == RUN_STMT && commas == 0 && self.nth(1) == WHITESPACE => return None,
                R_BRACKET => return self.ends_after(len + 1).then_some(len + 1),
                _ => return None,
            }
            len += 1;
        }
    }

    fn array(&mut self, len: usize) {
        self.differs(
            len,
            "the JSON form is read as a list of words",
            "every string is one word".into(),
            "write the words without brackets and commas; the older Raptor kept both as text",
        );
        self.node(ARRAY, |parser| {
            for _ in 0..len {
                if parser.nth(0) == STRING {
                    parser.wrap(WORD, 1);
                } else {
                    parser.bump();
                }
            }
        });
    }

    fn env(&mut self) -> Step {
        while self.skip_trivia() {
            if !matches!(self.nth(0), BAREWORD | TRUE | FALSE | TEMPLATE_EXPR) {
                return self.bad_env();
            }
            let len = self.word_len();
            let end = self.pos + len;
            if self.is_glued_env(len) {
                while self.pos < end {
                    self.env_var(3.min(end - self.pos));
                }
            } else if len == 1 || self.nth(1) == EQUALS || self.nth(0) == TEMPLATE_EXPR {
                self.env_var(len);
            } else {
                return self.bad_env();
            }
        }
        Some(())
    }

    /// `a="x"b="y"` in one word is two variables, as it always was.
    fn is_glued_env(&self, len: usize) -> bool {
        let kinds: Vec<_> = self.pieces(len).map(|(kind, _)| kind).collect();
        let mut vars = kinds.chunks(3).rev();
        let last = vars.next().unwrap_or_default();
        matches!(last, [BAREWORD] | [BAREWORD, EQUALS, BAREWORD | STRING])
            && vars.all(|var| var == [BAREWORD, EQUALS, STRING])
    }

    fn env_var(&mut self, len: usize) {
        self.node(ENV_VAR, |parser| {
            parser.wrap(NAME, 1);
            if len > 1 {
                parser.bump();
            }
            if len > 2 {
                parser.wrap(WORD, len - 2);
            }
        });
    }

    fn bad_env(&mut self) -> Step {
        let range = self.word_range();
        let word = &self.text[range.clone()];
        let message = format!("`{}` is not a variable", shorten(word));
        let hint = if word.starts_with('=') {
            "no blanks stand around the `=`"
        } else {
            "write `NAME=value`; a name starts with a letter or `_` and has no punctuation"
        };
        let error =
            SyntaxError::new(Code::UnexpectedToken, range, message, "expected `NAME` or `NAME=value`");
        self.fail(error.with_hint(hint))
    }

    fn write(&mut self) -> Step {
        self.file_options(false)?;
        if !self.skip_trivia() {
            return self.missing("a text and a path");
        }
        self.first_operand(VALUE, &[BAREWORD, STRING]);
        self.path("a path")
    }

    /// The first of two operands. If they are one word, its first piece is the first operand.
    fn first_operand(&mut self, kind: SyntaxKind, splits_after: &[SyntaxKind]) {
        let len = self.word_len();
        let split = len > 1 && splits_after.contains(&self.nth(0)) && self.ends_after(len);
        self.wrap(kind, if split { 1 } else { len });
    }

    fn mkdir(&mut self) -> Step {
        self.file_options(true)?;
        self.path("a directory")
    }

    fn copy(&mut self) -> Step {
        self.file_options(false)?;
        self.path("a source and a destination")?;
        self.path("a destination after the source")?;
        while !self.at_end() {
            self.path("a destination")?;
        }
        Some(())
    }

    fn render(&mut self) -> Step {
        self.file_options(false)?;
        self.path("a template and a destination")?;
        self.path("a destination after the template")?;
        self.args()
    }

    fn include(&mut self) -> Step {
        if !self.skip_trivia() {
            return self.missing("a module");
        }
        self.module()?;
        self.args()
    }

    fn mount(&mut self) -> Step {
        self.mount_options()?;
        if !self.skip_trivia() {
            return self.missing("a name and a path");
        }
        let len = self.word_len();
        let splits = self.nth(0) == BAREWORD && self.ends_after(len);
        let plain = |kind| matches!(kind, BAREWORD | NUMBER | TRUE | FALSE | MINUS | DOT);
        if !splits && !self.pieces(len).all(|(kind, _)| plain(kind) || kind == TEMPLATE_EXPR) {
            let range = self.word_range();
            let message = format!("`{}` is not a name for a mount", shorten(&self.text[range.clone()]));
            let error = SyntaxError::new(Code::UnexpectedToken, range, message, "expected a name");
            return self.fail(error.with_hint("a name is one word without quotes, as `-M name` gives it"));
        }
        self.first_operand(NAME, &[BAREWORD]);
        self.path("a path after the name")
    }

    /// One path, which may be quoted in parts but not empty.
    pub(super) fn path(&mut self, what: &str) -> Step {
        if !self.skip_trivia() {
            return self.missing(what);
        }
        let len = self.word_len();
        let range = self.word_range();
        let empty = self.pieces(len).all(|(kind, raw)| kind == STRING && raw == "\"\"");
        self.wrap(WORD, len);
        if empty {
            return self.fail(SyntaxError::new(Code::MissingOperand, range, "the path is empty", "no path"));
        }
        Some(())
    }
}
