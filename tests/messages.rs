//! What raptor says, as text: real runs on small projects. The JSON of each is checked against its schema, and each
//! fix that it offers is tried.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{Project, schema};
use serde_json::{Value, json};

/// Name, arguments and files of a case.
type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const CHECK: &[&str] = &["check"];
const CHECK_T: &[&str] = &["check", "t"];

const SYNTAX: &[Case] = &[
    ("lower case", CHECK_T, &[("t.rapt", "run id\n")]),
    ("slip of the pen", CHECK_T, &[("t.rapt", "RNU id\nENVIRONMENT a=b\n")]),
    ("instruction of another tool", CHECK_T, &[("t.rapt", "USER www-data\nLABEL a=b\nEXPOSE 80\n")]),
    ("no instruction at all", CHECK_T, &[("t.rapt", "RUN echo a\n\"b\"\n&& echo c\n")]),
    ("continuation that is none", CHECK_T, &[("t.rapt", "RUN apt-get install\\\n    zstd\n")]),
    ("blanks behind a backslash", CHECK_T, &[("t.rapt", "RUN apt-get install \\  \n    zstd\n")]),
    ("unclosed string", CHECK_T, &[("t.rapt", "RUN echo \"abc\nRUN id\n")]),
    ("bad escape", CHECK_T, &[("t.rapt", "RUN sed \"s/\\./x/\"\n")]),
    ("blanks around the equals sign", CHECK_T, &[("t.rapt", "ENV LANG = C\nRUN id\n")]),
    ("name that is no variable", CHECK_T, &[("t.rapt", "ENV a-b=c\nRUN id\n")]),
    ("missing operands", CHECK_T, &[("t.rapt", "RUN\nCOPY a\nWRITE x\nMKDIR\nFROM\nMOUNT x\n")]),
    ("too many operands", CHECK_T, &[("t.rapt", "WORKDIR /a b\nWRITE hello world /etc/motd\nFROM a b\n")]),
    ("empty path", CHECK_T, &[("t.rapt", "MKDIR \"\"\n")]),
    (
        "unknown option",
        CHECK_T,
        &[("t.rapt", "MKDIR --parents /a\nCOPY --chmdo 755 a b\nWRITE --mode 7 a b\n")],
    ),
    ("unknown option of a mount", CHECK_T, &[("t.rapt", "MOUNT --layer input /input\nMOUNT --rw a /a\n")]),
    ("symbolic mode", CHECK_T, &[("t.rapt", "MKDIR --chmod u+x /a\nMKDIR --chmod 999 /a\n")]),
    ("owner that is none", CHECK_T, &[("t.rapt", "MKDIR --chown a:b:c /a\n")]),
    ("option without a value", CHECK_T, &[("t.rapt", "MKDIR --chmod\n")]),
    ("builder without layers", CHECK_T, &[("t.rapt", "MOUNT --each b input /input\n")]),
    ("digest that is none", CHECK_T, &[("t.rapt", "FETCH --sha256 abc http://example.org/x /x\n")]),
    ("url that is none", CHECK_T, &[("t.rapt", "FETCH ftp://example.org/x /x\n")]),
    ("path as a module", CHECK_T, &[("t.rapt", "FROM lib/base\n")]),
    ("version in a module", CHECK_T, &[("t.rapt", "FROM debian-12\n")]),
    ("image without its scheme", CHECK_T, &[("t.rapt", "FROM debian:12\n")]),
    ("quoted module", CHECK_T, &[("t.rapt", "FROM \"base\"\n")]),
    ("unknown scheme", CHECK_T, &[("t.rapt", "FROM https://example.org/x\n")]),
    ("variant that is none", CHECK_T, &[("t.rapt", "FROM debian://bookworm?variant=huge\n")]),
    ("parameter that is none", CHECK_T, &[("t.rapt", "FROM debian://bookworm?arch=arm64\n")]),
    ("suite that is none", CHECK_T, &[("t.rapt", "FROM debian://Bookworm\n")]),
    ("argument without a value", CHECK_T, &[("t.rapt", "INCLUDE a x=\n"), ("a.rinc", "RUN id\n")]),
    ("argument that is no value", CHECK_T, &[("t.rapt", "INCLUDE a x=1.5\n"), ("a.rinc", "RUN id\n")]),
    ("list that does not end", CHECK_T, &[("t.rapt", "INCLUDE a x=[1, 2\n"), ("a.rinc", "RUN id\n")]),
    ("tabs and wide characters", CHECK_T, &[("t.rapt", "\tWRITE \"日本語\"\t/x /y\n")]),
];

