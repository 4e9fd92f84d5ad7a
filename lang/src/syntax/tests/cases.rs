//! Runs the cases of `cases/*.txt`: lines of rendered text, what they mean, and what is wrong with them.
//!
//! A case ends at an empty line. `=> RUN {"argv":["a"]}` is one statement (fields that are null, false or
//! a span may be left out), `  ^^^ E0102 message` is one diagnostic and points into the line above.
//! `␍ ␉ ␠` are CR, tab and a blank at the end of a line, `␊` is an empty line, `∅` at the end means that
//! the text has no final newline. Lines that start with `//` are remarks.

use serde_json::{Map, Value};

use super::*;

#[derive(Default)]
struct Case {
    line: usize,
    text: String,
    statements: Vec<(String, Value)>,
    /// Start, length on its first line, code, message.
    errors: Vec<(usize, usize, String, String)>,
}

fn cases(file: &str) -> Vec<Case> {
    let mut cases = vec![Case::default()];
    let mut line_start = 0;
    for (idx, line) in file.lines().enumerate() {
        let case = cases.last_mut().unwrap();
        let carets = line.trim_start().starts_with('^');
        if line.starts_with("//") {
            continue;
        } else if line.is_empty() {
            if !case.text.is_empty() {
                cases.push(Case::default());
            }
        } else if let Some(rest) = line.strip_prefix("=> ") {
            let (name, fields) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let fields = serde_json::from_str(fields).unwrap_or_else(|e| panic!("line {}: {e}", idx + 1));
            case.statements.push((name.into(), fields));
        } else if carets {
            let indent = line.chars().take_while(|c| *c == ' ').count();
            let rest = line.trim_start();
            let len = rest.chars().take_while(|c| *c == '^').count();
            let (code, message) = rest[len..].trim().split_once(' ').unwrap_or((rest[len..].trim(), ""));
            case.errors.push((line_start + indent, len, code.into(), message.into()));
        } else {
            if case.text.is_empty() {
                case.line = idx + 1;
            }
            line_start = case.text.len();
            let line = line.replace('␍', "\r").replace('␉', "\t").replace('␠', " ").replace('␊', "");
            case.text.push_str(&line);
            case.text.push('\n');
            if let Some(text) = case.text.strip_suffix("∅\n") {
                case.text = text.to_string();
            }
        }
    }
    cases.retain(|case| !case.text.is_empty());
    cases
}

/// Without the fields that a case may leave out.
fn essential(value: &Value, wanted: &Value) -> Map<String, Value> {
    let is_default = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    let fields = value.as_object().unwrap().iter();
    fields
        .filter(|(key, value)| {
            let left_out = matches!(key.as_str(), "inst" | "span") || is_default(value);
            !left_out || wanted.get(key).is_some()
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn check(name: &str, file: &str, at_least: usize) {
    let cases = cases(file);
    assert!(cases.len() >= at_least, "{name} has only {} cases", cases.len());
    let mut failures = String::new();
    for case in cases {
        check_invariants(&case.text);
        let (statements, diagnostics) = read(&case.text);
        let json = statements_json(&statements);
        let found: Vec<_> = json["statements"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(idx, value)| {
                let wanted = case.statements.get(idx).map(|it| it.1.clone()).unwrap_or_default();
                (value["inst"].as_str().unwrap().to_string(), Value::Object(essential(value, &wanted)))
            })
            .collect();
        let errors: Vec<_> = diagnostics
            .iter()
            .zip(case.errors.iter().map(|it| it.3.as_str()).chain(std::iter::repeat("")))
            .map(|(it, wanted)| {
                let Span { start, end, .. } = it.labels[0].span;
                let range = &case.text[start as usize..end as usize];
                let len = range.lines().next().unwrap_or("").chars().count().max(1);
                let message = if wanted.is_empty() { String::new() } else { it.message.clone() };
                (start as usize, len, it.code.id().to_string(), message)
            })
            .collect();
        if found != case.statements || errors != case.errors {
            failures += &format!(
                "{name}:{}\n{}  found {}\n        {:?}\n",
                case.line,
                case.text,
                found
                    .iter()
                    .map(|(inst, fields)| format!("=> {inst} {fields}"))
                    .collect::<Vec<_>>()
                    .join("\n        "),
                diagnostics.iter().zip(&errors).map(|(d, e)| (e, &d.message)).collect::<Vec<_>>(),
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

macro_rules! case_files {
    ($($name:ident = $at_least:literal;)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), include_str!(concat!("cases/", stringify!($name), ".txt")), $at_least);
        })*
    };
}

case_files! {
    lexing = 40;
    argv = 35;
    modules = 40;
    env_workdir = 25;
    files = 60;
    args = 45;
    mount = 20;
    unknown = 20;
}
