//! Properties: formatting again changes nothing, the meaning stays, nothing panics.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// Statements, templates and trouble that make up lines.
const PARTS: &[&str] = &[
    "RUN",
    "RUN",
    "COPY",
    "ENV",
    "MOUNT",
    "MOUNT --simple",
    "WORKDIR",
    "WRITE",
    "FROM",
    "CMD",
    "ENTRYPOINT",
    "INCLUDE",
    "KEEP",
    "MKDIR",
    "rnu",
    "a",
    "b-c",
    "abc",
    "/x",
    "x=1",
    "k=\"v  w\"",
    "\"a  b\"",
    "\"",
    "\"\\\\\"",
    "--chmod=755",
    "--chown",
    "root",
    ":g",
    "--optional",
    "cache",
    "[1,  2]",
    "l=[1 ,\"b\"]",
    "&&",
    "\\",
    "\\\\",
    "\\x",
    "a\\",
    "'",
    "$",
    "#",
    "# c  ",
    "#c",
    "a#b",
    "é",
    "\u{a0}",
    "\u{b}",
    "\r",
    "=",
    ".",
    "/",
];

const SPACES: &[&str] =
    &[" ", " ", " ", " ", "  ", "   ", "\t", "", "", " \\\n", " \\\n    ", "\\\n", " \\\r\n  ", " \\\n \\\n"];

const TEMPLATES: &[&str] = &[
    "{{x}}",
    "{{ y }}",
    "{{- z -}}",
    "{{x~  y}}",
    "{{  y|length}}",
    "{% if yes %}",
    "{%if yes==true%}",
    "{%- if yes -%}",
    "{% else %}",
    "{% endif %}",
    "{%- endif -%}",
    "{% for i in list %}",
    "{{i}}",
    "{% endfor %}",
    "{% set q='a  b' %}",
    "{# c #}",
    "{#- c -#}",
    "{% raw %}",
    "{% endraw %}",
    "{% set s %}",
    "{% endset %}",
    "{{s|length}}",
    "{% break %}",
    "{% macro m() %}",
    "{% endmacro %}",
    "{{ m()|length }}",
    "{% filter length %}",
    "{% endfilter %}",
    "{% include 'x' %}",
    "{% block b %}",
    "{% endblock %}",
    "{{x",
    "{%",
    "#}",
    "{{ [1,2 ,3][ 0 ] }}",
];

const ENDS: &[&str] =
    &["\n", "\n", "\n", "\n", "\n\n", "\n\n\n\n", "\r\n", " \n", "\t \r\n", "  # c\n", "#c\n", "\r\r\n", ""];

/// Whole lines, some of which belong together.
const LINES: &[&str] = &[
    "$ if yes\n",
    "$  if  yes\n",
    "  $ else \n",
    "$ endif\n",
    "$ for i in list\r\n",
    "$ endfor\n",
    "$ set q=1\n",
    "  $ set r={'a':1,\n'b':2}\n",
    "$ macro n(a=1)\n",
    "$ endmacro\n",
    "{% if yes %}\n",
    "  {% if not yes %}  \n",
    "{% else %}\n",
    "{% endif %}\n",
    "{% endif %}  \n",
    "  {% for i in list %}\n",
    "{% endfor %} \n",
    "\n",
    "\n\n",
    "    RUN a   b\n",
    "  RUN c\n",
    "MOUNT --simple --optional cache  /cache\n",
    "MOUNT input /i\n",
    "COPY a     /a\n",
    "COPY abcd  /a # c\n",
    "ENV  a=1    # x\n",
    "# comment  \n",
    "  #\n",
    "RUN <<EOF\n  a   b\n\nEOF\n",
    "RUN  <<-EOF # c\r\n\ta\r\n\tEOF\r\n",
    "WRITE <<EOF  /x/{{x}}\n{{  y }} \nEOF\n",
    "WRITE  <<EOF /x \n{% if yes %}a\n{% endif %}EOF\n",
    "RUN <<A\n{% if yes %}\nA\n",
    "COPY a <<EOF\n",
    "RUN a \\\n    b   \\\n      c \\\n    d\n",
    "RUN a \\\n\n",
    "RUN a \\\n  # c\n",
    "RUN {{ x }} \\\n  b\n",
    "{{x}}  \n",
    "{{ x }}\\\n",
    "\u{feff}",
    "$ if yes\n  RUN a\n$ endif\n",
];

fn line() -> impl Strategy<Value = String> {
    let select = |items: &'static [&'static str]| prop::sample::select(items);
    let words = |word: BoxedStrategy<&'static str>| prop::collection::vec((word, select(SPACES)), 1..7);
    let assemble = |(indent, words, end): (&str, Vec<(&str, &str)>, &str)| {
        let words: String = words.iter().flat_map(|(word, space)| [*word, *space]).collect();
        format!("{indent}{words}{end}")
    };
    let indents: &[&str] = &["", "", "  ", "    ", "\t", "  \\\n "];
    let plain = (select(indents), words(select(PARTS).boxed()), select(ENDS)).prop_map(assemble);
    let mixed = prop_oneof![3 => select(PARTS), 1 => select(TEMPLATES)].boxed();
    let mixed = (select(indents), words(mixed), select(ENDS)).prop_map(assemble);
    prop_oneof![4 => plain, 3 => mixed, 6 => select(LINES).prop_map(str::to_owned)]
}

