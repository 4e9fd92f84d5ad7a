//! The direction of use between modules, read off the `use` lines, as `spec/architecture.md` has it.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The table of spec/architecture.md, "Who may use whom".
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("spec/architecture.md")).unwrap();
    let table = text.split("| module | may use |").nth(1).expect("the table of module directions");
    let all: BTreeSet<String> = modules().into_iter().collect();
    let mut allowed = BTreeMap::new();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let module = cells[0].trim_matches('`').to_owned();
        let named: BTreeSet<String> = cells[1]
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|it| all.contains(*it))
            .map(str::to_owned)
            .collect();
        let may = match cells[1] {
            text if text.starts_with("everything but") => all.difference(&named).cloned().collect(),
            text if text.starts_with("everything") => all.clone(),
            _ => named,
        };
        allowed.insert(module, may);
    }
    allowed
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Top-level modules of the crate.
fn modules() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

/// Names that follow `crate::` anywhere in a text; of `crate::{a, b::c}` all of them.
fn used(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.insert(std::mem::take(&mut name));
                    }
                    c if depth == 0 && !c.is_whitespace() => name.push(c),
                    _ => {}
                }
            }
            names.insert(name);
        } else {
            names.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.into_iter().map(|name| name.split("::").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn groups_and_paths_are_read() {
    let text = "use crate::store::Key;\nuse crate::{fetch, sandbox::{self, Launcher}, tree};\nlet x = crate::eval::Y;";
    let expected = ["eval", "fetch", "sandbox", "store", "tree"];
    assert_eq!(used(text).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn modules_use_only_what_the_map_allows() {
    let allowed = allowed();
    let modules = modules();
    let mut broken = Vec::new();
    for module in &modules {
        let may =
            allowed.get(module).unwrap_or_else(|| panic!("spec/architecture.md does not list `{module}`"));
        let mut files = Vec::new();
        rust_files(&root().join("src").join(module), &mut files);
        for file in files {
            for name in used(&fs::read_to_string(&file).unwrap()) {
                if modules.contains(&name) && name != *module && !may.contains(&name) {
                    broken.push(format!("{}: `{module}` may not use `{name}`", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_language_crate_does_no_io() {
    let mut files = Vec::new();
    rust_files(&root().join("lang/src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Test modules stand at the end of a file or in files of their own and may read fixtures.
        if file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("testing.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for banned in ["std::fs", "std::env::", "std::process", "std::net", "std::time", "fs_err"] {
            assert!(!code.contains(banned), "{} uses {banned}", file.display());
        }
    }
}
