//! Diagnostics of the language as text for people.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use raptor_lang::diag::{Diagnostic, Severity};
use raptor_lang::source::{Sources, Span};
use serde_json::{Value, json};

/// A diagnostic with the lines it is about.
pub fn render(problem: &Diagnostic, sources: &Sources, color: bool) -> String {
    let level = match problem.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(problem.message.as_str())
        .id(problem.code.id())
        .elements([] as [Snippet<'_, annotate_snippets::Annotation<'_>>; 0]);
    let mut shown: Vec<Span> = Vec::new();
    for label in &problem.labels {
        // One snippet per file, with all its labels.
        if shown.iter().any(|it| it.file == label.span.file) {
            continue;
        }
        shown.push(label.span);
        let here = problem.labels.iter().enumerate().filter(|(_, it)| it.span.file == label.span.file);
        let annotations = here.map(|(at, it)| {
            let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(range(it.span, sources)).label(it.text.as_str())
        });
        group = group.element(snippet(label.span, sources).annotations(annotations));
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let mut report: Vec<Group<'_>> = vec![group];
    // A file that includes itself would fill pages with the same line.
    for frames in problem.stack.chunk_by(|a, b| a == b).rev() {
        let Some(span) = frames.first() else { continue };
        let here = AnnotationKind::Context.span(range(*span, sources)).label("included here");
        let title = match frames.len() {
            1 => "on the way here".to_owned(),
            n => format!("on the way here, {n} times"),
        };
        report.push(Level::NOTE.secondary_title(title).element(snippet(*span, sources).annotation(here)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&report).to_string()
}

/// A diagnostic as data.
pub fn to_json(problem: &Diagnostic, sources: &Sources) -> Value {
    let place = |span: &Span| json!({ "file": sources.path(span.file).display().to_string(), "start": span.start, "end": span.end });
    json!({
        "code": problem.code.id(),
        "severity": problem.severity(),
        "message": problem.message,
        "labels": problem.labels.iter().map(|it| json!({ "span": place(&it.span), "text": it.text })).collect::<Vec<_>>(),
        "hint": problem.hint,
        "stack": problem.stack.iter().map(place).collect::<Vec<_>>(),
    })
}

fn snippet<'a>(span: Span, sources: &'a Sources) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(sources.text(span.file).as_ref()).path(sources.path(span.file).display().to_string())
}

/// A range that the text really has, on character borders, whatever the span says.
fn range(span: Span, sources: &Sources) -> std::ops::Range<usize> {
    let text = sources.text(span.file);
    let border = |at: u32| {
        (0..=(at as usize).min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
    };
    let start = border(span.start);
    start..border(span.end).max(start)
}
