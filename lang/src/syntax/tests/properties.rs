//! Properties: lossless, total, linear.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// Lines of a file as people write them, some of them damaged.
pub(super) fn file() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "RUN apt-get install -y \\\n  a \\\n  b",
        "RUN a && b # c",
        "RUN <<EOF\necho {{ x }}\n  done\nEOF",
        "WRITE --chmod 644 <<-'EOF' /a\r\n\ttext\r\n\tEOF\r",
        "RUN <<EOF",
        "COPY --chown=a:b \"c d\" /e",
        "ENV A=b C=\"d e\"",
        "INCLUDE $std.a@1 x=[1, {\"a\": true}] y",
        "FROM docker://debian:trixie",
        "MOUNT --layers --each a b /c",
        "foo bar",
        "RUN \"open",
        "RUN a\\",
        "# comment {{ x }}",
        "",
        "  ",
        "$ if x",
        "  $ endif",
        "{% for a in b %}",
        "{%- endfor -%}",
        "{# remark\nof two lines -#}",
        "RUN {% if x %}a{% else %}b{% endif %} {{ c }}/d",
        "$ set a = 1",
        "$ macro m(a)",
        "$ endmacro",
        "{% raw %}{{ a }}{% endraw %}",
        "RUN {{ x",
    ]);
    prop::collection::vec(lines, 0..8).prop_map(|lines| lines.join("\n"))
}

/// Bits of syntax, templates and trouble, in any order.
pub(super) fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "FROM",
        "RUN",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "WORKDIR",
        "WRITE",
        "MKDIR",
        "COPY",
        "RENDER",
        "INCLUDE",
        "KEEP",
        "MOUNT",
        "run",
        "a",
        "b-c",
        "x=1",
        "k=\"v\"",
        "--chmod",
        "755",
        "--chown",
        "root:root",
        "-p",
        "--each",
        "--layers",
        "docker",
        "debian",
        "true",
        "false",
        "12",
        "$",
        "$ ",
        "@",
        "[",
        "]",
        "{",
        "}",
        ":",
        "=",
        ",",
        "/",
        ".",
        "-",
        "\"",
        "\\",
        "\\\n",
        "\\\r\n",
        "\\x",
        "\\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "#",
        "# c",
        "&&",
        "+x",
        "'",
        "|",
        "é",
        "\u{a0}",
        "\u{feff}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{-",
        "-}}",
        "{%-",
        "-%}",
        "{#-",
        "-#}",
        "<<EOF",
        "RUN <<EOF",
        "<<-",
        "\nEOF",
        "\nEOF\n",
        "\tEOF\r\n",
        "{% raw %}",
        "{% endraw %}",
        "{% raw -%}",
        "{%- endraw %}",
        "if",
        "set x",
        "macro",
        "endmacro",
        "'s'",
        "(",
        ")",
        "x",
        "\n$ if x\n",
        "\n",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(cases(16_000))]

    #[test]
    fn any_text_is_kept(text in "\\PC*|(?s).{0,200}") {
        check_invariants(&text);
    }

    #[test]
    fn any_soup_is_kept(text in soup()) {
        check_invariants(&text);
    }

    #[test]
    fn any_file_is_kept(text in file()) {
        check_invariants(&text);
    }

    #[test]
    fn any_line_is_kept(words in prop::collection::vec("[a-z\"\\\\ =:@/.$\\[\\]{},#-]{0,6}", 0..8), idx in 0usize..12) {
        let (name, _) = hints::INSTRUCTIONS[idx];
        check_invariants(&format!("{name} {}\n", words.join(" ")));
    }

    /// A line with an error takes no other line with it.
    #[test]
    fn bad_lines_stay_alone(bad in "[a-z\"\\[\\]{}:=,@ ]{1,20}") {
        let text = format!("RUN one\n{bad}\nCOPY {bad}\nRUN two\n");
        let (statements, _) = read(&text);
        let ends = |word| statements.iter().filter(|it| matches!(&it.inst, crate::stmt::Inst::Run(argv) if argv[0].value == word)).count();
        prop_assert_eq!((ends("one"), ends("two")), (1, 1));
    }
}

/// What is left of a source text when every template renders to nothing.
fn ordinary_text(text: &str) -> String {
    let is_template = |node: SyntaxNode| node.ancestors().any(|node| node.kind().is_template());
    parse(text, Mode::Source)
        .syntax()
        .descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .filter(|token| token.kind() != SyntaxKind::STRIPPED && !token.parent().is_some_and(is_template))
        .map(|token| token.text().to_string())
        .collect()
}

fn minijinja_text(text: &str) -> Option<String> {
    let mut env = minijinja::Environment::empty();
    env.set_keep_trailing_newline(true);
    env.set_syntax(minijinja::syntax::SyntaxConfig::builder().line_statement_prefix("$ ").build().ok()?);
    env.render_str(text, ()).ok()
}

proptest! {
    #![proptest_config(cases(10_000))]

    /// Templates are cut where minijinja cuts them.
    #[test]
    fn templates_are_cut_as_minijinja_does(parts in prop::collection::vec(prop::sample::select(vec![
        "RUN", " ", "  ", "\t", "\n", "\n ", "\"", "#", "a", "\\", "\u{a0}", "{", "}", "$", "%}", "}}", "#}", "-", "+",
        "{{ '' }}", "{{- '' -}}", "{{-''}}", "{{+ \"\" +}}", "{{ {'}}': '}}'}['x'] or '' }}", "{{ ['']\n[0] -}}",
        "{% set x = '%}' %}", "{%- set x = 1 -%}", "{%+ set y = (1) +%}", "{# c #}", "{#- {{ -#}", "{##}", "{#-#}",
        "{% raw %}", "{%- raw -%}", "{%-  endraw  -%}", "{% endraw %}", "{% endraw +%}", "$ set x = 1\n",
        "\n$ set x = 1\n", "\n  $ set x = [1,\n 2]\n", "\n$ set x = '\n'\n", "$  set z = 2 \n", "\n$ if true\n",
        "\n$ endif\n",
    ]), 0..14)) {
        let text = parts.concat();
        check_invariants(&text);
        if let Some(rendered) = minijinja_text(&text) {
            prop_assert_eq!(ordinary_text(&text), rendered);
        }
    }
}

#[test]
fn deep_and_long_texts_are_no_trouble() {
    let n = 40_000;
    let texts = [
        format!("INCLUDE a x={}", "[".repeat(n)),
        format!("INCLUDE a x={}", "{1:".repeat(n)),
        "\"".repeat(n),
        "{{".repeat(n),
        "{% raw %}".repeat(n / 8),
        "{#".repeat(n),
        "$ ".repeat(n),
        "\n$ x".repeat(n / 4),
        format!("RUN{}", " \\\n".repeat(n)),
        format!("RUN{}", " \\\n$ x\n".repeat(n / 8)),
        format!("ENV{}", " a=\"x\"b=\"y\"".repeat(n / 10)),
        format!("ENV a{}", "=\"x\"b".repeat(n / 4)),
        "RUN a\\\n".repeat(n / 8),
        "{{-\n".repeat(n / 4),
        "{{ 'a\n".repeat(n / 4),
        "COPY --chown a :b".repeat(n / 16),
        format!("RUN {}", "[\"a\",".repeat(n / 4)),
        " ".repeat(n),
        "{{ x }}#".repeat(n / 8),
    ];
    for text in &texts {
        let start = std::time::Instant::now();
        check_invariants(text);
        assert!(start.elapsed().as_secs() < 20, "not linear: {}", &text[..20]);
    }
}
