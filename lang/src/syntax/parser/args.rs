//! Arguments of INCLUDE and RENDER: `name=expression` or `name`.

use super::{Parser, Step, shorten};
use crate::diag::Code;
use crate::syntax::SyntaxError;
use crate::syntax::kind::SyntaxKind::{self, *};

/// How deep lists and maps may be nested.
pub(in crate::syntax) const MAX_DEPTH: usize = 128;

impl Parser<'_> {
    /// All arguments up to the end of the line. After a value the next may follow without a blank.
    pub(super) fn args(&mut self) -> Step {
        while self.skip_trivia() {
            self.node(ARG, Self::arg)?;
        }
        Some(())
    }

    fn arg(&mut self) -> Step {
        match self.nth(0) {
            BAREWORD => self.wrap(NAME, 1),
            TEMPLATE_EXPR => {
                self.word(NAME);
                return Some(());
            }
            kind => return self.bad_arg(kind),
        }
        if self.nth(0) == EQUALS {
            self.bump();
            return self.expression();
        }
        if !self.role(0).is_word() {
            return Some(());
        }
        self.unexpected("an argument", "a name is one bareword; write `name=value`")
    }

    fn bad_arg(&mut self, kind: SyntaxKind) -> Step {
        let glued = self.pos > 0 && self.flat.pieces[self.pos - 1].role.is_word();
        let hint = match kind {
            EQUALS => "no blanks stand around the `=`",
            _ if glued => "quote a value that has punctuation: `name=\"value\"`",
            _ => "arguments are `name=value`, or `name` for `name=name`",
        };
        self.unexpected("an argument", hint)
    }

    fn expression(&mut self) -> Step {
        if self.nth(0) == BAREWORD {
            return self.node(LOOKUP, Self::lookup);
        }
        if self.at_end() {
            let range = self.start..self.offset();
            let message = "the argument has no value";
            let error = SyntaxError::new(Code::BadExpression, range, message, "the line ends after the `=`");
            return self.fail(error.with_hint("write `name=\"\"` for an empty text"));
        }
        let blank = self.nth(0) == WHITESPACE;
        self.skip_trivia();
        if blank && self.nth(0) == BAREWORD {
            return self.unexpected("the value", "no blank stands between the `=` and a variable");
        }
        self.literal(0)
    }

    /// `a.b.c`; a trailing dot and an instance are read and ignored.
    fn lookup(&mut self) -> Step {
        let in_name = |kind| matches!(kind, BAREWORD | MINUS);
        while in_name(self.nth(0)) {
            let len = (0..).take_while(|&n| in_name(self.nth(n))).count();
            self.wrap(NAME, len);
            if self.nth(0) != DOT {
                break;
            }
            self.bump();
        }
        if self.nth(0) == AT {
            self.bump();
            if self.role(0).is_word() {
                self.word(WORD);
                return Some(());
            }
            return self.unexpected("a value", "leave the `@` out, or quote the text");
        }
        if !self.role(0).is_word() {
            return Some(());
        }
        self.unexpected("a variable", "quote a text that has punctuation: `name=\"value\"`")
    }

    fn literal(&mut self, depth: usize) -> Step {
        match self.nth(0) {
            L_BRACKET | L_BRACE if depth >= MAX_DEPTH => {
                let message = "lists and maps are nested too deeply";
                let label = format!("more than {MAX_DEPTH} levels");
                self.fail(SyntaxError::new(Code::TooDeep, self.range(0), message, label))
            }
            L_BRACKET => {
                self.node(LIST, |parser| parser.delimited(R_BRACKET, |parser| parser.literal(depth + 1)))
            }
            L_BRACE => self.node(MAP, |parser| {
                parser.delimited(R_BRACE, |parser| {
                    parser.node(MAP_ENTRY, |parser| {
                        parser.literal(depth + 1)?;
                        parser.skip_trivia();
                        if parser.nth(0) != COLON {
                            return parser.unexpected("a map", "an entry is `key: value`");
                        }
                        parser.bump();
                        parser.skip_trivia();
                        parser.literal(depth + 1)
                    })
                })
            }),
            NUMBER if self.raw(0).parse::<i64>().is_err() => {
                let message = format!("the number `{}` is too large", shorten(self.raw(0)));
                let label = format!("the largest is {}", i64::MAX);
                let error = SyntaxError::new(Code::BadExpression, self.range(0), message, label);
                self.fail(error.with_hint("quote it if it is a text"))
            }
            NUMBER | STRING | TRUE | FALSE | TEMPLATE_EXPR => {
                self.wrap(LITERAL, 1);
                Some(())
            }
            MINUS => self.unexpected("a value", "there are no negative numbers; quote it if it is a text"),
            BAREWORD if depth > 0 => {
                self.unexpected("a list or map", "they hold literals only; quote the text")
            }
            _ => self.unexpected("a value", "a value is a text in quotes, a number, a bool, a list or a map"),
        }
    }

    /// A list or map, comma after the last item or not.
    fn delimited(&mut self, close: SyntaxKind, mut item: impl FnMut(&mut Self) -> Step) -> Step {
        let open = self.range(0);
        self.bump();
        loop {
            self.skip_trivia();
            if self.at_end() {
                return self.unclosed(open);
            }
            if self.nth(0) == close {
                self.bump();
                return Some(());
            }
            item(self)?;
            self.skip_trivia();
            if self.at_end() {
                return self.unclosed(open);
            }
            match self.nth(0) {
                COMMA => self.bump(),
                kind if kind == close => {}
                _ => return self.unexpected("a list or map", "items are separated by commas"),
            }
        }
    }

    fn unclosed(&mut self, open: std::ops::Range<usize>) -> Step {
        let message = format!("`{}` is not closed", &self.text[open.clone()]);
        let error = SyntaxError::new(Code::BadExpression, open, message, "starts here");
        self.fail(error.with_hint("it may span lines if each but the last ends in ` \\`"))
    }

    fn unexpected(&mut self, place: &str, hint: &str) -> Step {
        if self.at_end() {
            let range = self.start..self.offset();
            let error = SyntaxError::new(Code::BadExpression, range, "the line ends too early", "");
            return self.fail(error.with_hint(hint));
        }
        let range = self.range(0);
        let message = format!("unexpected `{}` in {place}", shorten(&self.text[range.clone()]));
        self.fail(SyntaxError::new(Code::BadExpression, range, message, "not expected here").with_hint(hint))
    }
}
