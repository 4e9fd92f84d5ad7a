//! Templates: features, places, errors, and equality with plain minijinja.

use std::path::Path;
use std::sync::Arc;

use minijinja::value::Value;
use proptest::prelude::*;

use super::*;
use crate::testing::{MemoryWorld, cases, show, show_span};

const OTHERS: &str = "\
--- lib/macros.j2
{% macro user(name) %}RUN useradd {{ name }}
{% endmacro %}
--- lib/part.j2
ENV PART={{ x }}
RUN part
--- lib/parent.j2
RUN before
{% block body %}RUN parent {{ x }}
{% endblock %}RUN after
--- lib/data.yaml
users: [ann, bob]
empty: null
--- lib/data.json
{\"a\": {\"b\": [1, 2.5, true]}}
--- lib/data.toml
[t]
day = 2026-01-02
list = [1, \"x\"]
--- lib/nested.j2
{% include \"part.j2\" %}RUN nested
";

fn world() -> MemoryWorld {
    MemoryWorld::new(OTHERS)
}

fn context() -> Context {
    let list = Value::from(vec!["a", "b c"]);
    [("x", Value::from("X")), ("n", Value::from(3)), ("yes", Value::from(true)), ("list", list)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn run_all(text: &str) -> (Result<Rendered, Vec<Diagnostic>>, Sources) {
    let mut sources = Sources::default();
    let world = world();
    let text: Arc<str> = text.into();
    let rendered = render(&Reach::World(&world), Path::new("main.rapt"), &text, &context(), &mut sources);
    (rendered, sources)
}

/// The same with the first problem only.
fn run(text: &str) -> (Result<Rendered, Diagnostic>, Sources) {
    let (rendered, sources) = run_all(text);
    (rendered.map_err(|it| it.into_iter().next().unwrap()), sources)
}

fn plain(text: &str) -> Option<String> {
    let mut env = engine::bare();
    for (path, text) in world().files {
        env.add_template_owned(path.display().to_string(), text.to_string()).ok()?;
    }
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    env.add_template_owned("main.rapt".to_owned(), format!("{text}{newline}")).ok()?;
    env.get_template("main.rapt").ok()?.render(context()).ok()
}

#[test]
fn features() {
    for (template, expected) in [
        ("FROM a", "FROM a\n"),
        ("FROM a\n\n", "FROM a\n\n"),
        ("", "\n"),
        ("{% for i in list %}{{ loop.index }}{{ i }};{% endfor %}", "1a;2b c;\n"),
        ("{% for i in list %}{% if loop.last %}{% break %}{% endif %}{{ i }}{% endfor %}", "a\n"),
        (
            "{% for i in [3, 4] recursive %}{{ i }}{% if i == 3 %}{{ loop([5]) }}{% endif %}{% endfor %}",
            "354\n",
        ),
        ("{% if not missing %}no{% else %}yes{% endif %}", "no\n"),
        ("{{ x if n == 3 else missing }}", "X\n"),
        ("{% set y %}[{{ x }}]{% endset %}{{ y }}{{ y | length }}", "[X]3\n"),
        ("{% set y | upper %}a{{ x }}{% endset %}{{ y }}", "AX\n"),
        ("{% with y = n + 1 %}{{ y }}{% endwith %}", "4\n"),
        ("{% macro m(a, b='q') %}{{ a }}{{ b }}{% endmacro %}{{ m('p') }}", "pq\n"),
        ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ x }}{% endcall %}", "<in X>\n"),
        ("{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB\n"),
        ("  {%- filter upper -%} a {%- endfilter -%}  b", "Ab\n"),
        ("{% do info('hi') %}x", "x\n"),
        ("{{ info() }}", "none\n"),
        ("$ set y = 4\nENV A={{ y }}\n", "ENV A=4\n"),
        ("  $ if yes\nRUN a\n  $ endif\nRUN b\n", "RUN a\nRUN b\n"),
        (
            "$ macro m()\nx {{ caller() }}$ endmacro\n$ endmacro\n$ call m()\ny\n$ endcall\nz\n",
            "x y\n$ endmacro\nz\n",
        ),
        ("RUN echo $ x", "RUN echo $ x\n"),
        ("a {{- x -}} b", "aXb\n"),
        ("a {#- c -#} b", "ab\n"),
        ("{{-x-}} b {{+ n +}}", "Xb 3\n"),
        ("{% raw %}{{ x }}{% endraw %}{{ x }}", "{{ x }}X\n"),
        ("{%- raw -%} {% if %} {%- endraw -%} b", "{% if %}b\n"),
        ("{{ '}}' }}{{ \"%}\" ~ {'a': {'b': 1}}.a.b }}", "}}%}1\n"),
        ("{% include 'lib/part.j2' %}", "ENV PART=X\nRUN part\n\n"),
        ("{% include 'lib/nested.j2' %}", "ENV PART=X\nRUN part\nRUN nested\n\n"),
        ("{% include 'none.j2' ignore missing %}x", "x\n"),
        ("{% include ['none.j2', 'lib/part.j2'] %}", "ENV PART=X\nRUN part\n\n"),
        ("{% import 'lib/macros.j2' as m %}{{ m.user('u') }}", "RUN useradd u\n\n"),
        ("{% from 'lib/macros.j2' import user as u %}{{ u(x) }}", "RUN useradd X\n\n"),
        (
            "{% extends 'lib/parent.j2' %}{% block body %}{{ super() }}RUN child\n{% endblock %}",
            "RUN before\nRUN parent X\nRUN child\nRUN after\n",
        ),
        ("{% block b %}x{% endblock %}{{ self.b() }}", "xx\n"),
        (
            "{{ path('lib').is_dir() }} {{ path('lib/part.j2').is_file() }} {{ path('no').exists() }}",
            "true true false\n",
        ),
        (
            "{{ load_yaml('lib/data.yaml').users | join(',') }} {{ load_yaml('lib/data.yaml').empty }}",
            "ann,bob none\n",
        ),
        ("{{ load_json('lib/data.json').a.b[1] }}", "2.5\n"),
        (
            "{{ load_toml('lib/data.toml').t.day }} {{ load_toml('lib/data.toml').t.list[1] }}",
            "2026-01-02 x\n",
        ),
        ("{{ require('x') }}", "X\n"),
        (
            "{{ list | sh }} {{ '' | escape_sh }} {{ n | sh }} {{ 'a\\n\"' | sh }}",
            "a \"b c\" \"\" 3 \"a\\n\\\"\"\n",
        ),
        ("{{ [1, 2] | map('string') | join('-') }} {{ missing is defined }}", "1-2 false\n"),
    ] {
        let (rendered, sources) = run(template);
        let shown = rendered.map(|it| it.text).map_err(|it| show(&it, &sources));
        assert_eq!(shown.as_deref(), Ok(expected), "{template}");
        if !["info(", "path(", "load_", "require(", "sh "].iter().any(|it| template.contains(it)) {
            assert_eq!(plain(template).as_deref(), Some(expected), "{template}");
        }
    }
}

/// Every rendered line, and the source that its span shows.
#[test]
fn places() {
    for (template, expected) in [
        (
            "RUN a\n\n  RUN b\n",
            "RUN a → main.rapt:1: «RUN a»\n → main.rapt:2: «»\n  RUN b → main.rapt:3: «  RUN b»\n",
        ),
        ("$ set y = 1\nRUN {{ y }} z\n", "RUN 1 z → main.rapt:2: «RUN {{ y }} z»\n"),
        ("{{ x }}{{ n }}", "X3 → main.rapt:1: «{{ x }}{{ n }}»\n"),
        ("RUN b {{- x -}}  c", "RUN bXc → main.rapt:1: «RUN b {{- x -}}  c»\n"),
        (
            "{% set s %}RUN {{ x }}\n{% endset %}{{ s }}",
            "RUN X → main.rapt:2: «{{ s }}»\n → main.rapt:2: «»\n",
        ),
        (
            "{% for i in list %}A {{ i }}\n{% endfor %}",
            "A a → main.rapt:1: «A {{ i }}»\nA b c → main.rapt:1: «A {{ i }}»\n → main.rapt:2: «»\n",
        ),
        (
            "{% include 'lib/part.j2' %}",
            "ENV PART=X → lib/part.j2:1: «ENV PART={{ x }}»\nRUN part → lib/part.j2:2: «RUN part»\n → main.rapt:1: «»\n",
        ),
        (
            "{% import 'lib/macros.j2' as m %}{{ m.user(x) }}",
            "RUN useradd X → main.rapt:1: «{{ m.user(x) }}»\n → main.rapt:1: «»\n",
        ),
        (
            "{% macro m() %}({{ caller() }}){% endmacro %}a{% call m() %}{{ x }}{% endcall %}b",
            "a(X)b → main.rapt:1: «a{% call m() %}{{ x }}{% endcall %}b»\n",
        ),
        (
            "$ macro m()\nx{{ caller() }}\n$ endmacro\n$ call m()\ny{{ n }}\n$ endcall\nz\n",
            "xy3 → main.rapt:4: «$ call m()\\n»\n → main.rapt:4: «$ call m()\\n»\nz → main.rapt:7: «z»\n",
        ),
        (
            "{% extends 'lib/parent.j2' %}{% block body %}{{ super() }}B {{ n }}\n{% endblock %}",
            "RUN before → lib/parent.j2:1: «RUN before»\nRUN parent X → lib/parent.j2:2: «RUN parent {{ x }}»\nB 3 → main.rapt:1: «B {{ n }}»\nRUN after → lib/parent.j2:3: «RUN after»\n",
        ),
        ("{% raw %}{{{% endraw %}{{ x }}", "{{X → main.rapt:1: «{{{% endraw %}{{ x }}»\n"),
        // A template that knows the name of the probe gets none.
        ("a{# __raptor_at #}{{ x }}b", "aXb → main.rapt:1: «a{# __raptor_at #}{{ x }}b»\n"),
    ] {
        let (rendered, sources) = run(template);
        let rendered = rendered.unwrap();
        let mut shown = String::new();
        let mut pos = 0;
        for line in rendered.text.lines() {
            let span = rendered.map.span(pos..pos + line.len());
            shown += &format!("{line} → {}\n", show_span(span, &sources));
            pos += line.len() + 1;
        }
        assert_eq!(shown, expected, "{template}");
    }
}

#[test]
fn errors() {
    for (template, expected) in [
        ("RUN a\n{% for x y %}", "E0201 main.rapt:2: «y» unexpected identifier, expected in"),
        ("RUN a\n{% if x %}\n", "E0201 main.rapt:3: «» unexpected end of input"),
        ("RUN ${#x}\n", "E0201 main.rapt:1: «{#» unexpected end of comment"),
        ("{{ x }}\nRUN {{ y }}\n", "E0202 main.rapt:2: «y» `y` is not defined"),
        ("RUN {{ x }} {{ n.a.b }}\n", "E0202 main.rapt:1: «n.a.b» `n.a.b` is not defined"),
        ("{{ x }}{% for i in nope %}{% endfor %}", "E0202 main.rapt:1: «nope» `nope` is not defined"),
        ("{{ x }}{{ require('u') }}", "E0202 main.rapt:1: «require('u')» Missing field \"u\""),
        ("{{ x | nofilter }}", "E0203 main.rapt:1: «nofilter» filter nofilter is unknown"),
        ("{{ x }}\n{{ n() }}", "E0203"),
        ("{{ none | sh }}", "E0203"),
        // The engine panics here.
        ("{{ 1.0 < 9007199254740993 }}", "E0203"),
        (
            "{% include 'no.j2' %}",
            "E0301 main.rapt:1: «include 'no.j2'» tried to include non-existing template \"no.j2\"",
        ),
        (
            "a\n{{ load_yaml('no.yaml') }}",
            "E0203 main.rapt:2: «load_yaml('no.yaml')» cannot load `no.yaml`: no such file",
        ),
        ("{{ load_json('lib/data.yaml') }}", "E0203"),
        ("{% set x = 'a' %}\n{% include 'lib/bad.j2' %}", "E0301"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "E0203"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "E0203 main.rapt:1: ",
        ),
    ] {
        let (rendered, sources) = run(template);
        let shown = match &rendered {
            Ok(it) => format!("rendered {:?}", it.text),
            Err(it) => show(it, &sources),
        };
        assert!(shown.starts_with(expected), "{template}\n  {shown}\n  {expected}");
    }
}

#[test]
fn error_inside_include_has_a_stack() {
    let mut world = world();
    world.files.insert("lib/bad.j2".into(), "ok\n{{ usr }}\n".into());
    let text: Arc<str> = "$ set user = 1\n{% include 'lib/bad.j2' %}\n".into();
    let mut sources = Sources::default();
    let error =
        render(&Reach::World(&world), Path::new("main.rapt"), &text, &context(), &mut sources).unwrap_err();
    let [error] = error.as_slice() else { panic!("{error:?}") };
    assert_eq!(
        show(error, &sources),
        "E0202 lib/bad.j2:2: «usr» `usr` is not defined\n  in main.rapt:2: «include 'lib/bad.j2'»"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `user`?"));
}

/// Wherever an error happens, it points to its source, with what led there.
#[test]
fn errors_have_stacks() {
    for (fixture, template, expected) in [
        ("", "{% for i in list %}\n{{ no }}{% endfor %}", "E0202 main.rapt:2: «no» `no` is not defined"),
        (
            "",
            "{% macro m() %}\n{{ no }}{% endmacro %}\n{{ m() }}",
            "E0202 main.rapt:2: «no» `no` is not defined",
        ),
        (
            "--- lib/m.j2\n{% macro m() %}\n{{ no }}{% endmacro %}\n",
            "{% import 'lib/m.j2' as l %}\n{{ l.m() }}",
            "E0202 lib/m.j2:2: «no» `no` is not defined",
        ),
        (
            "--- lib/a.j2\n\n{% include 'b.j2' %}\n--- lib/b.j2\n{% for i in list %}{{ i.no }}{% endfor %}\n",
            "{% include 'lib/a.j2' %}",
            "E0202 lib/b.j2:1: «i.no» `i.no` is not defined\n  in main.rapt:1: «include 'lib/a.j2'»\n  in lib/a.j2:2: «include 'b.j2'»",
        ),
        (
            "--- lib/p.j2\n{% block b %}{% endblock %}\n",
            "{% extends 'lib/p.j2' %}{% block b %}\n{{ no }}{% endblock %}",
            "E0202 main.rapt:2: «no» `no` is not defined",
        ),
    ] {
        let mut world = world();
        world.files.extend(MemoryWorld::new(fixture).files);
        let mut sources = Sources::default();
        let text: Arc<str> = template.into();
        let path = Path::new("main.rapt");
        let errors = render(&Reach::World(&world), path, &text, &context(), &mut sources).unwrap_err();
        let shown: Vec<_> = errors.iter().map(|it| show(it, &sources)).collect();
        assert_eq!(shown, [expected], "{template}");
    }
}

/// The first undefined name ends the rendering; others are told if nothing can define them.
#[test]
fn further_undefined_names() {
    for (template, expected) in [
        ("{{ a }}\n{{ b.c }} {{ x }}\n{{ b }} {{ a }} {{ d[0] }}", "a b d"),
        ("{{ a }}\n{% set b = 1 %}{{ b }}{{ c | default('') }}{{ d is defined }}", "a"),
        ("{{ a }}{% if yes %}{{ b }}{% endif %}{% for c in list %}{% endfor %}{{ c }}", "a"),
        ("{{ a }}{% macro m(b) %}{% endmacro %}{{ m }}{{ range }}{{ info }}{{ self }}", "a"),
        ("{{ a }}{% include 'lib/part.j2' %}{{ b }}", "a"),
        ("{{ a }}{% import 'lib/macros.j2' as m %}{{ m }}{% with w = 1 %}{% endwith %}{{ w }}", "a"),
    ] {
        let (rendered, sources) = run_all(template);
        let names = rendered.unwrap_err();
        let names = names.iter().map(|it| {
            let span = it.labels[0].span;
            &sources.text(span.file)[span.start as usize..span.end as usize]
        });
        assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{template}");
    }
}

/// A value of `path(…)` asks the rendering that uses it.
#[test]
fn paths_outlive_their_rendering() {
    let (rendered, _) = run("$ set p = path('lib/part.j2')\n");
    let mut context = context();
    context.extend(rendered.unwrap().exports);
    let mut sources = Sources::default();
    let text: Arc<str> = "{{ p.is_file() }}".into();
    let path = Path::new("other.rapt");
    let rendered = render(&Reach::World(&world()), path, &text, &context, &mut sources).unwrap();
    assert_eq!(rendered.text, "true\n");
}

#[test]
fn deep_templates_are_no_trouble() {
    let n = 20_000;
    for template in [
        format!("{{{{ 1{} }}}}", "+1".repeat(n)),
        format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n)),
        format!("{{{{ {}1{} }}}}", "[".repeat(n), "]".repeat(n)),
        format!("{{{{ {}1 }}}}", "-".repeat(n)),
        format!("{{{{ {}1 }}}}", "not ".repeat(n)),
        format!("{{{{ x{} }}}}", ".a".repeat(n)),
        format!("{{{{ x{} }}}}", "|upper".repeat(n)),
        format!("{{{{ x{} }}}}", "[0]".repeat(n)),
        format!("{{{{ x{} }}}}", " and x".repeat(n)),
        format!("{{{{ {} x }}}}", "x if yes else ".repeat(n)),
        format!("{}{}", "{% if x %}".repeat(n), "{% endif %}".repeat(n)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(n)),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% include 'main.rapt' %}".to_owned(),
    ] {
        let (rendered, _) = run(&template);
        assert_eq!(rendered.map(|it| it.text).map_err(|it| it.code.id()[..3].to_owned()), Err("E02".into()));
    }
}

#[test]
fn long_literals_are_fine() {
    let list = "{\"name\": \"a\", \"n\": [1, 2]}, ".repeat(5000);
    let (rendered, _) = run(&format!("{{{{ [{list}] | length }}}}"));
    assert_eq!(rendered.unwrap().text, "5000\n");
}

#[test]
fn only_this_file() {
    for template in
        ["{% include 'lib/part.j2' %}", "{{ load_yaml('lib/data.yaml') }}", "{{ path('lib').exists() }}"]
    {
        let mut sources = Sources::default();
        let error =
            render(&Reach::ThisFileOnly, Path::new("main.rapt"), &template.into(), &context(), &mut sources)
                .unwrap_err();
        let [error] = error.as_slice() else { panic!("{error:?}") };
        assert_eq!(error.code, Code::TemplateError);
        assert!(error.message.starts_with("the template needs another file"), "{}", error.message);
    }
}

#[test]
fn exports_and_log() {
    let (rendered, _) = run(
        "$ set a = 1\n$ if yes\n$ set b = [1]\n$ endif\n$ for i in list\n$ set c = i\n$ endfor\n$ set a = 2\n\
         {% macro m() %}{% endmacro %}{% do warning('w', 1) %}{{ trace(list) }}",
    );
    let rendered = rendered.unwrap();
    assert_eq!(rendered.exports.keys().collect::<Vec<_>>(), ["a", "b", "m"]);
    assert_eq!(rendered.exports["a"], Value::from(2));
    let log: Vec<_> = rendered.log.iter().map(|it| (it.level.name(), it.text.as_str())).collect();
    assert_eq!(log, [("warning", "w 1"), ("trace", "[\"a\", \"b c\"]")]);
}

fn fragment() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "RUN a\n",
        " ",
        "\n",
        "  b ",
        "é",
        "{{ x }}",
        "{{- x }}",
        "{{ x -}}",
        "{{+n+}}",
        "{# c #}",
        "{#- c -#}",
        "{{ list | join('/') }}",
        "{{ 'a}}' }}",
        "{{ {'k': x}.k }}",
        "\n$ set v = n\n",
        "\n  $ set w = (1,\n 2)\n",
        "$ ",
        "{",
        "}}",
        "%}",
        "{% raw %}{{ {% {# {% endraw %}",
        "{%- raw -%} a {%- endraw -%}",
        "{% include 'lib/part.j2' %}",
        "{% include 'lib/nested.j2' %}",
        "{{ missing }}",
        "{{ super() }}",
        "{% import 'lib/macros.j2' as mm %}{{ mm.user(x) }}",
        "{{ x if yes }}",
        "{{ missing or x }}",
        "{{ x ~ n }}",
        "{{ (x ~ n)~(n+1)~[1,(x~'é')] }}",
        "{{ 2 * n + 1 - n * (n + 2) }}",
        "{{ x * n ~ n * x }}{{ [x] * 2 }}",
        "{{ [1] + [x] }}{{ ([1] + [n]) | length }}",
        "{{ {'a': x, 'b': [n]} }}",
        "{{ 'a' + 1 }}",
        "{{ missing ~ x }}",
        "{% set q = list[1:] + [n] %}{{ q }}{{ q is sequence }}{{ q | length }}",
        "{% set q = 'a,b' | split(',') %}{{ q }}{{ q | list | length }}",
        "{% set q = 'a,b' | split(',') %}{{ q | length }}",
        "{% set q = missing %}{{ q is defined }}",
        "{% set q, r = (x, n) %}{{ r ~ q }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + n %}{{ ns.a }}",
        "{{ [3, n, 1] | sort | reverse | join('-') }}",
        "{{ {'b': n} | chain({'a': x}) }}{{ [n] | chain([x], [1]) }}{{ ([n] | chain([1]))[1] }}",
        "{{ 'a\\nb' | indent(2) }}{{ [1, [x]] | tojson(indent=2) }}{{ [1, 2, 3] | batch(2, 0) }}",
        "{{ 'x<y' | replace('<', x) | upper }}{{ list | map('upper') | list }}",
        "{{ [1, 2] | zip([3, x]) }}{{ dict(a=n) | items }}",
        "{{ 1 if x == 'X' ~ '' else 2 }}",
        "{% if x ~ n == 'X3' and n + 1 in [4, n] %}eq{% elif n * 2 > 5 %}b{% else %}c{% endif %}",
        "{% from 'lib/macros.j2' import user as u %}{{ u(x ~ n) }}",
        "{% for i in list if i ~ 'z' != 'az' %}{{ loop.index + 1 }}{% else %}none{% endfor %}",
        "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% elif i * 2 == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "\r\n$ set w = x ~ 'a'\r\nRUN {{ w }}\r\n",
        "{% do namespace(a=[x]) %}",
        "{% autoescape 'html' %}{{ '<' ~ x }}{% endautoescape %}",
        "{{ [1, x] }}",
        "{{ 1, 2 }}",
        "\r\n",
        "\t",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        let body = prop::collection::vec(inner, 0..4).prop_map(|it| it.concat());
        let wrap = prop::sample::select(vec![
            ("{% if yes %}", "{% endif %}"),
            ("{%- for i in list -%}", "{%- endfor +%}"),
            ("\n$ for i in list\n", "\n$ endfor\n"),
            ("{% set s %}", "{% endset %}{{ s }}{{ s | length }}"),
            ("{% set s | upper %}", "{% endset %}{{ s }}"),
            ("{% filter upper %}", "{% endfilter %}"),
            ("\n $ filter length\n", "\n$ endfilter\n"),
            (" {%- filter trim -%} ", " {%- endfilter -%} "),
            ("{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}", "{% endcall %}"),
            ("{% macro k(a) %}{{ a }}", "{% endmacro %}{{ k(x) }}{{ k(n) | length }}"),
            ("{% block b %}", "{% endblock %}{{ self.b() }}"),
            ("{% with z = x %}", "{{ z }}{% endwith %}"),
            (
                "{% for i in [1, [2]] recursive %}{% if i is sequence %}{{ loop(i) }}{% endif %}",
                "{% endfor %}",
            ),
        ]);
        (wrap, body).prop_map(|((open, close), body)| format!("{open}{body}{close}"))
    })
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Our text is the engine's text, and every span of it lies inside a file.
    #[test]
    fn renders_like_minijinja(parts in prop::collection::vec(fragment(), 0..6)) {
        let template = parts.concat();
        let (rendered, sources) = run(&template);
        let Ok(rendered) = rendered else {
            prop_assert!(plain(&template).is_none(), "{}", template);
            return Ok(());
        };
        let expected = plain(&template);
        prop_assert_eq!(expected.as_deref(), Some(rendered.text.as_str()));
        for (start, c) in rendered.text.char_indices() {
            let span = rendered.map.span(start..start + c.len_utf8());
            let text = sources.text(span.file);
            let part = text.get(span.start as usize..span.end as usize);
            // A character is copied from one place, or written by a tag, or it is the newline the loader added.
            let is_tag = part.is_some_and(|it| it.starts_with("{") || it.starts_with("$ "));
            let copied = part.is_some_and(|it| it == c.to_string() || it.is_empty());
            prop_assert!(is_tag || copied, "{:?} at {:?} in {:?}", c, span, text);
        }
    }

    /// Any text at all is rendered or refused with spans inside the text.
    #[test]
    fn takes_any_text(template in "([{}%#$ a\"'()=|\n-]|\\{\\{|\\}\\}|\\{%|%\\}|set |if |é){0,40}") {
        if let (Err(error), sources) = run(&template) {
            for label in &error.labels {
                let text = sources.text(label.span.file);
                prop_assert!(label.span.end as usize <= text.len() && label.span.start <= label.span.end);
            }
        }
    }
}
