//! Trees and messages as snapshots.

use super::*;

fn tree(text: &str, mode: Mode) -> String {
    check_invariants(text);
    let parse = parse(text, mode);
    let errors: Vec<_> = parse
        .errors
        .iter()
        .map(|e| format!("{} {:?} {} ({})\n", e.code.id(), e.range, e.message, e.label))
        .collect();
    format!("{}{}", dump(&parse.syntax()), errors.concat())
}

#[test]
fn rendered_tree() {
    let text = "FROM docker://debian:trixie # base\r\nRUN a \\\n  --x=\"b\\n c\"\nINCLUDE $std.a@1/2 k=[1, {\"a\": b.c}] l=m.n\n";
    insta::assert_snapshot!(tree(text, Mode::Rendered));
}

#[test]
fn options_tree() {
    let text = "COPY --chmod=755 --chown www-data: a/b \"c d\"\nMOUNT --layers --each $std.squashfs in /in\nENV a=\"x\"b=\"y\" c=1\n";
    insta::assert_snapshot!(tree(text, Mode::Rendered));
}

#[test]
fn source_tree() {
    let text = concat!(
        "$ set name = \"x\" # not a comment\n",
        "RUN echo {{ name|sh }}/{% if a %}b{% endif %} \"s {{ f(\"}}\") }}\" # {{ c }} #\n",
        "{# two\nlines -#}\n  MKDIR /a\n",
        "RUN a\n{%- if b %} c{% endif %}\n",
        "CMD {% raw %}{{ x }}{% endraw %} \\\n  $ if y\n  z\n",
    );
    insta::assert_snapshot!(tree(text, Mode::Source));
}

#[test]
fn bad_source_tree() {
    let text = "foo {{ bar }}\nfoo\n$ macro m()\nfoo\n$ endmacro\nRUN\nCOPY a\n{% if x\nRUN b\n";
    insta::assert_snapshot!(tree(text, Mode::Source));
}

/// What a user reads for typical mistakes.
#[test]
fn messages() {
    let lines = [
        "run a",
        "FORM a",
        "USER root",
        "ARG a=b",
        "ADD a b",
        "INVOKE a",
        "SHELL [\"a\"]",
        "foo",
        "FROM\\",
        "RUN",
        "RUN a \\ ",
        "RUN \"a",
        "RUN \"\\x\"",
        "RUN a\"b\"",
        "CMD [\"a\", \"b\"]",
        "COPY a",
        "COPY --chmdo 1 a b",
        "COPY --chmod +x a b",
        "COPY --chown a:b:c d e",
        "MKDIR --parents a",
        "FROM debian:12",
        "FROM docker:a",
        "FROM a/b",
        "FROM ftp://x",
        "FROM a b",
        "FROM debian-12",
        "ENV a = b",
        "INCLUDE a x =1",
        "INCLUDE a x=[b]",
        "INCLUDE a x=-1",
        "INCLUDE a x=1.5",
        "INCLUDE a x= y",
        "MOUNT --each a b /c",
        "MOUNT --layer a /b",
        "MOUNT a",
    ];
    let mut out = String::new();
    for line in lines {
        let (_, diagnostics) = read(&format!("{line}\n"));
        out += &format!("{line}\n");
        for it in diagnostics {
            let Span { start, end, .. } = it.labels[0].span;
            let hint = it.hint.map(|hint| format!("\n    hint: {hint}")).unwrap_or_default();
            out += &format!(
                "    {} {start}..{end} {} ({}){hint}\n",
                it.code.id(),
                it.message,
                it.labels[0].text
            );
        }
    }
    insta::assert_snapshot!(out);
}
