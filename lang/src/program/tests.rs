//! Programs: what a project's files mean, and what is said about those that mean nothing.

use std::path::Path;

use super::*;
use crate::def::{Extension, ModuleName};
use crate::diag::Diagnostic;
use crate::source::Sources;
use crate::testing::{MemoryWorld, show, show_span};

/// Loads `main.rapt` (or another file with its instance) of a fixture and shows all that came out of it.
fn run_module(fixture: &str, path: &str, instance: Option<&str>) -> String {
    let world = MemoryWorld::new(fixture);
    let mut sources = Sources::default();
    let module =
        ModuleId { path: path.into(), instance: instance.map(str::to_owned), with: Default::default() };
    match load(&world, &module, &mut sources) {
        Ok(loaded) => show_program(&loaded.program, &loaded.warnings, &sources),
        Err(problems) => show_all(&problems, &sources),
    }
}

fn run(fixture: &str) -> String {
    run_module(fixture, "main.rapt", None)
}

fn show_all(problems: &[Diagnostic], sources: &Sources) -> String {
    problems.iter().map(|it| show(it, sources) + "\n").collect()
}

fn show_program(program: &Program, warnings: &[Diagnostic], sources: &Sources) -> String {
    let mut shown = String::new();
    if let Some(from) = &program.from {
        shown += &match &from.value {
            Base::Module(it) => format!("FROM {} {:?}\n", it.path.display(), it.instance),
            base => format!("FROM {base:?}\n"),
        };
    }
    for action in &program.actions {
        let indent = "  ".repeat(action.stack.len());
        shown += &match &action.kind {
            ActionKind::Run(argv) => format!("{indent}RUN {argv:?}\n"),
            ActionKind::Env(vars) => format!("{indent}ENV {vars:?}\n"),
            ActionKind::Workdir(path) => format!("{indent}WORKDIR {path}\n"),
            ActionKind::Write { text, path, .. } => format!("{indent}WRITE {text:?} {path}\n"),
            ActionKind::Mkdir { path, parents, .. } => format!("{indent}MKDIR {parents} {path}\n"),
            ActionKind::Fetch { url, dest, digest, .. } => format!("FETCH {} {dest} {digest:?}\n", url.value),
            ActionKind::Keep(paths) => {
                let paths: Vec<_> = paths.iter().map(|it| it.value.as_str()).collect();
                format!("{indent}KEEP {}\n", paths.join(" "))
            }
            ActionKind::Copy { sources, dest, exclude, .. } => {
                let sources: Vec<_> = sources.iter().map(|it| it.value.display().to_string()).collect();
                let exclude: String = exclude.texts().map(|it| format!("without {it} ")).collect();
                format!("{indent}COPY {exclude}{} {dest}\n", sources.join(" "))
            }
        };
    }
    for (name, argv) in [("CMD", &program.cmd), ("ENTRYPOINT", &program.entrypoint)] {
        if let Some(argv) = argv {
            shown += &format!("{name} {:?}\n", argv.value);
        }
    }
    for mount in &program.mounts {
        let ProgramMount { mount, each } = &mount.value;
        shown += &format!("MOUNT {:?} {} {}", mount.kind, mount.name.value, mount.path.value);
        shown += &each.as_ref().map_or("\n".to_owned(), |it| format!(" each {}\n", it.path.display()));
    }
    shown + &show_all(warnings, sources)
}