const TEMPLATES: &[Case] = &[
    ("tag that does not parse", CHECK_T, &[("t.rapt", "RUN id\n{% if %}\nRNU id\n")]),
    ("block without an end", CHECK_T, &[("t.rapt", "{% for i in [1] %}\nRUN id\n")]),
    ("shell that looks like a template", CHECK_T, &[("t.rapt", "RUN sh -c \"echo ${#x}\"\n")]),
    ("undefined variable", CHECK_T, &[("t.rapt", "$ set name=1\nRUN echo {{ nmae }}\n")]),
    ("undefined variable without a neighbour", CHECK_T, &[("t.rapt", "RUN echo {{ x.y }}\n")]),
    ("undefined instance", CHECK_T, &[("t.rapt", "RUN echo {{ instance }}\n")]),
    ("unknown filter", CHECK_T, &[("t.rapt", "RUN echo {{ \"a\"|uper }}\n")]),
    ("unknown function", CHECK_T, &[("t.rapt", "RUN echo {{ rage(3) }}\n")]),
    ("wrong type", CHECK_T, &[("t.rapt", "RUN echo {{ \"a\" + 1 }}\n")]),
    ("missing field", CHECK_T, &[("t.rapt", "INCLUDE a\n"), ("a.rinc", "$ do require(\"name\")\nRUN id\n")]),
    (
        "endless loop",
        CHECK_T,
        &[(
            "t.rapt",
            "{% macro f() %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endmacro %}\nRUN {{ f() }}\n",
        )],
    ),
    ("bad line in a loop", CHECK_T, &[("t.rapt", "{% for i in [1, 2, 3] %}\nRNU {{ i }}\n{% endfor %}\n")]),
    (
        "error in a macro",
        CHECK_T,
        &[("t.rapt", "{% macro user(name) %}\nRUN useradd {{ nam }}\n{% endmacro %}\n{{ user(\"a\") }}\n")],
    ),
    (
        "error in a template that a template includes",
        CHECK_T,
        &[("t.rapt", "RUN id\n{% include \"part.txt\" %}\n"), ("part.txt", "RUN {{ nothing }}\n")],
    ),
    ("template that is not there", CHECK_T, &[("t.rapt", "{% include \"part.txt\" %}\n")]),
    (
        "error in a rendered template",
        CHECK_T,
        &[
            ("t.rapt", "INCLUDE a name=\"x\"\n"),
            ("a.rinc", "RUN echo {{ name }}\nRENDER conf.j2 /etc/conf name\n"),
            ("conf.j2", "name = {{ name }}\nport = {{ port }}\n"),
        ],
    ),
    (
        "data that does not load",
        CHECK_T,
        &[("t.rapt", "$ set d = load_json(\"d.json\")\nRUN id\n"), ("d.json", "{\"a\": }")],
    ),
    (
        "undefined argument",
        CHECK_T,
        &[("t.rapt", "$ set name=1\nINCLUDE i x=nam\n"), ("i.rinc", "RUN echo {{ x }}\n")],
    ),
    (
        "text that should be quoted",
        CHECK_T,
        &[("t.rapt", "INCLUDE i x=alice\n"), ("i.rinc", "RUN echo {{ x }}\n")],
    ),
    ("statement that a template wrote", CHECK_T, &[("t.rapt", "$ set what=\"RNU id\"\n{{ what }}\n")]),
];

