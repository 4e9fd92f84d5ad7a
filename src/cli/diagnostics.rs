//! Diagnostics of the language as text for people, as lines and as JSON (`spec/diagnostics.md`).

use std::collections::BTreeMap;

use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::source::{FileId, Sources, Span};
use serde_json::{Value, json};

use super::args::MessageFormat;
use super::snippet;

/// Shows diagnostics over one set of files.
pub struct Printer<'a> {
    pub sources: &'a Sources,
    pub format: MessageFormat,
    pub color: bool,
    /// Starts of the lines of each file that was needed so far: a file may have many lines and many problems.
    lines: BTreeMap<FileId, Vec<usize>>,
}

/// A place for people: both count from 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl<'a> Printer<'a> {
    pub fn new(sources: &'a Sources, format: MessageFormat, color: bool) -> Printer<'a> {
        Printer { sources, format, color, lines: BTreeMap::new() }
    }

    /// A diagnostic in the wanted format, without a final newline.
    pub fn show(&mut self, problem: &Diagnostic) -> String {
        match self.format {
            MessageFormat::Human => snippet::render(self, problem),
            MessageFormat::Short => self.short(problem),
            MessageFormat::Json => self.json(problem).to_string(),
        }
    }

    /// A diagnostic as data.
    pub fn json(&mut self, problem: &Diagnostic) -> Value {
        let labels: Vec<_> = problem
            .labels
            .iter()
            .map(|label| json!({ "span": self.place(label.span), "text": label.text }))
            .collect();
        let fixes: Vec<_> = problem
            .fix
            .iter()
            .map(|fix| {
                let edits = fix.edits.iter();
                let edits: Vec<_> =
                    edits.map(|it| json!({ "span": self.place(it.span), "text": it.text })).collect();
                json!({ "applicability": fix.applicability, "edits": edits })
            })
            .collect();
        let stack: Vec<_> = problem.stack.iter().map(|span| self.place(*span)).collect();
        let rendered = snippet::render(&mut Printer { color: false, ..Printer::of(self) }, problem);
        json!({
            "type": "diagnostic",
            "code": problem.code.id(),
            "severity": problem.severity(),
            "message": problem.message,
            "span": problem.primary().map(|span| self.place(span)),
            "labels": labels,
            "hint": problem.hint,
            "fixes": fixes,
            "stack": stack,
            "rendered": rendered,
        })
    }

    /// Line and column of an offset.
    pub fn position(&mut self, file: FileId, offset: usize) -> Position {
        let text = self.sources.text(file);
        let lines = self.lines.entry(file).or_insert_with(|| {
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        });
        let line = lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|it| lines.get(it)).copied().unwrap_or_default();
        let before = text.get(start..offset).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    /// Offsets of the first byte of a line (counted from 1) and of the byte behind it, newline excluded.
    pub fn line(&self, file: FileId, line: usize) -> std::ops::Range<usize> {
        let text = self.sources.text(file);
        let lines = self.lines.get(&file).map(Vec::as_slice).unwrap_or_default();
        let start = line.checked_sub(1).and_then(|it| lines.get(it)).copied().unwrap_or_default();
        let end = lines.get(line).map_or(text.len(), |next| next - 1);
        start..end.max(start)
    }

    fn of(other: &Printer<'a>) -> Printer<'a> {
        Printer::new(other.sources, other.format, other.color)
    }

    fn short(&mut self, problem: &Diagnostic) -> String {
        let severity = severity(problem);
        let code = problem.code.id();
        let Some(span) = problem.primary() else {
            return format!("{severity}[{code}]: {}", problem.message);
        };
        let at = self.position(span.file, range(span, self.sources).start);
        let path = self.sources.path(span.file).display();
        format!("{path}:{}:{}: {severity}[{code}]: {}", at.line, at.column, problem.message)
    }

    fn place(&mut self, span: Span) -> Value {
        let range = range(span, self.sources);
        let start = self.position(span.file, range.start);
        let end = self.position(span.file, range.end);
        json!({
            "file": self.sources.path(span.file).display().to_string(),
            "start": { "offset": range.start, "line": start.line, "column": start.column },
            "end": { "offset": range.end, "line": end.line, "column": end.column },
        })
    }
}

/// How many of each there are, in words: `2 errors, 1 warning`.
pub fn count(problems: &[Diagnostic]) -> String {
    let n_errors = problems.iter().filter(|it| it.severity() == Severity::Error).count();
    let counts = [(n_errors, "error"), (problems.len() - n_errors, "warning")];
    let words = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A range that the text really has, on character borders, whatever the span says.
pub fn range(span: Span, sources: &Sources) -> std::ops::Range<usize> {
    let text = sources.text(span.file);
    let border = |at: u32| {
        (0..=(at as usize).min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
    };
    let start = border(span.start);
    start..border(span.end).max(start)
}

fn severity(problem: &Diagnostic) -> &'static str {
    match problem.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
