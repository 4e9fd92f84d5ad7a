//! Reads a grammar in the EBNF of the W3C, and says which texts it accepts. Two levels, as `spec/grammar.ebnf` tells.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

/// A grammar: rules by name.
pub struct Grammar {
    rules: BTreeMap<String, Expr>,
}

enum Expr {
    Name(String),
    Text(Vec<char>),
    Class { negated: bool, ranges: Vec<(char, char)> },
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Repeat { inner: Box<Expr>, at_least: usize, at_most: usize },
    Difference(Box<Expr>, Box<Expr>),
}

/// A token of a text; what fits no rule is one token up to the end of its line.
#[derive(Clone, Debug)]
pub struct Token {
    pub range: Range<usize>,
    pub chars: Vec<char>,
    /// Whether it can be part of a word.
    pub is_piece: bool,
}

impl Grammar {
    /// Reads a grammar; panics where it makes no sense.
    pub fn parse(text: &str) -> Grammar {
        let words = words(text);
        let mut reader = Reader { words: &words, pos: 0 };
        let mut rules = BTreeMap::new();
        while reader.pos < words.len() {
            let name = reader.next();
            assert_eq!(reader.next(), "::=", "after {name}");
            let rule = reader.choice();
            assert!(rules.insert(name.clone(), rule).is_none(), "{name} has two rules");
        }
        Grammar { rules }
    }

    /// Names of rules that `start` and `TOKEN` do not lead to; panics at names without a rule.
    pub fn unreachable(&self, start: &str) -> Vec<&str> {
        let mut reached = BTreeSet::new();
        let mut todo = vec![start, "TOKEN"];
        while let Some(name) = todo.pop() {
            let rule = self.rules.get(name).unwrap_or_else(|| panic!("{name} has no rule"));
            if reached.insert(name) {
                rule.names(&mut todo);
            }
        }
        self.rules.keys().map(String::as_str).filter(|it| !reached.contains(it)).collect()
    }

    /// Cuts a text into tokens.
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        let chars: Vec<char> = text.chars().collect();
        let matcher = Matcher::new(self, Input::Chars(&chars));
        let (mut tokens, mut pos, mut offset) = (Vec::new(), 0, 0);
        while pos < chars.len() {
            let longest = |name| matcher.rule(name, pos).last().copied();
            let token = longest("TOKEN").filter(|end| *end > pos);
            let rest_of_line = || pos + chars[pos..].iter().take_while(|c| **c != '\n').count();
            let end = token.unwrap_or_else(rest_of_line);
            let len: usize = chars[pos..end].iter().map(|c| c.len_utf8()).sum();
            let is_piece = longest("PIECE") == Some(end);
            tokens.push(Token { range: offset..offset + len, chars: chars[pos..end].to_vec(), is_piece });
            pos = end;
            offset += len;
        }
        tokens
    }

    /// Whether a rule accepts all of the tokens.
    pub fn accepts(&self, rule: &str, tokens: &[Token]) -> bool {
        Matcher::new(self, Input::Tokens(tokens)).rule(rule, 0).contains(&tokens.len())
    }

    /// Whether a rule of characters accepts all of a text.
    pub fn matches(&self, rule: &str, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        Matcher::new(self, Input::Chars(&chars)).rule(rule, 0).contains(&chars.len())
    }
}

impl Expr {
    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Expr::Name(name) => names.push(name),
            Expr::Text(_) | Expr::Class { .. } => {}
            Expr::Sequence(parts) | Expr::Choice(parts) => parts.iter().for_each(|it| it.names(names)),
            Expr::Repeat { inner, .. } => inner.names(names),
            Expr::Difference(a, b) => [a, b].iter().for_each(|it| it.names(names)),
        }
    }
}

