//! Templates that want to use up the machine: each ends soon, in bounded memory, with an error that says why.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raptor_lang::source::Sources;
use raptor_lang::template::{Context, Reach, render};
use raptor_lang::world::{FileKind, ReadError, World};

/// The system's allocator, which refuses to go beyond [`LIMIT`] and counts.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Most bytes that any of the templates may take at one time.
const LIMIT: usize = 1 << 30;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // A null pointer ends the process, which fails the test before the machine suffers.
        if now > LIMIT { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoFiles(Arc<str>);

impl World for NoFiles {
    fn read(&self, path: &Path) -> Result<Arc<str>, ReadError> {
        if path == Path::new("main.rapt") { Ok(self.0.clone()) } else { Err(ReadError::NotFound) }
    }

    fn kind(&self, _: &Path) -> Option<FileKind> {
        None
    }

    fn list(&self, _: &Path) -> Result<Vec<OsString>, ReadError> {
        Err(ReadError::NotFound)
    }

    fn link(&self, _: &str, _: &Path) -> Option<PathBuf> {
        None
    }
}

/// Template, part of the message, part of the text that the error points to.
fn cases() -> Vec<(String, &'static str, &'static str)> {
    let long = "a value is longer than 16 MiB";
    let items = "a value has more than 1048576 items";
    let total = "the template produces more than 256 MiB in all";
    let deep = "a value is nested more than 100 deep";
    let steps = "the template did not end after";
    let recursion = "recursion limit exceeded";
    let line = |setup: &str, step: &str, n: usize| format!("{setup}{}", step.repeat(n));
    let ns = |setup: &str, step: &str| {
        format!(
            "{{% set ns = namespace(x={setup}) %}}{{% for a in range(99999) %}}{{% for b in range(99999) %}}\
             {{% set ns.x = {step} %}}{{% endfor %}}{{% endfor %}}"
        )
    };
    let text = |it: &str| it.to_owned();
    vec![
        (line("{% set s = 'abcdefgh' %}", "{% set s = s ~ s %}\n", 60), long, "s ~ s"),
        (line("{% set s = 'abcdefgh' %}", "{% set s = s + s %}\n", 60), long, "s + s"),
        (line("{% set s = 'abcdefgh' %}", "{% set s = s * 2 %}\n", 60), long, "s * 2"),
        (line("{% set s = 'abcdefgh' %}", "$ set s = s ~ (s) ~ s\n", 60), long, "s ~ (s)"),
        (line("{% set l = [1] %}", "{% set l = l + l %}\n", 60), items, "l + l"),
        (line("{% set l = [1] %}", "{% set l = l * 2 %}\n", 60), items, "l * 2"),
        (line("{% set l = [1] %}", "{% set l = [l, l] %}\n", 60), items, "[l, l]"),
        (line("{% set l = {'a': 1} %}", "{% set l = {'a': l, 'b': l} %}\n", 60), items, "{'a': l, 'b': l}"),
        (line("{% set s = 'ab' %}", "{% set s %}{{ s }}{{ s }}{% endset %}\n", 60), long, "s"),
        (
            line(
                "{% set s = '<' %}",
                "{% set s %}{% filter escape %}{{ s }}{{ s }}{% endfilter %}{% endset %}\n",
                60,
            ),
            long,
            "",
        ),
        (line("{% set s = '\"' %}", "{% set s = s | tojson %}\n", 60), long, "tojson"),
        (format!("{{{{ '\"'{} }}}}", " | tojson".repeat(60)), long, "tojson"),
        (format!("{{{{ '\"'{} }}}}", " | sh".repeat(60)), long, "sh"),
        (text("{{ 'a' * 10 ** 9 }}"), long, "'a' * 10 ** 9"),
        (text("{{ 10 ** 15 * 'a' }}"), long, "10 ** 15 * 'a'"),
        (text("{{ ([1] * 10 ** 9) | list }}"), items, "[1] * 10 ** 9"),
        (text("{{ 'a' | indent(10 ** 12, true) }}"), long, "indent(10 ** 12, true)"),
        (text("{{ 'a' | indent(width=10 ** 12) }}"), long, "indent(width=10 ** 12)"),
        (text("{{ [1] | tojson(indent=10 ** 12) }}"), long, "tojson(indent=10 ** 12)"),
        (text("{{ [1] | batch(10 ** 12, 0) }}"), items, "batch(10 ** 12, 0)"),
        (text("{{ [1] | slice(10 ** 12, 0) }}"), items, "slice(10 ** 12, 0)"),
        (text("{{ ('a' * 10000) | replace('', 'b' * 10000) }}"), long, "replace('', 'b' * 10000)"),
        (text("{{ range(10000) | join('b' * 10000) }}"), long, "join('b' * 10000)"),
        (text("{{ range(10 ** 9) }}"), "range has too many elements", ""),
        (text("{{ 10 ** 10 ** 10 }}"), "unable to calculate", ""),
        (ns("'a'", "ns.x ~ ns.x"), long, "ns.x ~ ns.x"),
        (ns("[]", "ns.x + [1]"), total, ""),
        (ns("[]", "[ns.x]"), deep, "[ns.x]"),
        (ns("[]", "{'a': ns.x}"), deep, "{'a': ns.x}"),
        (ns("[1, 2]", "ns.x[:]"), total, ""),
        (ns("[1, 2]", "ns.x | reverse"), total, ""),
        (ns("[1, 2]", "ns.x | chain([1])"), total, ""),
        (ns("{'a': 1}", "ns.x | chain({'a': 2})"), total, ""),
        (text("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}"), deep, ""),
        (text("{% macro r(s) %}{{ r(s ~ s) }}{% endmacro %}{{ r('abcdefgh') }}"), long, "s ~ s"),
        (text("{% macro r(s) %}{{ r([s]) }}{% endmacro %}{{ r([]) }}"), recursion, "r([s])"),
        (text("{% macro r() %}{{ r() }}{{ r() }}{% endmacro %}{{ r() }}"), recursion, "r()"),
        (
            text(
                "{% macro r(n) %}{% if n %}{{ r(n - 1) }}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(60) }}",
            ),
            steps,
            "",
        ),
        (
            text(
                "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% macro r(n) %}{% call m() %}x{% if n %}{{ r(n - 1) }}{% endif %}{% endcall %}{% endmacro %}{{ r(50) }}",
            ),
            "",
            "",
        ),
        (text("{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}"), "", ""),
        (text("{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}"), recursion, ""),
        (text("{% include 'main.rapt' %}"), recursion, ""),
        (
            format!(
                "{{% set s %}}{{% for a in range(9999) %}}{{% for b in range(9999) %}}{}{{% endfor %}}{{% endfor %}}{{% endset %}}",
                "0123456789".repeat(10_000)
            ),
            steps,
            "",
        ),
        (text("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"), steps, ""),
        (
            text(
                "{% for a in range(99999) %}{% for b in range(99999) %}0123456789012345678901234567890123456789{% endfor %}{% endfor %}",
            ),
            "the rendered text is longer than 64 MiB",
            "",
        ),
        (format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)), "", ""),
        (format!("{{{{ x{} }}}}", "[:]".repeat(1000)), "is too long", ""),
        (text("{{ info('a' * 10 ** 9) }}"), long, "'a' * 10 ** 9"),
    ]
}

#[test]
fn nothing_uses_up_the_machine() {
    let mut failures = Vec::new();
    for (template, message, place) in cases() {
        let shown: String = template.chars().take(150).collect::<String>().replace('\n', " ");
        let text: Arc<str> = template.into();
        let mut sources = Sources::default();
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let world = NoFiles(text.clone());
        let result =
            render(&Reach::World(&world), Path::new("main.rapt"), &text, &Context::new(), &mut sources);
        let took = start.elapsed();
        let peak = PEAK.load(Ordering::Relaxed) - before;
        eprintln!("{:6} ms {:4} MiB  {shown}", took.as_millis(), peak >> 20);
        let Err([error, ..]) = result.as_ref().map_err(Vec::as_slice) else {
            failures.push(format!("rendered: {shown}"));
            continue;
        };
        let span = error.labels[0].span;
        let part = &sources.text(span.file)[span.start as usize..span.end as usize];
        let ok =
            error.code.id().starts_with("E02") && error.message.contains(message) && part.contains(place);
        if !ok || took > Duration::from_secs(60) {
            failures.push(format!("{shown}\n  {} {} «{part}» {took:?}", error.code.id(), error.message));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
