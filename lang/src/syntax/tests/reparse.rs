//! The parse after an edit is the parse of the whole text, and shares what the edit left alone.

use proptest::prelude::*;

use super::properties::{file, soup};
use super::*;
use crate::testing::cases;

/// Applies edits one after the other and compares each step with a parse from scratch.
fn check(text: &str, mode: Mode, edits: &[(usize, usize, String)]) {
    let mut text = text.to_string();
    let mut parsed = parse(&text, mode);
    for (start, len, insert) in edits {
        let start = text.floor_char_boundary(start % (text.len() + 1));
        let end = text.floor_char_boundary((start + len).min(text.len())).max(start);
        // With a tree there is one to splice, without one there is not.
        if len % 2 == 0 {
            parsed.syntax();
        }
        let before = text.clone();
        text.replace_range(start..end, insert);
        parsed = parsed.reparse(&TextEdit { range: start..end, insert: insert.clone() });
        let whole = parse(&text, mode);
        let what = format!("{mode:?}, {start}..{end} of {before:?} becomes {insert:?}");
        assert_eq!(parsed.text, whole.text, "{what}");
        assert_eq!(parsed.flat, whole.flat, "{what}");
        assert_eq!(parsed.errors, whole.errors, "{what}");
        assert_eq!(parsed.context_free, whole.context_free, "{what}");
        if let Some(green) = parsed.green.get() {
            assert!(green == &green::build(&whole.flat, &text), "{what}");
        }
    }
}

proptest! {
    #![proptest_config(cases(12_000))]

    #[test]
    fn edits_of_soup_give_the_parse_of_the_whole(
        text in soup(),
        edits in prop::collection::vec((0usize..400, 0usize..12, soup()), 1..3),
        source in any::<bool>(),
    ) {
        check(&text, if source { Mode::Source } else { Mode::Rendered }, &edits);
    }

    #[test]
    fn edits_of_files_give_the_parse_of_the_whole(
        text in file(),
        edits in prop::collection::vec(
            (0usize..400, 0usize..6, prop::sample::select(vec![
                "", "", "a", " ", "\n", "\"", "#", "\\", " \\\n", "RUN b\n", "\r", "{{ y }}", "{{- y }}", "{% endif %}",
                "{% if y %}", "EOF\n", "<<EOF", "{#", "#}", "-", "$ ", "\nfoo\n",
            ]).prop_map(str::to_string)),
            1..5,
        ),
        source in any::<bool>(),
    ) {
        check(&text, if source { Mode::Source } else { Mode::Rendered }, &edits);
    }
}

#[test]
fn a_newline_joins_the_carriage_return_of_a_line_statement() {
    for text in ["$ \r", "$ if x\rRUN a", "RUN b\n$ x\r\rRUN a"] {
        for at in 0..=text.len() {
            check(text, Mode::Source, &[(at, 0, "\n".into()), (at, 1, String::new())]);
        }
    }
}

/// Addresses of the green nodes of all statements.
fn addresses(parse: &Parse) -> Vec<usize> {
    let statements = parse.syntax().descendants().filter(|node| node.kind().is_statement());
    statements.map(|node| std::ptr::from_ref(&*node.green()) as *const () as usize).collect()
}

#[test]
fn statements_outside_of_the_edit_are_shared() {
    let text = "RUN one a\n$ if x\nRUN two b\nRUN three c\n$ endif\nRUN <<EOF\nx\nEOF\nRUN four d\n";
    let old = parse(text, Mode::Source);
    let before = addresses(&old);
    for (at, changed) in [("one", 0), ("two", 1), ("three", 2), ("x\nEOF", 3), ("four", 4)] {
        let start = text.rfind(at).unwrap();
        let new = old.reparse(&TextEdit { range: start..start + 1, insert: "{{ y }}".into() });
        let shared: Vec<_> = before.iter().zip(addresses(&new)).map(|(a, b)| *a == b).collect();
        let wanted: Vec<_> = (0..5).map(|idx| idx != changed).collect();
        assert_eq!(shared, wanted, "{at}");
    }
}

#[test]
fn edits_outside_of_the_text_are_moved_into_it() {
    let parsed = parse("RUN é\n", Mode::Rendered);
    let edit = |range| parsed.reparse(&TextEdit { range, insert: "x".into() }).text;
    assert_eq!(edit(5..5), "RUN xé\n");
    assert_eq!(edit(90..99), "RUN é\nx");
    assert_eq!(edit(Range { start: 5, end: 4 }), "RUN xé\n");
}