#[derive(Clone, Copy)]
enum Input<'a> {
    Chars(&'a [char]),
    Tokens(&'a [Token]),
}

type Ends = Rc<BTreeSet<usize>>;

/// Finds every place where a match that starts somewhere can end, and remembers it.
struct Matcher<'a> {
    grammar: &'a Grammar,
    input: Input<'a>,
    known: RefCell<HashMap<(&'a str, usize), Ends>>,
}

impl<'a> Matcher<'a> {
    fn new(grammar: &'a Grammar, input: Input<'a>) -> Matcher<'a> {
        Matcher { grammar, input, known: RefCell::default() }
    }

    fn rule(&self, name: &str, pos: usize) -> Ends {
        let (name, rule) = self.grammar.rules.get_key_value(name).unwrap();
        if let Some(ends) = self.known.borrow().get(&(name.as_str(), pos)) {
            return ends.clone();
        }
        let ends = match self.input {
            Input::Tokens(tokens) if is_lexical(name) => self.in_word(tokens, pos, |word| word.rule(name, 0)),
            _ => Rc::new(self.ends(rule, pos)),
        };
        self.known.borrow_mut().insert((name.as_str(), pos), ends.clone());
        ends
    }

    fn ends(&self, expr: &Expr, pos: usize) -> BTreeSet<usize> {
        let from_all = |starts: &BTreeSet<usize>, expr: &Expr| -> BTreeSet<usize> {
            starts.iter().flat_map(|start| self.ends(expr, *start)).collect()
        };
        match (expr, self.input) {
            (Expr::Name(name), _) => BTreeSet::clone(&self.rule(name, pos)),
            (Expr::Text(_) | Expr::Class { .. }, Input::Tokens(tokens)) => {
                BTreeSet::clone(&self.in_word(tokens, pos, |word| Rc::new(word.ends(expr, 0))))
            }
            (Expr::Text(text), Input::Chars(chars)) => {
                let found = chars[pos..].starts_with(text);
                found.then_some(pos + text.len()).into_iter().collect()
            }
            (Expr::Class { negated, ranges }, Input::Chars(chars)) => {
                let is_in = |c: &&char| ranges.iter().any(|(a, b)| (a..=b).contains(c)) != *negated;
                chars.get(pos).filter(is_in).map(|_| pos + 1).into_iter().collect()
            }
            (Expr::Sequence(parts), _) => {
                parts.iter().fold(BTreeSet::from([pos]), |at, it| from_all(&at, it))
            }
            (Expr::Choice(parts), _) => parts.iter().flat_map(|it| self.ends(it, pos)).collect(),
            (Expr::Difference(a, b), _) => &self.ends(a, pos) - &self.ends(b, pos),
            (Expr::Repeat { inner, at_least, at_most }, _) => {
                let mut last = BTreeSet::from([pos]);
                let mut all = if *at_least == 0 { last.clone() } else { BTreeSet::new() };
                for _ in 0..*at_most {
                    last = &from_all(&last, inner) - &all;
                    if last.is_empty() {
                        break;
                    }
                    all.extend(&last);
                }
                all
            }
        }
    }

    /// Matches characters of the tokens from `pos` to the end of their word, and keeps what ends with a token.
    fn in_word(&self, tokens: &[Token], pos: usize, ends: impl Fn(&Matcher<'_>) -> Ends) -> Ends {
        let run = tokens[pos..].iter().take_while(|it| it.is_piece).count();
        let tokens = &tokens[pos..tokens.len().min(pos + run.max(1))];
        let chars: Vec<char> = tokens.iter().flat_map(|it| &it.chars).copied().collect();
        let ends = ends(&Matcher::new(self.grammar, Input::Chars(&chars)));
        let mut len = 0;
        let boundaries = tokens.iter().enumerate().map(|(n, token)| {
            len += token.chars.len();
            (len, pos + n + 1)
        });
        Rc::new(boundaries.filter(|(len, _)| ends.contains(len)).map(|(_, end)| end).collect())
    }
}

fn is_lexical(name: &str) -> bool {
    name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Cuts the text of a grammar into names, texts, classes, characters and operators.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let find = |end: &str| rest.find(end).unwrap_or_else(|| panic!("no {end} behind {rest:.20}"));
        let len = match first {
            '/' => find("*/") + 2,
            '[' => find("]") + 1,
            '"' | '\'' => 2 + rest[1..].find(first).unwrap(),
            ':' => 3,
            '#' => rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(rest.len()),
            c if c.is_ascii_alphabetic() => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            _ => 1,
        };
        if first != '/' {
            words.push(rest[..len].to_owned());
        }
        rest = rest[len..].trim_start();
    }
    words
}

