//! Runs a case through the program itself, for what is decided behind the language: derivations of layers and jobs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::cases::{Case, CaseFileKind, Problem};
use crate::project::Outcome;

/// Runs `raptor ARGS` on the files of a case. The results are the steps of the layer that it prints, or the run.
pub fn run(case: &Case, args: &[String]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    for file in &case.files {
        let path = dir.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match file.kind {
            CaseFileKind::Text => fs::write(path, &file.text).unwrap(),
            CaseFileKind::Binary => fs::write(path, b"\xff").unwrap(),
            CaseFileKind::Dir => fs::create_dir_all(path).unwrap(),
        }
    }
    let (stdout, stderr) = raptor(dir.path(), args, &[]);
    let mut outcome = Outcome { problems: problems(&stderr, case), ..Outcome::default() };
    if let Ok(Value::Object(printed)) = serde_json::from_str(&stdout) {
        let (closure, _) = raptor(dir.path(), args, &["--closure"]);
        let names = names(&serde_json::from_str(&closure).unwrap());
        outcome.results = printed.into_iter().flat_map(|(_, it)| derivation(it, &names)).collect();
    } else if outcome.problems.is_empty() {
        let message = stderr.lines().rev().find_map(|it| it.strip_prefix("error: ")).unwrap_or_default();
        outcome.results.push(("ERROR".to_owned(), json!({ "message": message })));
    }
    outcome
}

fn raptor(dir: &Path, args: &[String], more: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raptor"));
    command.args(args).args(more).current_dir(dir).env_clear().env("RAPTOR_STORE", dir.join("store"));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

/// `kind name` of each derivation.
fn names(closure: &Map<String, Value>) -> BTreeMap<String, String> {
    let name = |it: &Value| format!("{} {}", it["kind"].as_str().unwrap(), it["name"].as_str().unwrap());
    closure.iter().map(|(id, it)| (id.clone(), name(it))).collect()
}

/// Steps of a layer; of a run what it gets.
fn derivation(mut value: Value, names: &BTreeMap<String, String>) -> Vec<(String, Value)> {
    name_inputs(&mut value, names);
    let Value::Object(mut fields) = value else { panic!("no derivation") };
    if fields["kind"] == "layer" {
        let parent = fields.get("parent").filter(|it| !it.is_null()).cloned();
        let parent = parent.map(|it| ("PARENT".to_owned(), json!({ "layer": it })));
        return parent.into_iter().chain(fields["steps"].as_array().unwrap().iter().map(step)).collect();
    }
    fields.retain(|key, _| matches!(key.as_str(), "container" | "argv" | "env" | "mounts"));
    vec![("JOB".to_owned(), Value::Object(fields))]
}

fn step(step: &Value) -> (String, Value) {
    let mut fields = step.as_object().unwrap().clone();
    let op = fields.remove("op").unwrap();
    (op.as_str().unwrap().to_uppercase(), Value::Object(fields))
}

/// Puts the names of derivations in the place of their ids.
fn name_inputs(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(id) => {
            if let Some(name) = names.get(id) {
                id.clone_from(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|it| name_inputs(it, names)),
        Value::Object(fields) => fields.values_mut().for_each(|it| name_inputs(it, names)),
        _ => {}
    }
}

/// Problems as they are shown: code and message on one line, the place on the next. How long a place is, and what led
/// there, is taken from the case.
fn problems(stderr: &str, case: &Case) -> Vec<Problem> {
    let mut wanted = case.problems.clone();
    let mut problems = Vec::new();
    let lines: Vec<&str> = stderr.lines().collect();
    for pair in lines.windows(2) {
        let severities = ["error[", "warning["];
        let Some(rest) = severities.iter().find_map(|it| pair[0].strip_prefix(it)) else { continue };
        let (code, message) = rest.split_once("]: ").unwrap();
        let place = pair[1].trim().strip_prefix("--> ").unwrap();
        let [file, line, column] = place.split(':').collect::<Vec<_>>()[..] else { panic!("{place}") };
        let text = case.files.iter().find(|it| it.path == Path::new(file)).map_or("", |it| &it.text);
        let line: usize = line.parse().unwrap();
        let column: usize = column.parse().unwrap();
        let line_start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let start =
            text[line_start..].char_indices().nth(column - 1).map_or(text.len(), |it| line_start + it.0);
        let is_it = |it: &Problem| it.file == Path::new(file) && it.start == start && it.code == code;
        let (len, stack) = match wanted.iter().position(is_it) {
            Some(idx) => {
                let it = wanted.remove(idx);
                (it.len, it.stack)
            }
            None => (1, Vec::new()),
        };
        problems.push(Problem {
            file: file.into(),
            start,
            len,
            code: code.to_owned(),
            message: message.to_owned(),
            stack,
        });
    }
    problems
}