const FILES: &[Case] = &[
    ("FROM with a slip", CHECK_T, &[("t.rapt", "FROM bsae\n"), ("base.rapt", "RUN id\n")]),
    ("FROM of a part", CHECK_T, &[("t.rapt", "FROM part\n"), ("part.rinc", "RUN id\n")]),
    ("INCLUDE of a module", CHECK_T, &[("t.rapt", "INCLUDE part\n"), ("part.rapt", "RUN id\n")]),
    ("INCLUDE with a slip", CHECK_T, &[("t.rapt", "INCLUDE lib.usres\n"), ("lib/users.rinc", "RUN id\n")]),
    ("instance that is missing", CHECK_T, &[("t.rapt", "FROM node\n"), ("node@.rapt", "RUN id\n")]),
    ("instance too many", CHECK_T, &[("t.rapt", "FROM node@1\n"), ("node.rapt", "RUN id\n")]),
    ("unknown package", CHECK_T, &[("t.rapt", "FROM $tools.base\n")]),
    ("missing COPY sources", CHECK_T, &[("t.rapt", "COPY nothere also /srv/\n")]),
    ("RENDER with a slip", CHECK_T, &[("t.rapt", "RENDER motd.j3 /etc/motd\n"), ("motd.j2", "hi\n")]),
    ("INCLUDE cycle", CHECK_T, &[("t.rapt", "INCLUDE a\n"), ("a.rinc", "RUN id\nINCLUDE a\n")]),
    ("FROM cycle", CHECK_T, &[("t.rapt", "FROM u\n"), ("u.rapt", "FROM t\n")]),
    (
        "two levels down",
        CHECK_T,
        &[("t.rapt", "INCLUDE a\n"), ("a.rinc", "INCLUDE b\n"), ("b.rinc", "RUN id\nINCLUDE c\n")],
    ),
    ("error of the base", CHECK_T, &[("t.rapt", "FROM u\n"), ("u.rapt", "RUN \"\n")]),
    (
        "error of a builder",
        CHECK_T,
        &[("t.rapt", "MOUNT --layers --each b input /in\nCMD id\n"), ("b.rapt", "RUNN id\n")],
    ),
    ("bad name of an image", CHECK_T, &[("t.rapt", "FROM docker://registry.example/App:1\n")]),
    ("target with a slip", &["check", "liev"], &[("live.rapt", "RUN id\n")]),
    ("target that is a path", &["check", "lib/live"], &[("lib/live.rapt", "RUN id\n")]),
    ("several targets", &["check", "a", "b", "c"], &[("a.rapt", "RUNN id\n"), ("c.rapt", "RUN id\n")]),
];

const LIVE: (&str, &str) = ("live.rapt", "MOUNT --layers input /input\nMOUNT output /output\nCMD id\n");