/// Words that make good statements, in every layout.
fn statement() -> impl Strategy<Value = String> {
    let heads = prop::sample::select(vec![
        "RUN",
        "CMD",
        "ENTRYPOINT",
        "COPY --chmod=600 a",
        "COPY a b",
        "ENV a=b c",
        "MKDIR -p",
        "MOUNT --file n",
        "MOUNT --layers  --each m n",
        "MOUNT --simple --optional cache",
        "WRITE \"a  b\"",
        "INCLUDE m",
        "KEEP /a",
        "WORKDIR",
    ]);
    let words =
        prop::sample::select(vec!["x", "y=\"1  2\"", "abc", "/a/b", "\"q\"", "w\\", "&&", "\"\\\"\""]);
    let spaces = prop::sample::select(SPACES);
    let ends = prop::sample::select(ENDS);
    (heads, spaces, prop::collection::vec((words, prop::sample::select(SPACES)), 1..5), ends).prop_map(
        |(head, space, words, end)| {
            let words: String = words.iter().flat_map(|(word, space)| [*word, *space]).collect();
            format!("{head} {space}{words}{end}")
        },
    )
}

fn blocks() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => statement(), 2 => line()];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let body = prop::collection::vec(inner, 0..4).prop_map(|lines| lines.concat());
        (
            prop::sample::select(vec![
                ("{% if yes %}\n", "{% endif %}\n"),
                ("{%if yes%}", "{%endif%}  \n"),
                ("  {%- if yes -%}\n", "{%- else -%}\n {%- endif %}\n"),
                ("$ if yes\n", "$ endif\n"),
                ("  $  if x=='a'\n", "$ else\nRUN   a\n$ endif\n"),
                ("$ for i in list\n", "  $ endfor\n"),
                ("{% for i in list -%}\n", "RUN {{i}}\n{% endfor %} \n"),
                ("{% for i in list recursive %}\n", "{% endfor %}\n"),
                ("{% macro m(a) %} \n", " {% endmacro %}  \n{{ m(1)|length }}\n"),
                ("$ set s\n", "$ endset\nRUN {{ s|length }}\n"),
                ("{% set s -%}  \n", "  {%- endset %}\n{{s}}\n"),
                ("{% raw %}\n", "{{ x }}  {% endraw %}  \n"),
                ("{% with a=1 %}\n", "{% endwith %}\n"),
                ("{% filter upper %} \n", "\r\n{% endfilter %} \n"),
            ]),
            body,
        )
            .prop_map(|((open, close), body)| format!("{open}{body}{close}"))
    })
}

proptest! {
    #![proptest_config(cases(6_000))]

    #[test]
    fn lines_keep_their_meaning(lines in prop::collection::vec(line(), 1..7), seed in 0usize..1000) {
        check_invariants(&lines.concat(), seed..seed + 1);
    }

    #[test]
    fn blocks_keep_their_meaning(text in prop::collection::vec(blocks(), 1..4), seed in 0usize..1000) {
        check_invariants(&text.concat(), seed..seed + 1);
    }

    #[test]
    fn statements_keep_their_meaning(text in prop::collection::vec(statement(), 1..6)) {
        check_invariants(&text.concat(), 0..1);
    }
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn any_text_keeps_its_meaning(text in "\\PC*|(?s).{0,80}|[a-zRUN {}%#$\"\\\\\\n-]{0,60}") {
        check_invariants(&text, 0..1);
    }
}

#[test]
fn big_texts_take_linear_time() {
    let n = 5_000;
    let texts = [
        "RUN a \\\n".repeat(n),
        "RUN a   b\n".repeat(n),
        "COPY a  b\nCOPY abc b\nCOPY a b   c\n".repeat(n / 4),
        "MOUNT a   b\n".repeat(n),
        format!("MOUNT {} /a\n{}", "x".repeat(n), "MOUNT a /b\n".repeat(n)),
        format!("RUN a \\\n{} \\\n{}b\n", "x".repeat(n), "y \\\n".repeat(n)),
        "{% if x %}\n  RUN a\n".repeat(n / 8),
        "{% endif %}\n".repeat(n),
        "\n".repeat(n),
        "{{ x -}}\n".repeat(n),
        "bad  \n".repeat(n),
        "{% macro m() %}\n".repeat(n / 8),
        format!("{{{{ {} }}}}", "(".repeat(n)),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let once = format(&text).text;
        assert_eq!(format(&once).text, once);
        assert!(start.elapsed().as_secs() < 20, "not linear: {}", &text[..20]);
    }
}