struct Reader<'a> {
    words: &'a [String],
    pos: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> String {
        self.pos += 1;
        self.words[self.pos - 1].clone()
    }

    fn peek(&self) -> &str {
        self.words.get(self.pos).map_or("", String::as_str)
    }

    fn choice(&mut self) -> Expr {
        let mut parts = vec![self.sequence()];
        while self.peek() == "|" {
            self.next();
            parts.push(self.sequence());
        }
        if parts.len() == 1 { parts.remove(0) } else { Expr::Choice(parts) }
    }

    fn sequence(&mut self) -> Expr {
        let mut parts = Vec::new();
        loop {
            let is_rule = self.words.get(self.pos + 1).is_some_and(|it| it == "::=");
            if is_rule || matches!(self.peek(), "" | "|" | ")") {
                return Expr::Sequence(parts);
            }
            let mut part = self.repeated();
            while self.peek() == "-" {
                self.next();
                part = Expr::Difference(Box::new(part), Box::new(self.repeated()));
            }
            parts.push(part);
        }
    }

    fn repeated(&mut self) -> Expr {
        let inner = Box::new(self.atom());
        let (at_least, at_most) = match self.peek() {
            "?" => (0, 1),
            "*" => (0, usize::MAX),
            "+" => (1, usize::MAX),
            _ => return *inner,
        };
        self.next();
        Expr::Repeat { inner, at_least, at_most }
    }

    fn atom(&mut self) -> Expr {
        let word = self.next();
        match word.chars().next() {
            Some('(') => {
                let inner = self.choice();
                assert_eq!(self.next(), ")");
                inner
            }
            Some('"' | '\'') => Expr::Text(word[1..word.len() - 1].chars().collect()),
            Some('#') => Expr::Text(vec![character(&word)]),
            Some('[') => class(&word[1..word.len() - 1]),
            Some(c) if c.is_ascii_alphabetic() => Expr::Name(word),
            _ => panic!("unexpected {word}"),
        }
    }
}

/// `#x5B`
fn character(text: &str) -> char {
    char::from_u32(u32::from_str_radix(text.strip_prefix("#x").unwrap(), 16).unwrap()).unwrap()
}

/// What stands between the brackets of a class.
fn class(text: &str) -> Expr {
    let (negated, text) = text.strip_prefix('^').map_or((false, text), |text| (true, text));
    // Characters, and whether each is a `-` that may make a range.
    let mut chars = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = match rest.strip_prefix("#x") {
            Some(digits) => {
                let is_digit = |c: &char| c.is_ascii_digit() || ('A'..='F').contains(c);
                2 + digits.chars().take_while(is_digit).count().min(2)
            }
            None => c.len_utf8(),
        };
        let shown = if len > 1 && c == '#' { character(&rest[..len]) } else { c };
        chars.push((shown, c == '-'));
        rest = &rest[len..];
    }
    let mut ranges = Vec::new();
    let mut pos = 0;
    while pos < chars.len() {
        match chars[pos..] {
            [(a, _), (_, true), (b, _), ..] => {
                ranges.push((a, b));
                pos += 3;
            }
            [(a, _), ..] => {
                ranges.push((a, a));
                pos += 1;
            }
            [] => unreachable!(),
        }
    }
    Expr::Class { negated, ranges }
}