const MANIFEST: &[Case] = &[
    ("no TOML", CHECK, &[("Raptor.toml", "[run.live\ntarget = 1\n")]),
    (
        "wrong types",
        CHECK,
        &[("Raptor.toml", "run = 1\n[group.all]\nrun = \"x\"\n[raptor.link]\na = { git = \"x\" }\n")],
    ),
    ("unknown keys", CHECK, &[("Raptor.toml", "colour = 1\n[run.live]\ntraget = \"live\"\n"), LIVE]),
    ("no target", CHECK, &[("Raptor.toml", "[run.live]\ninput = \"live\"\n"), LIVE]),
    (
        "target with a slip",
        CHECK,
        &[
            ("Raptor.toml", "[run.live]\ntarget = \"liev\"\n[group.all]\nbuild = [\"lib/x\", \"$x.y\"]\n"),
            LIVE,
        ],
    ),
    (
        "group of unknown jobs",
        CHECK,
        &[
            (
                "Raptor.toml",
                "[run.live]\ntarget = \"live\"\ninput = \"live\"\noutput = \"x\"\n[group.all]\nrun = [\"liev\"]\n",
            ),
            LIVE,
        ],
    ),
    ("missing sources", CHECK, &[("Raptor.toml", "[run.live]\ntarget = \"live\"\noutput = \"x\"\n"), LIVE]),
    (
        "mount that no job can give",
        CHECK,
        &[("Raptor.toml", "[run.a]\ntarget = \"a\"\n"), ("a.rapt", "MOUNT data /data\nCMD id\n")],
    ),
    (
        "sources of the wrong kind",
        CHECK,
        &[
            (
                "Raptor.toml",
                "[run.live]\ntarget = \"live\"\ninput = [\"live\", \"dir/x\"]\noutput = [\"x\", \"y\"]\n",
            ),
            LIVE,
        ],
    ),
    (
        "too many sources",
        CHECK,
        &[
            ("Raptor.toml", "[run.a]\ntarget = \"a\"\ncache = [\"x\", \"y\"]\n"),
            ("a.rapt", "MOUNT cache /c\nCMD id\n"),
        ],
    ),
    (
        "source that is not there",
        CHECK,
        &[
            ("Raptor.toml", "[run.a]\ntarget = \"a\"\ninput = \"x\"\noutput = \"y\"\n"),
            ("a.rapt", "MOUNT --readonly input /i\nMOUNT output /o\nCMD id\n"),
        ],
    ),
    ("nothing to run", CHECK, &[("Raptor.toml", "[run.a]\ntarget = \"a\"\n"), ("a.rapt", "RUN id\n")]),
    (
        "output without a mount",
        CHECK,
        &[("Raptor.toml", "[run.a]\ntarget = \"a\"\noutput = \"x\"\n"), ("a.rapt", "CMD id\n")],
    ),
    (
        "builder without a command",
        CHECK,
        &[
            ("Raptor.toml", "[run.a]\ntarget = \"a\"\ninput = \"b\"\noutput = \"x\"\n"),
            ("a.rapt", "MOUNT --layers --each b input /i\nMOUNT output /o\nCMD id\n"),
            ("b.rapt", "RUN id\n"),
        ],
    ),
];

const WARNINGS: &[Case] = &[
    (
        "second of each",
        CHECK_T,
        &[("t.rapt", "FROM a\nFROM b\nCMD a\nCMD b\nENTRYPOINT a\nENTRYPOINT b\n"), ("a.rapt", "RUN id\n")],
    ),
    (
        "in an included file",
        CHECK_T,
        &[("t.rapt", "INCLUDE i\n"), ("i.rinc", "FROM a\nCMD id\nENTRYPOINT id\nMOUNT a /a\nRUN id\n")],
    ),
    ("settings at the end", CHECK_T, &[("t.rapt", "RUN id\nENV LANG=C\nWORKDIR /srv\n")]),
    (
        "JSON form and quotes in a word",
        CHECK_T,
        &[("t.rapt", "RUN dpkg --x=\"a b\"\nCMD [\"a\", \"b c\"]\n")],
    ),
    (
        "files that vanish",
        CHECK_T,
        &[("t.rapt", "MKDIR -p /run/app\nWORKDIR /tmp\nWRITE x a\nCOPY t.rapt /dev/x\n")],
    ),
    ("mount over a mount", CHECK_T, &[("t.rapt", "MOUNT a /srv/a\nMOUNT b /srv\nMOUNT c /srv/\n")]),
    ("files from outside", CHECK_T, &[("t.rapt", "COPY /etc/hostname /etc/hostname\nRENDER ../x /x\n")]),
    (
        "arguments for nothing",
        CHECK_T,
        &[
            ("t.rapt", "INCLUDE i nmae=1 name=2\nRENDER r /r x=1\n"),
            ("i.rinc", "RUN echo {{ name }}\n"),
            ("r", "y\n"),
        ],
    ),
    (
        "sources for nothing",
        CHECK,
        &[("Raptor.toml", "[run.a]\ntarget = \"a\"\ncache = \"x\"\ninput = \"y\"\n"), ("a.rapt", "CMD id\n")],
    ),
    (
        "links for nothing",
        CHECK,
        &[
            (
                "Raptor.toml",
                "[raptor.link]\nstd = \"own\"\nused = \"used\"\nunused = \"unused\"\n[run.a]\ntarget = \"$std.a\"\n",
            ),
            ("own/a.rapt", "FROM $used.b\nCMD id\n"),
            ("used/b.rapt", "RUN id\n"),
        ],
    ),
];

