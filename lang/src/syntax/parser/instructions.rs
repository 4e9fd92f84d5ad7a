//! One rule for each instruction of language.md §2.

use std::ops::Range;

use super::options::Extra;
use super::{Parser, Step, shorten, shorten_to};
use crate::def::{DebianRequest, is_segment};
use crate::diag::Code;
use crate::stmt::ImageFormat;
use crate::syntax::SyntaxError;
use crate::syntax::kind::SyntaxKind::{self, *};
use crate::syntax::text::{self, ModuleError};

/// Longest argument that Linux hands to a program, in bytes without the final NUL.
const MAX_SCRIPT: usize = (128 << 10) - 1;

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
            FETCH_STMT => self.fetch(),
            KEEP_STMT => self.keep(),
            _ => self.mount(),
        }
    }

    fn from(&mut self) -> Step {
        if !self.skip_trivia() {
            return self.missing("a module, `docker://…` or `debian://…`");
        }
        if self.is_image_file() {
            return self.node(IMAGE_REF, Self::image_file);
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
                return self.fail(error.with_hint("FROM knows `docker://`, `debian://`, `oci:`, `oci-archive:`, `docker-archive:` and modules"));
            }
        };
        self.node(kind, |parser| {
            (0..4).for_each(|_| parser.bump());
            if !parser.role(0).is_word() {
                return parser.missing(if kind == DOCKER_REF { "an image reference" } else { "a suite" });
            }
            if kind == DEBIAN_REF {
                return parser.debian();
            }
            parser.path("a reference")
        })
    }

    /// Suite and options behind `debian://`.
    fn debian(&mut self) -> Step {
        let range = self.word_range();
        let reference = text::word(self.pieces(self.word_len()));
        let templated = self.pieces(self.word_len()).any(|(kind, _)| kind == TEMPLATE_EXPR);
        self.path("a suite")?;
        match reference.parse::<DebianRequest>() {
            Err(error) if !templated => {
                let message = shorten_to(160, &error.to_string());
                let error = SyntaxError::new(Code::BadReference, range, message, "not a Debian base");
                self.fail(error.with_hint(
                    "for example `debian://trixie` or `debian://trixie?include=curl&suites=updates,security`",
                ))
            }
            _ => Some(()),
        }
    }

    /// Whether `oci:`, `oci-archive:` or `docker-archive:` stands here.
    fn is_image_file(&self) -> bool {
        let len = self.pieces(self.word_len()).take_while(|(kind, _)| *kind != COLON).count();
        let scheme: String = self.pieces(len).map(|(_, raw)| raw).collect();
        self.nth(len) == COLON && ImageFormat::ALL.iter().any(|it| it.scheme() == scheme)
    }

    fn image_file(&mut self) -> Step {
        let len = self.pieces(self.word_len()).take_while(|(kind, _)| *kind != COLON).count();
        let scheme: String = self.pieces(len).map(|(_, raw)| raw).collect();
        (0..=len).for_each(|_| self.bump());
        if !self.role(0).is_word() {
            return self.missing(&format!("a path after `{scheme}:`"));
        }
        let len = self.word_len();
        let range = self.word_range();
        let value = text::word(self.pieces(len));
        let templated = self.pieces(len).any(|(kind, _)| kind == TEMPLATE_EXPR);
        self.wrap(WORD, len);
        if templated || text::image_file(&scheme, &value).is_some() {
            return Some(());
        }
        let message = format!("`{}` names no image", shorten(&self.text[range.clone()]));
        let error = SyntaxError::new(Code::BadReference, range, message, "a part of it is empty");
        self.fail(error.with_hint(format!("write `{scheme}:PATH` or `{scheme}:PATH:REFERENCE`")))
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
        if kind == RUN_STMT && self.nth(0) == HEREDOC {
            return self.script();
        }
        while self.skip_trivia() {
            if kind == RUN_STMT {
                self.no_heredoc("a heredoc is the whole script of a RUN: `RUN <<EOF`, the script, `EOF`")?;
            }
            let len = self.word_len();
            if len > 1 && self.pieces(len).any(|(kind, _)| kind == STRING) {
                let word = text::word(self.pieces(len));
                let message = "quotes in the middle of a word";
                let label = format!("one word, `{}`", shorten(&word));
                let hint = "the older Raptor made separate words of the quoted parts";
                self.differs(len, message, label, hint, text::quote(&word));
            }
            self.word(WORD);
        }
        Some(())
    }

    /// The script of `RUN <<EOF`.
    fn script(&mut self) -> Step {
        let range = self.range(0);
        self.bump();
        if !self.at_end() {
            self.skip_trivia();
            self.no_heredoc("")?;
            let message = "the script of a RUN takes no arguments";
            let error = SyntaxError::new(Code::BadHeredoc, self.word_range(), message, "not expected here");
            return self.fail(error.with_hint("a heredoc is the whole script; put the command into it"));
        }
        let Some(body) = self.heredoc_body() else { return Some(()) };
        let operator = text::heredoc_operator(&self.text[range.clone()]);
        if body.len() <= MAX_SCRIPT || operator.is_none_or(|it| it.body(body).len() <= MAX_SCRIPT) {
            return Some(());
        }
        let message = format!("the script is longer than {MAX_SCRIPT} bytes");
        let label = format!("it has {} bytes", body.len());
        let error = SyntaxError::new(Code::BadHeredoc, range, message, label);
        self.fail(
            error.with_hint("a program takes no longer argument; put the script into a file and COPY it"),
        )
    }

    /// Reports a heredoc at the cursor, where there is no place for one.
    fn no_heredoc(&mut self, place: &str) -> Step {
        if !matches!(self.nth(0), HEREDOC | OPERATOR) {
            return Some(());
        }
        let range = self.word_range();
        if self.nth(0) != HEREDOC && !text::looks_like_heredoc(&self.text[range.clone()]) {
            return Some(());
        }
        let mut line =
            self.flat.pieces[..self.pos].iter().rev().take_while(|it| it.end as usize > self.start);
        let (message, hint) = if self.nth(0) != HEREDOC {
            ("malformed heredoc", "a heredoc is a word of its own: `<<WORD`, `<<-WORD` or `<<\"WORD\"`")
        } else if line.any(|it| it.kind == HEREDOC) {
            ("a second heredoc in one statement", "a statement takes one heredoc")
        } else {
            ("unexpected heredoc", place)
        };
        let error = SyntaxError::new(Code::BadHeredoc, range, message, "not expected here");
        self.fail(error.with_hint(hint))
    }

    fn differs(&mut self, len: usize, message: &str, label: String, hint: &str, instead: String) {
        let range = self.range(0).start..self.range(len - 1).end;
        let error = SyntaxError::new(Code::DiffersFromUpstream, range, message, label);
        self.line.push(error.with_hint(hint).with_rewrite(instead));
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
        let strings = self.pieces(len).filter(|(kind, _)| *kind == STRING);
        let words: Vec<&str> = strings.map(|(_, raw)| raw).collect();
        self.differs(
            len,
            "the JSON form is read as a list of words",
            "every string is one word".into(),
            "write the words without brackets and commas; the older Raptor kept both as text",
            words.join(" "),
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
        let blanks = self.blanks_around(range.clone());
        let error =
            SyntaxError::new(Code::UnexpectedToken, range, message, "expected `NAME` or `NAME=value`");
        self.fail(match word.starts_with('=') {
            true => error.with_hint("no blanks stand around the `=`").with_guess(blanks),
            false => error
                .with_hint("write `NAME=value`; a name starts with a letter or `_` and has no punctuation"),
        })
    }

    /// Removes the blanks before a word and, if it is `=` alone, those behind it.
    fn blanks_around(&self, word: Range<usize>) -> Vec<(Range<usize>, String)> {
        let is_blank = |c: char| c == ' ' || c == '\t';
        let (before, after) = (&self.text[..word.start], &self.text[word.end..]);
        let start = before.trim_end_matches(is_blank).len();
        let mut edits = vec![(start..word.start, String::new())];
        let n_after = after.len() - after.trim_start_matches(is_blank).len();
        if &self.text[word.clone()] == "=" && n_after > 0 {
            edits.push((word.end..word.end + n_after, String::new()));
        }
        edits
    }

    fn write(&mut self) -> Step {
        let usage = "the text comes first: `WRITE <<EOF /path`";
        self.file_options(Extra::None)?;
        if !self.skip_trivia() {
            return self.missing("a text and a path");
        }
        match self.nth(0) {
            HEREDOC => self.bump(),
            _ => {
                self.no_heredoc(usage)?;
                self.first_operand(VALUE, &[BAREWORD, STRING]);
            }
        }
        if self.skip_trivia() {
            self.no_heredoc(usage)?;
        }
        self.path("a path")?;
        match self.skip_trivia() {
            true => self.no_heredoc(usage),
            false => Some(()),
        }
    }

    /// The first of two operands. If they are one word, its first piece is the first operand.
    fn first_operand(&mut self, kind: SyntaxKind, splits_after: &[SyntaxKind]) {
        let len = self.word_len();
        let split = len > 1 && splits_after.contains(&self.nth(0)) && self.ends_after(len);
        self.wrap(kind, if split { 1 } else { len });
    }

    fn mkdir(&mut self) -> Step {
        self.file_options(Extra::Parents)?;
        self.path("a directory")
    }

    fn copy(&mut self) -> Step {
        self.file_options(Extra::Exclude)?;
        self.path("a source and a destination")?;
        self.path("a destination after the source")?;
        while !self.at_end() {
            self.path("a destination")?;
        }
        Some(())
    }

    fn fetch(&mut self) -> Step {
        self.file_options(Extra::Digest)?;
        if !self.skip_trivia() {
            return self.missing("a URL and a destination");
        }
        let range = self.word_range();
        let url = text::word(self.pieces(self.word_len()));
        let templated = self.pieces(self.word_len()).any(|(kind, _)| kind == TEMPLATE_EXPR);
        self.path("a URL and a destination")?;
        let is_named = self.text[range.clone()].strip_prefix('@').is_some_and(is_segment);
        if !templated && !is_named && !url.starts_with("http://") && !url.starts_with("https://") {
            let message = format!("`{}` is not a URL that FETCH knows", shorten(&self.text[range.clone()]));
            let error = SyntaxError::new(
                Code::BadReference,
                range,
                message,
                "expected `http://`, `https://` or `@NAME`",
            );
            return self.fail(error.with_hint("files of the project come with COPY"));
        }
        self.path("a destination after the URL")
    }

    fn keep(&mut self) -> Step {
        self.path("a path")?;
        while !self.at_end() {
            self.path("a path")?;
        }
        Some(())
    }

    fn render(&mut self) -> Step {
        self.file_options(Extra::None)?;
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
