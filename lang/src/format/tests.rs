//! Tests of the formatter: cases in `tests/*.txt`, and properties.

mod cases;
mod properties;

use std::path::Path;
use std::sync::Arc;

use minijinja::Value;

use super::*;
use crate::source::{FileId, Sources, Span};
use crate::syntax;
use crate::template::{Context, Reach, render};

/// Values that try to make blanks count.
const VALUES: &[&str] = &[
    "x",
    "",
    "a b",
    "\"",
    "\"a  b",
    "#",
    "a\nRUN b",
    "RUN a \\",
    "\\",
    "a\\",
    "RUN",
    "a\n",
    "COPY a b # c",
    " ",
    "=",
];

/// Variables of generated templates; `seed` chooses their values.
fn context(seed: usize) -> Context {
    let text = |at: usize| Value::from(VALUES[(seed * 7 + at * 3 + seed / 5) % VALUES.len()]);
    Context::from([
        ("x".into(), text(0)),
        ("y".into(), text(1)),
        ("z".into(), text(2)),
        ("yes".into(), Value::from(seed.is_multiple_of(2))),
        ("list".into(), Value::from((0..seed % 3).map(text).collect::<Vec<_>>())),
    ])
}

/// What a text means: statements without places, and codes of what is wrong.
fn meaning(text: &str, context: &Context) -> (Vec<serde_json::Value>, Vec<&'static str>) {
    let mut sources = Sources::default();
    let text: Arc<str> = text.into();
    match render(&Reach::ThisFileOnly, Path::new("a.rapt"), &text, context, &mut sources) {
        Ok(rendered) => {
            let span = |range: Range<usize>| Span::new(FileId(0), range.start, range.end);
            let parse = parse(&rendered.text, Mode::Rendered);
            let (statements, problems) = syntax::statements(&parse, &span);
            let mut json = syntax::statements_json(&statements);
            without_spans(&mut json);
            let statements = json["statements"].as_array().unwrap().clone();
            (statements, problems.iter().map(|it| it.code.id()).collect())
        }
        Err(problems) => (Vec::new(), problems.iter().map(|it| it.code.id()).collect()),
    }
}

fn without_spans(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("span");
            map.values_mut().for_each(without_spans);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_spans),
        _ => {}
    }
}

/// Comments of a source text, in order.
fn comments(text: &str) -> Vec<String> {
    let tree = parse(text, Mode::Source).syntax();
    let nodes = tree.descendants().filter(|node| {
        matches!(node.kind(), syntax::SyntaxKind::COMMENT | syntax::SyntaxKind::TEMPLATE_COMMENT)
    });
    // What is inside of templates may be tidied.
    nodes.map(|node| node.text().to_string().split_whitespace().collect::<String>()).collect()
}

/// Formats, and checks what must hold for every text.
fn check_invariants(text: &str, seeds: Range<usize>) -> String {
    let once = format(text).text;
    let twice = format(&once).text;
    assert_eq!(once, twice, "formatting again changes {text:?}");
    assert_eq!(comments(text), comments(&once), "comments of {text:?} → {once:?}");
    for seed in seeds.filter(|_| once != text) {
        let context = context(seed);
        assert_eq!(
            meaning(&once, &context),
            meaning(text, &context),
            "meaning of {text:?} → {once:?} with {context:?}"
        );
    }
    once
}