const USAGE: &[Case] = &[
    ("unknown command", &["chekc"], &[]),
    ("unknown option", &["check", "--jsno"], &[]),
    ("no target", &["build"], &[]),
    ("nothing to check", CHECK, &[]),
    ("unknown format", &["check", "--message-format", "xml", "t"], &[]),
    ("unknown code", &["explain", "E0399"], &[]),
    ("unknown job", &["make", "liev"], &[("Raptor.toml", "[run.live]\ntarget = \"live\"\n"), LIVE]),
    ("no jobs", &["make"], &[("Raptor.toml", "")]),
];

#[test]
fn syntax() {
    insta::assert_snapshot!(shown(SYNTAX));
}

#[test]
fn templates() {
    insta::assert_snapshot!(shown(TEMPLATES));
}

#[test]
fn files() {
    insta::assert_snapshot!(shown(FILES));
}

#[test]
fn manifest() {
    insta::assert_snapshot!(shown(MANIFEST));
}

#[test]
fn warnings() {
    insta::assert_snapshot!(shown(WARNINGS));
}

#[test]
fn usage() {
    insta::assert_snapshot!(shown(USAGE));
}

#[test]
fn every_line_of_json_has_its_schema() {
    let schema = schema::read("diagnostic.json");
    for (broken, pointer) in
        [("code", "/code"), ("place", "/span/start/line"), ("fix", "/fixes/0/applicability")]
    {
        let mut line = diagnostics(&Project::new(&[("t.rapt", "run id\n")]), CHECK_T).remove(0);
        *line.pointer_mut(pointer).unwrap() = json!("x");
        assert!(schema::validate(&schema, &schema, &line).is_err(), "the schema lets a broken {broken} pass");
    }
    let mut n_lines = 0;
    for (name, args, files) in cases() {
        let project = Project::new(files);
        for line in lines(&project, args) {
            schema::validate(&schema, &schema, &line)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{line}"));
            n_lines += 1;
        }
        // The same problems are on stdout when they are asked for as a result.
        let whole: Value = serde_json::from_str(&project.run(&[*args, &["--json"]].concat()).stdout).unwrap();
        let told: Vec<Value> = diagnostics(&project, args);
        assert_eq!(whole["diagnostics"].as_array().unwrap(), &told, "{name}");
    }
    assert!(n_lines > 150, "{n_lines}");
}

#[test]
fn fixes_solve_what_they_are_for() {
    let mut n_fixes = 0;
    for (name, args, files) in cases() {
        let project = Project::new(files);
        let told = diagnostics(&project, args);
        for problem in &told {
            for fix in problem["fixes"].as_array().unwrap() {
                let file = fix["edits"][0]["span"]["file"].as_str().unwrap();
                let before = project.read(file);
                project.write(file, &edited(&before, fix));
                let after = diagnostics(&project, args);
                let same = |it: &&Value| it["code"] == problem["code"] && it["message"] == problem["message"];
                assert!(
                    after.iter().filter(same).count() < told.iter().filter(same).count(),
                    "{name}: after {fix} there is still {problem}"
                );
                project.write(file, &before);
                n_fixes += 1;
            }
        }
    }
    assert!(n_fixes >= 20, "{n_fixes}");
}

