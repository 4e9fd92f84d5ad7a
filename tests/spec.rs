//! Holds `spec/language.md` and `spec/grammar.ebnf` against the cases, the parser and the diagnostics.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "lang/cases.rs"]
mod cases;
#[path = "lang/check.rs"]
mod check;
#[path = "lang/command.rs"]
mod command;
#[path = "lang/ebnf.rs"]
mod ebnf;
#[path = "lang/project.rs"]
mod project;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use cases::Case;
use ebnf::{Grammar, Token};
use proptest::prelude::*;
use raptor_lang::diag::{Code, Severity};
use raptor_lang::syntax::{self, Mode, SyntaxError};

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| Grammar::parse(&spec("grammar.ebnf")));

fn spec(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("spec").join(name)).unwrap()
}

#[test]
fn every_rule_has_a_case() {
    let text = spec("language.md");
    let mut rules = BTreeSet::new();
    for rule in text.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**")).map(|it| it.0) {
        assert!(rules.insert(rule.to_owned()), "{rule} is there twice");
    }
    assert!(rules.len() > 100, "{rules:?}");
    for named in cases::rules_in(&text) {
        assert!(rules.contains(&named), "the text names {named}, which is no rule");
    }
    let mut shown = BTreeSet::new();
    for case in cases::all() {
        assert!(!case.rules.is_empty(), "{} names no rule", case.place);
        for rule in case.rules {
            assert!(rules.contains(&rule), "{} names {rule}, which is no rule", case.place);
            shown.insert(rule);
        }
    }
    let missing: Vec<_> = rules.difference(&shown).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn examples_hold() {
    let examples = examples();
    assert!(examples.len() >= 9, "only {} examples", examples.len());
    let failures: Vec<_> = examples.iter().filter_map(check::failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What the specification shows; a block may hold several cases.
fn examples() -> Vec<Case> {
    let text = spec("language.md");
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix("rapt\n"))
        .flat_map(|block| cases::read("language.md", block))
        .collect()
}

/// Codes of the language are those of its specification. Builds (E06…) are not its business.
#[test]
fn every_code_is_specified() {
    let text = spec("language.md");
    for code in Code::ALL.iter().filter(|code| !code.id().starts_with("E06")) {
        assert!(text.contains(code.id()), "{} is not in the specification", code.id());
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_code = |word: &&str| {
        word.len() == 5 && word.starts_with(['E', 'W']) && word[1..].bytes().all(|b| b.is_ascii_digit())
    };
    for word in words.filter(is_code) {
        assert!(Code::ALL.iter().any(|code| code.id() == word), "{word} is no code");
    }
}

#[test]
fn every_name_of_the_grammar_is_used() {
    assert_eq!(GRAMMAR.unreachable("File"), Vec::<&str>::new());
}

#[test]
fn the_grammar_accepts_what_the_parser_accepts() {
    // A hundred nested lists are more than the stack of a test can take.
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(compare_cases).unwrap();
    let (n_lines, differences) = thread.join().unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert!(n_lines > 500, "only {n_lines} lines");
}

/// Compares every text without templates.
fn compare_cases() -> (usize, Vec<String>) {
    let mut n_lines = 0;
    let mut differences = Vec::new();
    for case in cases::all().into_iter().chain(examples()) {
        for file in &case.files {
            let is_source = file.path.extension().is_some_and(|it| it == "rapt" || it == "rinc");
            if !case.is_project() || (is_source && !is_template(&file.text)) {
                match compare(&file.text) {
                    Ok(n) => n_lines += n,
                    Err(difference) => differences.push(format!("{}: {difference}", case.place)),
                }
            }
        }
    }
    (n_lines, differences)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_grammar_accepts_what_the_parser_accepts_of_any_line(
        instruction in prop::sample::select(vec![
            "FROM", "RUN", "CMD", "ENV", "WORKDIR", "WRITE", "MKDIR", "COPY", "RENDER", "FETCH", "KEEP", "INCLUDE", "MOUNT", "X",
        ]),
        words in prop::collection::vec(prop::sample::select(vec![
            " ", " ", " ", " ", " ", "a", "b1", "true", "12", "0755", "=", "=", ":", ".", "-", "/", "@", "$", ",", "[",
            "]", "{", "}", "\"\"", "\"x y\"", "\"x", "\\", " \\\n", "\t", "#", "# c", "+x", "é", "a=1", "k=\"v\"",
            "--chmod ", "--chown=", "--exclude ", "--sha256 ", "-p", "--each", "--layers", "--file ", "docker://", "debian:",
            "oci:", "oci-archive:", "http://h/x", "<<", "<<EOF", "<<-", "x.y", "a-b", "$p.m", "[1, 2]", "{\"k\": true}",
        ]), 0..9),
    ) {
        let text = format!("{instruction} {}\n", words.concat());
        if let Err(difference) = compare(&text) {
            prop_assert!(false, "{difference}");
        }
    }
}

fn is_template(text: &str) -> bool {
    let marks = ["{{", "{%", "{#"];
    marks.iter().any(|it| text.contains(it)) || text.lines().any(|line| line.trim_start().starts_with("$ "))
}

/// Compares grammar and parser on each line of a rendered text; gives the number of lines.
fn compare(text: &str) -> Result<usize, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{newline}");
    let parse = syntax::parse(&text, Mode::Rendered);
    let wrong: Vec<_> = parse.errors.iter().filter(|it| it.code.severity() == Severity::Error).collect();
    let lines = lines(&text);
    for line in &lines {
        let accepted = line.is_closed && GRAMMAR.accepts("Line", &line.tokens);
        let mut wrong = wrong.iter().filter(|it| line.range.contains(&it.range.start)).peekable();
        let is_right = wrong.peek().is_none();
        // One such problem may hide another.
        if accepted != is_right && !wrong.any(|it| is_beyond_grammar(it)) {
            let errors: Vec<_> = parse.errors.iter().map(|it| (it.code.id(), &it.message)).collect();
            return Err(format!(
                "the grammar says {accepted} to {:?}\n{errors:?}",
                &text[line.range.clone()]
            ));
        }
    }
    Ok(lines.len())
}

/// What the head of the grammar names as not said in it.
fn is_beyond_grammar(error: &SyntaxError) -> bool {
    match error.code {
        Code::TooDeep => true,
        Code::BadExpression => error.message.starts_with("the number "),
        Code::BadOption => error.message.starts_with("`--each` works only"),
        Code::BadReference => error.label == "not a Debian base",
        Code::BadHeredoc => error.message.starts_with("the script is longer"),
        _ => false,
    }
}

struct Line {
    /// Bytes of the text, without its end and without heredocs.
    range: Range<usize>,
    tokens: Vec<Token>,
    /// Whether its heredocs end.
    is_closed: bool,
}

/// Lines of tokens, without the lines of heredocs.
fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let mut tokens = GRAMMAR.tokens(&text[start..]);
        let is_end = |it: &Token| it.chars.last() == Some(&'\n') && !it.chars.contains(&'\\');
        let len = tokens.iter().position(is_end).unwrap_or(tokens.len());
        let mut next = tokens.get(len).map_or(text.len(), |it| start + it.range.end);
        tokens.truncate(len);
        let end = tokens.last().map_or(start, |it| start + it.range.end);
        let mut is_closed = true;
        for word in heredocs(&tokens) {
            match end_of_heredoc(&text[next..], &word) {
                Some(len) => next += len,
                None => (is_closed, next) = (false, text.len()),
            }
        }
        lines.push(Line { range: start..end.max(start + 1), tokens, is_closed });
        start = next;
    }
    lines
}

