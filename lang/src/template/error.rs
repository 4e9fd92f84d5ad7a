//! Errors of the template engine as diagnostics that point into the source.

use std::error::Error as _;
use std::ops::Range;

use minijinja::{Error, ErrorKind};

use super::engine::{FUEL, Inner};
use super::{Context, Reach, scan};
use crate::diag::{Code, Diagnostic};
use crate::source::{FileId, Sources, Span};
use crate::suggest;

/// The diagnostic for an error that rendering `root` ended with.
pub(super) fn diagnostic(
    error: &Error,
    inner: &Inner,
    root: FileId,
    context: &Context,
    reach: &Reach<'_>,
    sources: &mut Sources,
) -> Diagnostic {
    let mut spans: Vec<Span> = span(error, inner, sources).into_iter().collect();
    let mut deepest = error;
    while let Some(cause) = deepest.source().and_then(|it| it.downcast_ref()) {
        deepest = cause;
        spans.extend(span(cause, inner, sources));
    }
    spans.dedup();
    let span = spans.pop().unwrap_or(Span::new(root, 0, 0));
    let mut diagnostic = explain(deepest, span, inner, context, reach, sources);
    diagnostic.stack = spans;
    diagnostic
}

fn explain(
    error: &Error,
    span: Span,
    inner: &Inner,
    context: &Context,
    reach: &Reach<'_>,
    sources: &Sources,
) -> Diagnostic {
    let detail = error.detail().map(str::to_owned);
    let message = detail.clone().unwrap_or_else(|| error.kind().to_string());
    let label = error.kind().to_string();
    if inner.wanted.is_some() && matches!(reach, Reach::ThisFileOnly) {
        return Diagnostic::new(
            Code::TemplateError,
            format!("the template needs another file: {message}"),
            span,
            "",
        )
        .with_hint("only this file is read here; `raptor check` and `raptor dump` follow what it names");
    }
    match error.kind() {
        ErrorKind::SyntaxError
            if message.contains("end of comment") || message.contains("end of raw block") =>
        {
            let start = scan::unclosed(sources.text(span.file)).unwrap_or_default();
            let span = Span::new(span.file, start, start + 2);
            Diagnostic::new(Code::TemplateSyntax, message, span, "never closed").with_hint(
                "`{#` begins a comment of the template language; to keep `${#x}` as text, write \
                 `{% raw %}${#x}{% endraw %}`",
            )
        }
        ErrorKind::SyntaxError | ErrorKind::BadEscape => {
            Diagnostic::new(Code::TemplateSyntax, message, span, label)
        }
        ErrorKind::UndefinedError => undefined(detail, span, inner, context, sources),
        ErrorKind::TemplateNotFound => Diagnostic::new(Code::FileNotFound, message, span, "").with_hint(
            "paths in include, import and extends count from the directory of the file they stand in",
        ),
        ErrorKind::OutOfFuel => {
            let message = match inner.fuel {
                FUEL => format!("the template did not end after {} million steps", FUEL / 1_000_000),
                less => format!("the template did not end after {less} steps, and copies much text in each"),
            };
            Diagnostic::new(Code::TemplateError, message, span, "stopped here")
                .with_hint("is there a loop or a macro that never ends?")
        }
        ErrorKind::WriteFailure => {
            let cause = error.source().map_or(message, ToString::to_string);
            Diagnostic::new(Code::TemplateError, cause, span, "")
        }
        _ => Diagnostic::new(Code::TemplateError, message, span, label),
    }
}

/// The diagnostic for an undefined value.
pub(super) fn undefined(
    detail: Option<String>,
    span: Span,
    inner: &Inner,
    context: &Context,
    sources: &Sources,
) -> Diagnostic {
    let text = sources.text(span.file).get(span.start as usize..span.end as usize).unwrap_or_default();
    let is_name =
        |it: &str| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    let name = Some(text.trim()).filter(|it| is_name(it));
    let message = match (&detail, name) {
        (Some(detail), _) => detail.clone(),
        (None, Some(name)) => format!("`{name}` is not defined"),
        (None, None) => "undefined value".to_owned(),
    };
    let assigned = inner.templates.values().flat_map(|it| &it.instrumented.names);
    let known = context.keys().chain(assigned).map(String::as_str);
    let hint = match name {
        Some("instance") => {
            Some("only files whose name ends in `@` have an instance, as in `FROM name@instance`".to_owned())
        }
        _ => None,
    };
    let problem = Diagnostic::new(Code::UndefinedValue, message, span, "undefined value");
    match (hint, name.and_then(|name| suggest::nearest(name, known))) {
        (Some(hint), _) => problem.with_hint(hint),
        (None, Some(near)) => problem.did_you_mean(near),
        (None, None) => problem.with_hint(
            "pass it as an argument, or set it first; `{% if name is defined %}` tests for an optional one",
        ),
    }
}

/// Place of an error in the original text of its template.
fn span(error: &Error, inner: &Inner, sources: &mut Sources) -> Option<Span> {
    let template = inner.templates.get(error.name()?)?;
    let file = sources.add(&template.path, template.text.clone());
    let compiled = &template.instrumented.source;
    let range = match error.range() {
        Some(range) if !range.is_empty() => range,
        _ => line_range(compiled, error.line()?),
    };
    let len = template.text.len();
    let start = template.instrumented.original(range.start).min(len);
    let end = template.instrumented.original(range.end).clamp(start, len);
    // An expression that failed as a whole counts from brace to brace; blanks there are not part of it.
    let part = template.text.get(start..end).unwrap_or_default();
    let start = start + (part.len() - part.trim_start().len());
    let end = start + part.trim().len();
    // The engine counts an attribute from its dot; what it is an attribute of belongs to it.
    let before = template.text.get(..start).unwrap_or_default();
    let object = match part.trim_start().starts_with('.') {
        true => {
            before.len()
                - before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "_.".contains(c)).len()
        }
        false => 0,
    };
    Some(Span::new(file, start - object, end))
}

/// The line without indentation and newline.
fn line_range(text: &str, line: usize) -> Range<usize> {
    let mut start = 0;
    for (idx, it) in text.split_inclusive('\n').enumerate() {
        if idx + 1 == line {
            let indent = it.len() - it.trim_start().len();
            return start + indent..start + it.trim_end().len().max(indent);
        }
        start += it.len();
    }
    text.len()..text.len()
}
