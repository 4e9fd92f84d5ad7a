//! Diagnostics with the lines they are about. What is shown is cut to what is needed: a file may have a line of a
//! hundred megabytes.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::source::{FileId, Span};

use super::diagnostics::{Position, Printer, range};

/// Longest text that is shown with its lines whole, in bytes.
const WHOLE: usize = 4096;
/// How much of a long line is shown before and behind a place, in bytes.
const AROUND: usize = 60;
/// Lines that may lie between two places of one snippet.
const FAR: usize = 200;

/// A place with its remark.
struct Mark {
    range: Range<usize>,
    start: Position,
    end: Position,
    kind: AnnotationKind,
    text: String,
}

/// A diagnostic with the lines it is about.
pub fn render(printer: &mut Printer<'_>, problem: &Diagnostic) -> String {
    let level = match problem.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()).id(problem.code.id()));
    let mut files: Vec<FileId> = Vec::new();
    for label in &problem.labels {
        if files.contains(&label.span.file) {
            continue;
        }
        files.push(label.span.file);
        let mut marks = Vec::new();
        for (at, it) in problem.labels.iter().enumerate().filter(|(_, it)| it.span.file == label.span.file) {
            let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            marks.push(mark(printer, it.span, kind, &it.text));
        }
        group = snippets(printer, group, label.span.file, marks);
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let mut report: Vec<Group<'_>> = vec![group];
    // A file that includes itself would fill pages with the same line.
    for frames in problem.stack.chunk_by(|a, b| a == b).rev() {
        let Some(span) = frames.first() else { continue };
        let title = match frames.len() {
            1 => way(printer, *span).to_owned(),
            n => format!("{}, {n} times", way(printer, *span)),
        };
        let group = Group::with_title(Level::NOTE.secondary_title(title));
        let here = mark(printer, *span, AnnotationKind::Context, "");
        report.push(snippets(printer, group, span.file, vec![here]));
    }
    let renderer = if printer.color { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&report).to_string()
}

/// What a statement of the stack did to what stands above it.
fn way(printer: &Printer<'_>, span: Span) -> &'static str {
    let text = printer.sources.text(span.file).get(range(span, printer.sources)).unwrap_or_default();
    match text.split_whitespace().next() {
        Some("INCLUDE") => "included here",
        Some("RENDER") => "rendered here",
        Some("FROM") => "built on here",
        _ => "in this template tag",
    }
}

fn mark(printer: &mut Printer<'_>, span: Span, kind: AnnotationKind, text: &str) -> Mark {
    let range = range(span, printer.sources);
    let start = printer.position(span.file, range.start);
    let end = printer.position(span.file, range.end);
    Mark { range, start, end, kind, text: text.to_owned() }
}

/// Adds what is to be seen of one file: one snippet if the places are near each other, else one for each.
fn snippets<'a>(printer: &Printer<'_>, group: Group<'a>, file: FileId, marks: Vec<Mark>) -> Group<'a> {
    let path = printer.sources.path(file).display().to_string();
    let text = printer.sources.text(file);
    let first = marks.iter().map(|it| it.start.line).min().unwrap_or(1);
    let last = marks.iter().map(|it| it.end.line).max().unwrap_or(1);
    let lines = printer.line(file, first).start..printer.line(file, last).end;
    if last - first > FAR && marks.len() > 1 {
        return marks.into_iter().fold(group, |group, mark| snippets(printer, group, file, vec![mark]));
    }
    if lines.len() <= WHOLE {
        let annotations = marks.into_iter().map(|it| {
            let range = it.range.start - lines.start..it.range.end - lines.start;
            annotation(it.kind, range, it.text)
        });
        let shown = text.get(lines.clone()).unwrap_or_default().to_owned();
        let snippet = Snippet::source(shown).path(path).line_start(first);
        return group.element(snippet.annotations(annotations));
    }
    marks.into_iter().fold(group, |group, mark| {
        let line = printer.line(file, mark.start.line);
        let end = mark.range.end.min(line.end).min(mark.range.start + WHOLE);
        let border = |at: usize| (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let from = border(mark.range.start.saturating_sub(AROUND).max(line.start));
        let (end, to) = (border(end), border((end + AROUND).min(line.end)));
        let before = if from > line.start { "…" } else { "" };
        let after = if to < line.end { "…" } else { "" };
        let shown = format!("{before}{}{after}", text.get(from..to).unwrap_or_default());
        let range = |at: usize| at - from + before.len();
        let annotation = annotation(mark.kind, range(mark.range.start)..range(end), mark.text);
        // The snippet would count columns from where it is cut.
        let origin = Origin::path(path.clone()).line(mark.start.line).char_column(mark.start.column);
        let snippet = Snippet::source(shown).line_start(mark.start.line);
        group.element(origin).element(snippet.annotation(annotation))
    })
}

fn annotation<'a>(kind: AnnotationKind, range: Range<usize>, text: String) -> Annotation<'a> {
    let annotation = kind.span(range);
    if text.is_empty() { annotation } else { annotation.label(text) }
}