/// The `<<WORD`s of a RUN or WRITE.
fn heredocs(tokens: &[Token]) -> Vec<String> {
    let words: Vec<String> = tokens
        .split(|it| !it.is_piece)
        .filter(|word| !word.is_empty())
        .map(|word| word.iter().flat_map(|it| &it.chars).collect())
        .collect();
    let is_instruction =
        |it: &&Token| matches!(it.chars.iter().collect::<String>().as_str(), "RUN" | "WRITE");
    match tokens.iter().find(|it| it.is_piece).filter(is_instruction) {
        Some(_) => words.into_iter().filter(|word| GRAMMAR.matches("HEREDOC", word)).collect(),
        None => Vec::new(),
    }
}

/// Length of a heredoc with the line that ends it.
fn end_of_heredoc(text: &str, operator: &str) -> Option<usize> {
    let strips_tabs = operator.starts_with("<<-");
    let word = operator.trim_start_matches(['<', '-', '"', '\'']).trim_end_matches(['"', '\'']);
    let mut len = 0;
    for line in text.split_inclusive('\n') {
        len += line.len();
        let line = line.trim_end_matches('\n');
        let line = line.strip_suffix('\r').unwrap_or(line);
        if (if strips_tabs { line.trim_start_matches('\t') } else { line }) == word {
            return Some(len);
        }
    }
    None
}
