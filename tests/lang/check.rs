//! Compares what a case says with what comes out of it.

use serde_json::{Map, Value};

use crate::cases::{Case, Problem};
use crate::project::{self, Outcome};

/// What is different from what the case says; the results are shown as the case would have to say them.
pub fn failure(case: &Case) -> Option<String> {
    let Outcome { results, mut problems } = project::run(case);
    let results: Vec<_> = results
        .into_iter()
        .enumerate()
        .map(|(idx, (name, value))| {
            let wanted = case.results.get(idx).map(|it| &it.1);
            (name, Value::Object(essential(value, wanted)))
        })
        .collect();
    let mut wanted = case.problems.clone();
    wanted.sort();
    problems.sort();
    // Only what the case says of a problem is compared.
    let mut compared = problems.clone();
    for (problem, wanted) in compared.iter_mut().zip(&wanted) {
        if wanted.message.is_empty() {
            problem.message.clear();
        }
        if wanted.stack.is_empty() {
            problem.stack.clear();
        }
    }
    if results == case.results && compared == wanted {
        return None;
    }
    let show = |(name, fields): &(String, Value)| format!("=> {name} {fields}\n");
    let results: String = results.iter().map(show).collect();
    let problems: String = problems.iter().map(|problem| show_problem(problem, case)).collect();
    Some(format!("{} ({}) is\n{results}{problems}", case.place, case.rules.join(" ")))
}

/// Without the fields that a case may leave out.
fn essential(value: Value, wanted: Option<&Value>) -> Map<String, Value> {
    let is_default = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let Value::Object(fields) = value else { panic!("a result without fields") };
    fields
        .into_iter()
        .filter(|(key, value)| {
            let left_out = matches!(key.as_str(), "inst" | "span" | "file") || is_default(value);
            !left_out || wanted.is_some_and(|it| it.get(key).is_some())
        })
        .collect()
}

fn show_problem(problem: &Problem, case: &Case) -> String {
    let file = case.files.iter().find(|it| it.path == problem.file);
    let text = file.map(|it| it.text.as_str()).unwrap_or_default();
    let before = text.get(..problem.start).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let stack: String = problem.stack.iter().map(|it| format!(" <- {it}")).collect();
    format!(
        "{}:{}: {line}\n{}{} {} {}{stack}\n",
        problem.file.display(),
        number + 1,
        " ".repeat(column),
        "^".repeat(problem.len),
        problem.code,
        problem.message
    )
}
