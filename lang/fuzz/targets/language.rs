//! Any UTF-8 text: nothing panics or hangs; the tree holds the text; a parse after an edit is the parse of the whole;
//! formatting is idempotent and keeps the statements.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use raptor_lang::format::format;
use raptor_lang::source::{FileId, Sources, Span};
use raptor_lang::syntax::{Mode, TextEdit, dump, parse, statements, statements_json};
use raptor_lang::template::{Context, Reach, render};
use serde_json::Value;

fuzz_target!(|input: (u16, u8, &str, &str)| {
    let (start, len, insert, text) = input;
    let start = text.floor_char_boundary(usize::from(start).min(text.len()));
    let end = text.floor_char_boundary((start + usize::from(len)).min(text.len())).max(start);
    let edited = [&text[..start], insert, &text[end..]].concat();
    for mode in [Mode::Source, Mode::Rendered] {
        let parsed = parse(text, mode);
        assert_eq!(parsed.syntax().text(), text);
        problems_of(text, mode);

        let again = parsed.reparse(&TextEdit { range: start..end, insert: insert.to_owned() });
        let whole = parse(&edited, mode);
        assert_eq!(dump(&again.syntax()), dump(&whole.syntax()));
        assert_eq!(again.errors, whole.errors);
    }

    let formatted = format(text).text;
    assert_eq!(format(&formatted).text, formatted);
    // The formatter takes it that no value has `<<` or looks like the end of a line or the start of a file.
    let templates = ["{{", "{%", "$ "].iter().any(|it| text.contains(it));
    if !templates || !text.contains(['<', '\r', '\\', '\u{feff}']) {
        assert_eq!(meaning(text), meaning(&formatted), "{formatted:?}");
    }
});

/// Statements that a text says by itself; every problem has a place in the text.
fn problems_of(text: &str, mode: Mode) -> Value {
    let parsed = parse(text, mode);
    let (found, problems) =
        statements(&parsed, &|range| Span::new(FileId(0), range.start, range.end));
    assert_eq!(problems.len(), parsed.errors.len());
    for span in problems.iter().flat_map(|it| &it.labels).map(|it| it.span) {
        let range = span.start as usize..span.end as usize;
        assert!(text.get(range).is_some(), "{span:?} is no part of the text");
    }
    statements_json(&found)
}

/// Statements after the templates; nothing if they fail.
fn meaning(text: &str) -> Option<Value> {
    let text: Arc<str> = text.into();
    let path = Path::new("a.rapt");
    let rendered = render(&Reach::ThisFileOnly, path, &text, &Context::new(), &mut Sources::default()).ok()?;
    let mut json = problems_of(&rendered.text, Mode::Rendered);
    without_spans(&mut json);
    Some(json)
}

fn without_spans(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("span");
            map.values_mut().for_each(without_spans);
        }
        Value::Array(items) => items.iter_mut().for_each(without_spans),
        _ => {}
    }
}
