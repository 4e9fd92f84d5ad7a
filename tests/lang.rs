//! Runs the conformance cases of `tests/lang/*.txt`; their format is told in `tests/lang/cases.rs`.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "lang/cases.rs"]
mod cases;
#[path = "lang/check.rs"]
mod check;
#[path = "lang/command.rs"]
mod command;
#[path = "lang/project.rs"]
mod project;

#[test]
fn cases_hold() {
    let cases = cases::all();
    assert!(cases.len() >= 850, "only {} cases", cases.len());
    let failures: Vec<_> = cases.iter().filter_map(check::failure).collect();
    assert!(failures.is_empty(), "{} cases fail\n\n{}", failures.len(), failures.join("\n\n"));
}
