//! Cases of `tests/lang/*.txt`, read into values; knows the format and nothing of the language.
//!
//! A case is some lines of text, what they mean, and what is wrong with them; an empty line ends it.
//!
//! - `=> RUN {"argv":["a"]}` is one result, `  ^^^ E0102 message` one problem in the line above. The message may be
//!   left out; `<- FILE:LINE` behind it are the statements that led there, innermost first.
//! - `--- PATH` begins a file, and makes the case a project: `main.rapt` is loaded, or what `> TARGET {parameters}`
//!   says; `> raptor ARGUMENT…` runs this command instead. `--- PATH/` is an empty directory, `--- link NAME PATH` a
//!   linked package, `--- binary PATH` a file that is no text. Without files the text is one in which templates have
//!   already been rendered.
//! - `␍ ␉ ␠` are CR, tab and a blank at the end of a line, `␊` is an empty line, `∅` at the end means that the text
//!   has no final newline, `‖` in front of a line that looks like a mark makes it text.
//! - `//` begins a remark. The rules of `spec/language.md` that a remark names (`L1.2`) are those of the cases below
//!   it, up to the next remark that names any.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// One case.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Name of the file with the case, and its line.
    pub place: String,
    /// Rules of the specification that it shows.
    pub rules: Vec<String>,
    /// Without path if it is a rendered text instead of a project.
    pub files: Vec<CaseFile>,
    /// Packages: name and directory.
    pub links: Vec<(String, PathBuf)>,
    /// What to do with the project, if not load `main`.
    pub target: Option<Target>,
    /// Results in order: name and fields.
    pub results: Vec<(String, Value)>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// What is asked of a project.
#[derive(Clone, Debug)]
pub enum Target {
    /// The program of a module, with parameters.
    Load(String, Map<String, Value>),
    /// The derivation that a command prints.
    Command(Vec<String>),
}

/// One file of a case.
#[derive(Clone, Debug, Default)]
pub struct CaseFile {
    pub path: PathBuf,
    pub kind: CaseFileKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaseFileKind {
    #[default]
    Text,
    Binary,
    Dir,
}

/// One problem, with its place counted in bytes of the file and characters of the line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: PathBuf,
    pub start: usize,
    /// On its first line.
    pub len: usize,
    pub code: String,
    /// Empty if the case says nothing about it; likewise the next.
    pub message: String,
    /// `FILE:LINE` of the statements that led there, innermost first.
    pub stack: Vec<String>,
}

impl Case {
    /// Whether it has files, in contrast to one rendered text.
    pub fn is_project(&self) -> bool {
        self.files.iter().any(|file| !file.path.as_os_str().is_empty())
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.results.is_empty()
    }

    fn file(&mut self) -> &mut CaseFile {
        if self.files.is_empty() {
            self.files.push(CaseFile::default());
        }
        self.files.last_mut().unwrap()
    }
}

/// Cases of all files, in the order of their names.
pub fn all() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lang");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "txt"));
    paths.sort();
    paths
        .iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            read(name, &fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Cases of one text.
pub fn read(name: &str, text: &str) -> Vec<Case> {
    let mut cases = vec![Case::default()];
    let mut rules = Vec::new();
    let mut line_start = 0;
    for (idx, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", idx + 1);
        let case = cases.last_mut().unwrap();
        if let Some(remark) = line.strip_prefix("//") {
            let named = rules_in(remark);
            if !named.is_empty() {
                rules = named;
            }
            continue;
        }
        if line.is_empty() {
            if !case.is_empty() {
                cases.push(Case::default());
            }
            continue;
        }
        if case.is_empty() && case.target.is_none() {
            case.place.clone_from(&place);
            case.rules.clone_from(&rules);
        }
        if let Some(rest) = line.strip_prefix("=> ") {
            let (name, fields) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let fields = serde_json::from_str(fields).unwrap_or_else(|e| panic!("{place}: {e}"));
            case.results.push((name.into(), fields));
        } else if let Some(rest) = line.strip_prefix("> ") {
            case.target = Some(target(rest).unwrap_or_else(|e| panic!("{place}: {e}")));
        } else if let Some(rest) = line.strip_prefix("--- ") {
            line_start = 0;
            match rest.split(' ').collect::<Vec<_>>().as_slice() {
                ["link", name, path] => case.links.push((name.to_string(), path.into())),
                ["binary", path] => case.push_file(path, CaseFileKind::Binary),
                [path] if path.ends_with('/') => case.push_file(path, CaseFileKind::Dir),
                _ => case.push_file(rest, CaseFileKind::Text),
            }
        } else if line.trim_start().starts_with('^') {
            let file = case.file();
            let problem = problem(line, line_start, file);
            case.problems.push(problem);
        } else {
            let file = case.file();
            line_start = file.text.len();
            file.text.push_str(&unescape(line));
            file.text.push('\n');
            if let Some(text) = file.text.strip_suffix("∅\n") {
                file.text = text.to_string();
            }
        }
    }
    cases.retain(|case| !case.is_empty());
    cases
}

fn target(text: &str) -> Result<Target, serde_json::Error> {
    if let Some(args) = text.strip_prefix("raptor ") {
        return Ok(Target::Command(args.split(' ').map(str::to_owned).collect()));
    }
    let (module, with) = text.split_once(' ').unwrap_or((text, "{}"));
    Ok(Target::Load(module.to_owned(), serde_json::from_str(with)?))
}

/// Names of rules in a text: `L`, a section, a dot, a number.
pub fn rules_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let number = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit());
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| {
            let parts = word.strip_prefix('L').and_then(|it| it.split_once('.'));
            parts.is_some_and(|(section, rule)| number(section) && number(rule))
        })
        .map(str::to_owned)
        .collect()
}

impl Case {
    fn push_file(&mut self, path: &str, kind: CaseFileKind) {
        self.files.push(CaseFile { path: path.trim_end_matches('/').into(), kind, text: String::new() });
    }
}

fn unescape(line: &str) -> String {
    let line = line.strip_prefix('‖').unwrap_or(line);
    line.replace('␍', "\r").replace('␉', "\t").replace('␠', " ").replace('␊', "")
}

/// The problem that a line of carets tells, in the line of `file` that starts at `line_start`.
fn problem(carets: &str, line_start: usize, file: &CaseFile) -> Problem {
    let indent = carets.chars().take_while(|c| *c == ' ').count();
    let rest = carets.trim_start();
    let len = rest.chars().take_while(|c| *c == '^').count();
    let mut stack = rest[len..].trim().split(" <- ").map(str::to_owned);
    let text = stack.next().unwrap_or_default();
    let (code, message) = text.split_once(' ').unwrap_or((&text, ""));
    let line = &file.text[line_start..];
    let start = line.char_indices().nth(indent).map_or(line.len(), |(start, _)| start);
    Problem {
        file: file.path.clone(),
        start: line_start + start,
        len,
        code: code.to_owned(),
        message: message.to_owned(),
        stack: stack.collect(),
    }
}
