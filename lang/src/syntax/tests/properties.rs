//! Properties: lossless, total, linear.

use proptest::prelude::*;

use super::*;

/// Bits of syntax, templates and trouble, in any order.
fn soup() -> impl Strategy<Value = String> {
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
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_kept(text in "\\PC*|(?s).{0,200}") {
        check_invariants(&text);
    }

    #[test]
    fn any_soup_is_kept(text in soup()) {
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