#[test]
fn short_messages_are_lines() {
    let project = Project::new(&[("t.rapt", "RUN id\n\tRNU id\nINCLUDE i\n"), ("i.rinc", "CMD id\n")]);
    let ran = project.run(&["--message-format", "short", "check", "t"]);
    assert_eq!(
        ran.stderr,
        "t.rapt:2:2: error[E0101]: unknown instruction `RNU`\n\
         i.rinc:1:1: warning[W0501]: CMD has no effect in an included file\n\
         error: 1 error, 1 warning\n"
    );
}

#[test]
fn colour_is_for_those_who_want_it() {
    let project = Project::new(&[("t.rapt", "RNU id\n")]);
    let has_color = |vars: &[(&str, &str)]| {
        let output = project.command(CHECK_T).envs(vars.iter().copied()).output().unwrap();
        common::ran(output).stderr.contains('\x1b')
    };
    assert!(!has_color(&[]));
    assert!(has_color(&[("CLICOLOR_FORCE", "1")]));
    assert!(!has_color(&[("CLICOLOR_FORCE", "0")]));
    assert!(!has_color(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn long_lines_are_cut() {
    let long = format!("WRITE \"{}\" /a /b{}\n", "x".repeat(4 << 20), " /c".repeat(1 << 20));
    let project = Project::new(&[("t.rapt", &long)]);
    let ran = project.fails(CHECK_T, &["t.rapt:1:4194317", "unexpected `/b`", "…"]);
    assert!(ran.stderr.len() < 1000, "{} bytes", ran.stderr.len());
}

#[test]
fn what_is_right_is_silent() {
    let example = format!("{}/examples/live", env!("CARGO_MANIFEST_DIR"));
    let project = Project::new(&[]);
    for entry in fs::read_dir(example).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && name != "Raptor.lock" {
            project.write(&name, &fs::read_to_string(path).unwrap());
        }
    }
    let mut checks = vec![vec!["check".to_owned()]];
    let stdlib = concat!(env!("CARGO_MANIFEST_DIR"), "/stdlib");
    for dir in ["", "lib/"] {
        for entry in fs::read_dir(format!("{stdlib}/{dir}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "rapt") {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                let instance = if stem.ends_with('@') { "x" } else { "" };
                checks.push(vec![
                    "check".to_owned(),
                    format!("$std.{}{stem}{instance}", dir.replace('/', ".")),
                ]);
            }
        }
    }
    assert!(checks.len() >= 4);
    for args in checks {
        let ran = project.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), "No errors detected.\n"), "{args:?}");
    }
}

/// What raptor says about each case.
fn shown(cases: &[Case]) -> String {
    let mut shown = String::new();
    for (name, args, files) in cases {
        let ran = Project::new(files).run(args);
        assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
        shown += &format!("=== {name}\n");
        for (path, text) in files.iter() {
            shown += &format!("--- {path}\n{text}");
        }
        let status = ran.status.unwrap();
        shown += &format!(">>> raptor {}: status {status}\n{}\n", args.join(" "), ran.stderr);
    }
    shown
}

/// Cases of `check`.
fn cases() -> impl Iterator<Item = &'static Case> {
    [SYNTAX, TEMPLATES, FILES, MANIFEST, WARNINGS].into_iter().flatten()
}

/// Lines of stderr with `--message-format json`.
fn lines(project: &Project, args: &[&str]) -> Vec<Value> {
    let ran = project.run(&[&["--message-format", "json"], args].concat());
    ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn diagnostics(project: &Project, args: &[&str]) -> Vec<Value> {
    lines(project, args).into_iter().filter(|it| it["type"] == "diagnostic").collect()
}

/// A text with the edits of a fix.
fn edited(text: &str, fix: &Value) -> String {
    let mut text = text.to_owned();
    for edit in fix["edits"].as_array().unwrap().iter().rev() {
        let offset = |end: &str| edit["span"][end]["offset"].as_u64().unwrap() as usize;
        text.replace_range(offset("start")..offset("end"), edit["text"].as_str().unwrap());
    }
    text
}
