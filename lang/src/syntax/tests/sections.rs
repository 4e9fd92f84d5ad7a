//! Which sections of templates are nodes: `‹ ›` stand around a BLOCK, `|` ends a CLAUSE, `( )` are statements
//! and `[ ]` words.

use rowan::WalkEvent;

use super::*;

fn outline(text: &str) -> String {
    check_invariants(text);
    let mut out = String::new();
    for event in parse(text, Mode::Source).syntax().preorder_with_tokens() {
        let (element, enters) = match event {
            WalkEvent::Enter(element) => (element, true),
            WalkEvent::Leave(element) => (element, false),
        };
        out += match (element.kind(), enters) {
            (SyntaxKind::BLOCK, true) => "‹",
            (SyntaxKind::BLOCK, false) => "›",
            (SyntaxKind::CLAUSE, false) => "|",
            (SyntaxKind::WORD, true) => "[",
            (SyntaxKind::WORD, false) => "]",
            (kind, true) if kind.is_statement() || kind == SyntaxKind::UNKNOWN_STMT => "(",
            (kind, false) if kind.is_statement() || kind == SyntaxKind::UNKNOWN_STMT => ")",
            (_, true) => element.as_token().map_or("", |token| token.text()),
            _ => "",
        };
    }
    out
}

/// Each line of a case is one outline; what it is made of is the text.
fn check(outlines: &[&str]) {
    for wanted in outlines {
        let text = wanted.replace(['‹', '›', '|', '(', ')', '[', ']'], "");
        assert_eq!(outline(&text), *wanted);
    }
}

#[test]
fn around_statements() {
    check(&[
        "‹$ if x\n(RUN [a])\n|$ endif\n›(RUN [b])\n",
        "‹$ if x\n|$ elif y\n(RUN [a])\n|$ else\n(RUN [b])\n|$ endif\n›",
        "‹{% for a in b %}\n  (RUN [a])\n|{% else %}\n|{% endfor %}›\n",
        "‹{% if x -%}\n‹{% if y %}\n(RUN [a])\n|{% endif %}›|{%- endif %}›\n",
        "‹$ macro m\n(RUN [a])\n‹$ if x\n|$ endif\n›|$ endmacro\n›",
        "‹{% set x %}(RUN [a])|{% endset %}›\n",
        "$ set x = 1\n‹$ with y\n|$ endwith\n›{% include 'x' %}\n",
        "‹{% raw %}\n(RUN [{{a}}])\n|{% endraw %}›\n",
        "‹{% block b %}(RUN [a])\n|{% endblock b %}›",
        "‹{% if x %}(RUN [a])\n|{% endif %}›(RUN [b])\n",
        "(RUN [a]) ‹{% if x %}\n(RUN [b])\n|{% endif %}›\n",
        "‹{% call m %}|{% endcall %}›‹{% filter f %}|{% endfilter %}›‹{% autoescape x %}|{% endautoescape %}›",
    ]);
}

#[test]
fn inside_of_statements() {
    check(&[
        "(RUN [a‹{% if x %}b|{% endif %}›c])\n",
        "(RUN [‹{% if x %}b|{% else %}c|{% endif %}›])\n",
        "(RUN [a] ‹{% if x %}[b] [c]|{% else %}|{% endif %}› [d])\n",
        "(RUN [a] ‹{% if x %} [b]|{% endif %}›)\n",
        "(RUN [a] \\\n  ‹$ if x\n  [b] \\\n  |$ endif\n›  [c])\n",
        "(RUN [\"a ‹{% if x %}b|{% endif %}› c\"]) # ‹{% if y %}c|{% endif %}›\n",
        "(RUN <<EOF\n‹{% for x in y %}\na\n|{% endfor %}›\nEOF)\n",
        "(RUN [a]\n‹{%- if b %} [c]|{% endif %}›)\n",
        "(RUN [‹{% raw %}{{x}}|{% endraw %}›])\n",
    ]);
}

#[test]
fn across_borders() {
    check(&[
        "(RUN [a] {% if x %}[b])\n(RUN [c]){% endif %}\n",
        "{% if x %}(RUN [a]{% endif %}[b])\n",
        "(RUN [\"a{% if x %}\"] [\"{% endif %}\"])\n",
        "# {% if x %}\n(RUN [a])\n# {% endif %}\n",
        "{% if x %}\n(RUN [\"{% else %}\"])\n{% endif %}\n",
    ]);
}

#[test]
fn without_partners() {
    check(&[
        "{% endif %}\n(RUN [a])\n{% if x %}\n",
        "‹{% if x %}{% for a in b %}\n|{% endif %}›{% endfor %}\n",
        "{% set x %}\n‹{% if y %}\n|{% endif %}›\n",
        "{% else %}{% elif x %}{% nonsense %}{% %}\n",
        "{% if x\n",
    ]);
}

#[test]
fn statements_in_captures_are_not_judged() {
    let errors = |text| parse(text, Mode::Source).errors.len();
    assert_eq!(errors("$ if x\nfoo\n$ endif\nfoo\n"), 2);
    assert_eq!(errors("$ macro x()\nfoo\n$ set y\nfoo\n$ endset\nfoo\n$ endmacro\nfoo\n"), 1);
    assert_eq!(errors("foo\n$ filter x\nfoo\n"), 1);
    assert_eq!(errors("$ set y | f(a=1)\nfoo\n$ endset\nfoo\n$ set y = 1\nfoo\n"), 2);
}

#[test]
fn deep_sections_are_flat() {
    let n = 2000;
    let text = format!("{}{}", "{% if x %}\n".repeat(n), "{% endif %}\n".repeat(n));
    check_invariants(&text);
    let blocks =
        parse(&text, Mode::Source).syntax().descendants().filter(|it| it.kind() == SyntaxKind::BLOCK).count();
    assert_eq!(blocks, 100);
}