#[test]
fn statements_in_order() {
    let fixture = "\
--- main.rapt
FROM debian://trixie
MKDIR -p /a
ENV A=1
INCLUDE lib.inc x=\"v\"
RUN after
CMD a \"b c\"
ENTRYPOINT /bin/zsh
MOUNT --layers --each $std.squashfs input /input
WRITE \"text\" /f
COPY /etc/../hosts ../up lib /dst
--- lib/inc.rinc
WORKDIR /w
RUN \"{{ x }}\"
COPY files/f ../main.rapt /
RENDER t.j2 /t x y=[1, {\"k\": true}]
--- lib/files/f
--- lib/t.j2
{{ x }} {{ y[1].k }}
--- hosts
--- /hosts
--- ../up
--- $std/squashfs.rapt
--- link std $std
";
    assert_eq!(
        run(fixture),
        "\
FROM Debian(\"trixie\")
MKDIR true /a
ENV [(\"A\", \"1\")]
  WORKDIR /w
  RUN [\"v\"]
  COPY lib/files/f main.rapt /
  WRITE \"v true\\n\" /t
RUN [\"after\"]
WRITE \"text\" /f
COPY /hosts ../up lib /dst
CMD [\"a\", \"b c\"]
ENTRYPOINT [\"/bin/zsh\"]
MOUNT Layers input /input each $std/squashfs.rapt
W0509 main.rapt:10: «/etc/../hosts» /hosts is not part of the project
W0509 main.rapt:10: «../up» ../up is not part of the project
"
    );
}

#[test]
fn names() {
    for (statement, expected) in [
        ("FROM a.b", "FROM sub/a/b.rapt None\n"),
        ("FROM $.a.b", "FROM a/b.rapt None\n"),
        ("FROM $p.a", "FROM pkg/a.rapt None\n"),
        ("FROM a@i", "FROM sub/a@.rapt Some(\"i\")\n"),
        ("FROM docker://debian:trixie", "FROM Docker(\"debian:trixie\")\n"),
        ("FROM $q.a", "E0305 sub/m.rapt:1: «FROM $q.a» package not found: $q\n"),
        ("FROM nope", "E0301 sub/m.rapt:1: «FROM nope» could not open sub/nope.rapt: no such file\n"),
        ("INCLUDE a.b", "E0301 sub/m.rapt:1: «INCLUDE a.b» could not open sub/a/b.rinc: no such file\n"),
        ("INCLUDE i@\"x y\"", "  RUN [\"x y\"]\n"),
        ("INCLUDE i@7 instance=3", "  RUN [\"7\"]\n"),
        (
            "MOUNT --layers --each nope in /in",
            "E0301 sub/m.rapt:1: «MOUNT --layers --each nope in /in» could not open sub/nope.rapt: no such file\n",
        ),
    ] {
        let fixture = format!(
            "--- sub/m.rapt\n{statement}\n--- sub/a/b.rapt\n--- sub/a@.rapt\n--- sub/i@.rinc\n\
             RUN \"{{{{ instance }}}}\"\n--- a/b.rapt\n--- pkg/a.rapt\n--- link p pkg\n"
        );
        assert_eq!(run_module(&fixture, "sub/m.rapt", None), expected, "{statement}");
    }
    let template = "--- x@.rapt\nRUN {{ instance }}\n";
    assert_eq!(run_module(template, "x@.rapt", Some("1")), "RUN [\"1\"]\n");
    assert_eq!(run_module(template, "x@.rapt", Some("2")), "RUN [\"2\"]\n");
}

#[test]
fn names_from_the_command_line() {
    let world = MemoryWorld::new("--- a/b.rapt\n--- c.rapt\n--- s/x.rapt\n--- link std s\n");
    let find = |text: &str| {
        let name: ModuleName = text.parse().unwrap();
        resolve(&world, &name, Path::new(""), Extension::Rapt).map(|it| it.path.display().to_string())
    };
    assert_eq!(find("a.b").as_deref(), Ok("a/b.rapt"));
    assert_eq!(find("$.c").as_deref(), Ok("c.rapt"));
    assert_eq!(find("$std.x").as_deref(), Ok("s/x.rapt"));
    assert_eq!(find("x").unwrap_err().to_string(), "could not open x.rapt: no such file");
    assert_eq!(find("$none.x").unwrap_err().to_string(), "package not found: $none");
}

/// Arguments see the file's own context and its final exports; nothing leaks up or down.
#[test]
fn scopes() {
    let fixture = "\
--- main.rapt
$ set a = \"first\"
INCLUDE inc a n=7 b=\"lit\"
$ if true
$ set a = {\"k\": [1, 2]}
$ endif
$ for loop_local in [1]
INCLUDE inc a=\"{{ loop_local }}\" n=a.k b=true
$ endfor
RUN {{ \"leaked\" if inner is defined else \"clean\" }}
--- inc.rinc
$ set inner = n
RUN {{ a | string | sh }} \"{{ n }}\" {{ b }} {{ \"seen\" if loop_local is defined else \"unseen\" }}
RENDER t.j2 /t inner b x=\"{{ b }}\"
--- t.j2
{{ inner }} {{ b }} {{ x }} {{ n is defined }} {{ instance is defined }}
";
    assert_eq!(
        run(fixture),
        r#"  RUN ["{\"k\": [1, 2]}", "7", "lit", "unseen"]
  WRITE "7 lit lit false false\n" /t
  RUN ["1", "[1, 2]", "true", "unseen"]
  WRITE "[1, 2] true true false false\n" /t
RUN ["clean"]
"#
    );
}

#[test]
fn render_is_exact() {
    for (template, expected) in [
        ("x\n", "x\n"),
        ("x", "x"),
        ("", ""),
        ("\n\n", "\n\n"),
        ("$ if true\nx\n$ endif", "x\n"),
        ("{{ 'x\n' -}}", "x\n"),
        ("{% include 'inc.j2' %}", "i\n"),
        ("a\r\nb\r\n", "a\r\nb\r\n"),
    ] {
        let fixture = format!("--- main.rapt\nRENDER t.j2 /t\n--- inc.j2\ni\n--- t.j2\n{template}");
        assert_eq!(run(&fixture), format!("WRITE {expected:?} /t\n"), "{template:?}");
    }
}

/// All problems of a program at once, each with the INCLUDEs and RENDERs that led there.
#[test]
fn problems() {
    let fixture = "\
--- main.rapt
FROM nope
FOO bar
INCLUDE mid x=undefined_thing
COPY a b none /dst
RENDER t.j2 /t
--- mid.rinc
# {{ \"comment\" }}
INCLUDE low user=\"u\"
BAR
--- low.rinc
RUN {{ user }}
COPY missing /x
RENDER none.j2 /y
RENDER t.j2 /z usr=1
INCLUDE broken
--- broken.rinc
RUN a
RUN {{ oops
--- t.j2
ok
{{ user }}
--- a
--- b
";
    assert_eq!(
        run(fixture),
        "\
E0301 main.rapt:1: «FROM nope» could not open nope.rapt: no such file
E0101 main.rapt:2: «FOO» unknown instruction `FOO`
E0204 main.rapt:3: «undefined_thing» undefined variable: undefined_thing
W0510 main.rapt:3: «x» the file does not use `x`
E0301 low.rinc:2: «missing» could not open missing: no such file or directory
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
  in mid.rinc:2: «INCLUDE low user=\"u\"»
E0301 low.rinc:3: «none.j2» could not open none.j2: no such file
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
  in mid.rinc:2: «INCLUDE low user=\"u\"»
W0510 low.rinc:4: «usr» the file does not use `usr`
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
  in mid.rinc:2: «INCLUDE low user=\"u\"»
E0202 t.j2:2: «user» `user` is not defined
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
  in mid.rinc:2: «INCLUDE low user=\"u\"»
  in low.rinc:4: «RENDER t.j2 /z usr=1»
E0201 broken.rinc:2: «oops» unexpected end of input, expected end of variable block
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
  in mid.rinc:2: «INCLUDE low user=\"u\"»
  in low.rinc:5: «INCLUDE broken»
E0101 mid.rinc:3: «BAR» unknown instruction `BAR`
  in main.rapt:3: «INCLUDE mid x=undefined_thing»
E0301 main.rapt:4: «none» could not open none: no such file or directory
E0202 t.j2:2: «user» `user` is not defined
  in main.rapt:5: «RENDER t.j2 /t»
"
    );
}

#[test]
fn ineffective_statements_are_warned_of() {
    let fixture = "\
--- main.rapt
FROM a
FROM b
CMD x
CMD y
ENTRYPOINT e
INCLUDE inc
--- inc.rinc
FROM a
CMD z
ENTRYPOINT e
MOUNT cache /c
--- a.rapt
";
    let inside = |statement: &str, line: usize, name: &str| {
        format!(
            "W0501 inc.rinc:{line}: «{statement}» {name} has no effect in an included file\n  in main.rapt:6: «INCLUDE inc»\n"
        )
    };
    let expected = "FROM a.rapt None\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\n".to_owned()
        + "W0501 main.rapt:2: «FROM b» only the first FROM of a file counts\n  also main.rapt:1: «FROM a» this one counts\n"
        + "W0501 main.rapt:4: «CMD y» only the first CMD of a file counts\n  also main.rapt:3: «CMD x» this one counts\n"
        + &inside("FROM a", 1, "FROM")
        + &inside("CMD z", 2, "CMD")
        + &inside("ENTRYPOINT e", 3, "ENTRYPOINT")
        + &inside("MOUNT cache /c", 4, "MOUNT");
    assert_eq!(run(fixture), expected);
}

#[test]
fn nesting() {
    let chain = |n: usize| {
        let files: String = (1..n).map(|i| format!("--- i{i}.rinc\nINCLUDE i{}\n", i + 1)).collect();
        format!("--- main.rapt\nINCLUDE i1\n{files}--- i{n}.rinc\nRUN deep\n")
    };
    assert_eq!(run(&chain(19)).trim(), "RUN [\"deep\"]");
    let shown = run(&chain(20));
    assert!(shown.starts_with("E0303 i19.rinc:1: «INCLUDE i20»"), "{shown}");
    assert_eq!(shown.matches("\n  in ").count(), 19);
    // A file that includes itself twice is one problem, not a million.
    let twice = run("--- main.rapt\nINCLUDE a\n--- a.rinc\nINCLUDE a\nINCLUDE a\n");
    assert_eq!(twice.matches("E0303").count(), 1);
    // Ten files that include each other ten times over end, too.
    let wide: String =
        (0..10).map(|i| format!("--- w{i}.rinc\n{}", format!("INCLUDE w{}\n", i + 1).repeat(10))).collect();
    let shown = run(&format!("--- main.rapt\nINCLUDE w0\n{wide}--- w10.rinc\n"));
    assert!(shown.starts_with("E0303") && shown.contains("more than 10000 INCLUDEs"), "{shown}");
}

#[test]
fn hints() {
    let fixture = "\
--- main.rapt
$ set username = \"u\"
INCLUDE a usernme z=username.x
FROM b
INCLUDE c@1
INCLUDE d
--- a.rapt
--- b.rinc
--- c.rinc
--- d@.rinc
";
    let world = MemoryWorld::new(fixture);
    let mut sources = Sources::default();
    let module = ModuleId { path: "main.rapt".into(), instance: None, with: Default::default() };
    let problems = load(&world, &module, &mut sources).unwrap_err();
    let hints: Vec<_> = problems.iter().filter_map(|it| it.hint.as_deref()).collect();
    assert_eq!(
        hints,
        [
            "did you mean `username`?",
            "a text must be quoted; a variable is set with `$ set NAME=…` in the same file",
            "a.rapt is there, for FROM; INCLUDE needs a .rinc file",
            "b.rinc is there, for INCLUDE; FROM needs a .rapt file",
            "c.rinc is there, without instances; leave `@` and what follows out",
            "d@.rinc is there, and needs an instance: `d@NAME`",
        ]
    );
}

/// Habits of files in the wild, language.md §12.
#[test]
fn idioms() {
    let fixture = "\
--- main.rapt
FROM disk-image.base

$ set NAME=\"getty\"
RUN apt-get install -y    \\
    linux-image-amd64     \\
    grub-efi              \\

RUN usermod -p \"\" root
RUN usermod -p \"$1$salt$hash\" root
RUN sed -i \"s/^x/\\\\x23\\\\0/\" /etc/x
RUN systemctl enable {{NAME}}@tty1.service --opt=val a,b,c
INCLUDE mod k=\"v\" flag=false
MKDIR -p /boot/efi/EFI/BOOT/
CMD /root/generate.sh   # zsh reads it
ENTRYPOINT /bin/zsh
MOUNT --simple --optional cache  /cache
--- disk-image/base.rapt
--- disk-image.rapt
--- mod.rinc
$ if not flag
RUN {{ k }} {{ \"x\" if not optional else optional }}
$ endif
COPY sub/f /f
$ if optional == 1
RUN never
$ endif
--- sub/f
";
    assert_eq!(
        run(fixture),
        r#"FROM disk-image/base.rapt None
RUN ["apt-get", "install", "-y", "linux-image-amd64", "grub-efi"]
RUN ["usermod", "-p", "", "root"]
RUN ["usermod", "-p", "$1$salt$hash", "root"]
RUN ["sed", "-i", "s/^x/\\x23\\0/", "/etc/x"]
RUN ["systemctl", "enable", "getty@tty1.service", "--opt=val", "a,b,c"]
  RUN ["v", "x"]
  COPY sub/f /f
MKDIR true /boot/efi/EFI/BOOT/
CMD ["/root/generate.sh"]
ENTRYPOINT ["/bin/zsh"]
MOUNT Simple cache /cache
"#
    );
}

#[test]
fn places_of_words_survive_templates() {
    let fixture =
        "--- main.rapt\n$ set who = \"me\"\n\nENV A=1\nCOPY {{ who }} /x # c\nRUN {{ who }} b\n--- me\n";
    let world = MemoryWorld::new(fixture);
    let mut sources = Sources::default();
    let module = ModuleId { path: "main.rapt".into(), instance: None, with: Default::default() };
    let loaded = load(&world, &module, &mut sources).unwrap();
    let spans: Vec<_> = loaded.program.actions.iter().map(|it| show_span(it.span, &sources)).collect();
    assert_eq!(
        spans,
        ["main.rapt:3: «ENV A=1»", "main.rapt:4: «COPY {{ who }} /x»", "main.rapt:5: «RUN {{ who }} b»"]
    );
    let ActionKind::Copy { sources: files, .. } = &loaded.program.actions[1].kind else { panic!() };
    assert_eq!(show_span(files[0].span, &sources), "main.rapt:4: «{{ who }}»");
}

#[test]
fn one_file_alone() {
    let (statements, problems, sources) = parse_file_statements(
        Path::new("-"),
        "$ set x = 1\nRUN {{ x }}\nINCLUDE none.at.all\nFROM nope\nFOO\n",
    );
    assert_eq!(statements.len(), 3);
    assert_eq!(show_all(&problems, &sources), "E0101 -:5: «FOO» unknown instruction `FOO`\n");
    let (_, problems, sources) = parse_file_statements(Path::new("d/a.rapt"), "\n{% include 'b.j2' %}\n");
    assert_eq!(
        show_all(&problems, &sources),
        "E0203 d/a.rapt:2: «include 'b.j2'» the template needs another file: `d/b.j2` is another file\n"
    );
}

#[test]
fn copy_patterns() {
    let files = "--- sub/a.conf\n--- sub/b.conf\n--- sub/.c.conf\n--- sub/d/a.conf\n--- sub/d/e/x\n--- sub/[x]\n--- x\n";
    for (statement, expected) in [
        ("COPY *.conf /etc", "COPY sub/a.conf sub/b.conf /etc/\n"),
        ("COPY a.* /etc/", "COPY sub/a.conf /etc/\n"),
        ("COPY a.conf d/*.conf /etc", "COPY sub/a.conf sub/d/a.conf /etc/\n"),
        ("COPY [x] /etc/x", "COPY sub/[x] /etc/x\n"),
        ("COPY ../[x] /etc/x", "COPY x /etc/x/\n"),
        ("COPY --exclude a.* *.conf /etc", "COPY without a.* sub/b.conf /etc/\n"),
        ("COPY --exclude a.* d /etc", "COPY without a.* sub/d /etc\n"),
        ("COPY d/** /etc", "COPY sub/d/a.conf sub/d/e /etc/\n"),
        ("COPY *.none /etc", "E0308 sub/m.rapt:1: «*.none» nothing matches `*.none`\n"),
        ("COPY nope /etc", "E0301 sub/m.rapt:1: «nope» could not open sub/nope: no such file or directory\n"),
        ("COPY **/*.conf /etc", "E0308 sub/m.rapt:1: «**/*.conf» `**/*.conf` finds two files of one name\n"),
        ("COPY [x /etc", "E0308 sub/m.rapt:1: «[x» `[x` is no pattern: a `[` is not closed\n"),
        (
            "COPY --exclude /../x d /etc",
            "E0308 sub/m.rapt:1: «/../x» `/../x` is no pattern: `..` is outside of the source\n",
        ),
        ("COPY --exclude *.conf a* /etc", "W0501 sub/m.rapt:1: «a*» --exclude leaves nothing of `a*`\n"),
    ] {
        let fixture = format!("--- sub/m.rapt\n{statement}\n{files}");
        assert_eq!(run_module(&fixture, "sub/m.rapt", None), expected, "{statement}");
    }
}

#[test]
fn parameters_are_variables_of_the_target_alone() {
    let fixture = "\
--- x@.rapt
FROM base
RUN {{ instance }} {{ n + 1 }} {{ who | upper }} {{ list[1].k }}
$ if debug
RUN debug
$ endif
INCLUDE inc n
--- base.rapt
--- inc.rinc
RUN {{ n }} {{ who is defined }}
";
    let world = MemoryWorld::new(fixture);
    let text = |it: &str| Parameter::Str(it.to_owned());
    let table = Parameter::Map([("k".to_owned(), text("deep"))].into());
    let with = Parameters::from([
        // The name of the module goes before a parameter of that name.
        ("instance".to_owned(), text("none")),
        ("n".to_owned(), Parameter::Int(3)),
        ("who".to_owned(), text("me")),
        ("debug".to_owned(), Parameter::Bool(true)),
        ("list".to_owned(), Parameter::List(vec![Parameter::Int(0), table])),
    ]);
    let module = ModuleId { path: "x@.rapt".into(), instance: Some("i".to_owned()), with };
    let mut sources = Sources::default();
    let loaded = load(&world, &module, &mut sources).unwrap();
    assert_eq!(
        show_program(&loaded.program, &loaded.warnings, &sources),
        "\
FROM base.rapt None
RUN [\"i\", \"4\", \"ME\", \"deep\"]
RUN [\"debug\"]
  RUN [\"3\", \"false\"]
"
    );
    let Some(Base::Module(base)) = loaded.program.from.map(|it| it.value) else { panic!() };
    assert!(base.with.is_empty());
}

/// A template that fails does not hide what is wrong with the lines around it.
#[test]
fn all_errors_of_a_file() {
    let shown = run(
        "--- main.rapt\nRUNN a\nENV A={{ no }}\nRUN {{ also }} \\\n  oops\n{# RUNX #}\nWORKDIR\n{% set s %}\n\
                     RUNZ\n{% endset %}\n",
    );
    let lines: Vec<_> = shown.lines().map(|it| it.split(" main").next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["E0101", "E0202", "E0202", "E0105"], "{shown}");
}

/// An argument without a value is one problem, not one in every file that it should have reached.
#[test]
fn missing_arguments_are_told_once() {
    let shown = run(
        "--- main.rapt\nINCLUDE a x=nope\n--- a.rinc\nINCLUDE b y=x\nRUN {{ z }}\n--- b.rinc\nRUN {{ y }}\n",
    );
    assert_eq!(shown.matches("E02").count(), 2, "{shown}");
    assert!(shown.contains("undefined variable: nope") && shown.contains("`z` is not defined"), "{shown}");
    let shown = run("--- main.rapt\nRENDER a.j2 /a x=nope\n--- a.j2\n{{ x }}\n");
    assert_eq!(shown.matches("E02").count(), 1, "{shown}");
}

#[test]
fn texts_are_bounded() {
    let long = format!("--- main.rapt\nRUN {}\n", "a".repeat(9 << 20));
    assert!(run(&long).starts_with("E0301 main.rapt"), "{:.80}", run(&long));
    let loops = "--- main.rapt\n{% for i in range(9000) %}\nRUN {{ 'a' * 1000 }}\n{% endfor %}\n";
    let loops = loops.replace("{{ 'a' * 1000 }}", &"a".repeat(1000));
    assert!(
        run(&loops).contains("E0203 main.rapt:1: «» more than 8 MiB of statements"),
        "{:.80}",
        run(&loops)
    );
    let included = format!("--- main.rapt\nINCLUDE big\n--- big.rinc\n# {}\n", "a".repeat(9 << 20));
    assert!(run(&included).starts_with("E0301 main.rapt:1: «INCLUDE big»"), "{:.80}", run(&included));
}
