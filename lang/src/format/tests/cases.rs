//! Runs the cases of `cases.txt`: a text, a line `---`, what becomes of it; `===` and a name begin a case.
//!
//! `␍ ␉ ␠` are CR, tab and a blank, `∅` at the end means that there is no final newline. A case whose
//! second part is missing stays as it is.

use super::*;

struct Case {
    name: &'static str,
    before: String,
    after: String,
}

fn text(part: &str) -> String {
    let text = part.replace('␍', "\r").replace('␉', "\t").replace('␠', " ");
    text.strip_suffix("∅\n").map(str::to_owned).unwrap_or(text)
}

fn cases() -> Vec<Case> {
    let file = include_str!("cases.txt");
    let cases = file.split("=== ").skip(1).map(|case| {
        let (name, body) = case.split_once('\n').unwrap();
        let (before, after) = body.split_once("---\n").unwrap_or((body, body));
        Case { name, before: text(before), after: text(after) }
    });
    cases.collect()
}

#[test]
fn texts_become_what_the_cases_say() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let mut failures = String::new();
    for Case { name, before, after } in &cases {
        let found = check_invariants(before, 0..8);
        if found != *after {
            failures += &format!("=== {name}\n{before}--- found\n{found}--- wanted\n{after}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
