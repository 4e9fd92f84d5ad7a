//! Evaluation as the command line shows it; nothing is built here.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Project;
use serde_json::Value;

/// The only derivation that `eval` prints.
fn derivation(project: &Project, args: &[&str]) -> Value {
    let shown: Value = serde_json::from_str(&project.ok(&[&["eval"], args].concat())).unwrap();
    shown.as_object().unwrap().values().next().unwrap().clone()
}

#[test]
fn parameters_of_the_command_line() {
    let project =
        Project::new(&[("t.rapt", "FROM base\nWRITE \"{{ n + 1 }} {{ who }}\" /f\n"), ("base.rapt", "")]);
    let layer = derivation(&project, &["t", "--with", "n=3", "--with", "who=me"]);
    assert_eq!((&layer["name"], &layer["steps"][0]["text"]), (&"t?n=3&who=me".into(), &"4 me".into()));
    let other = derivation(&project, &["t", "--with", "n=4", "--with", "who=me"]);
    assert_eq!(layer["parent"], other["parent"], "bases have no parameters");
    let long = derivation(&project, &["t", "--with", "n=0", "--with", &format!("who={}", "x".repeat(80))]);
    assert_eq!(long["name"].as_str().unwrap().len(), "t?0123456789abcdef".len(), "{long}");
    assert_eq!(
        project.ok(&["dump", "t", "--with", "n=1", "--with", "who=x", "--with", "who=y"]).lines().nth(1),
        Some("WRITE \"2 y\" /f")
    );
    project.ok(&["check", "t", "--with", "n=1", "--with", "who=x"]);
    project.ok(&["show", "t", "--with", "n=1", "--with", "who=x"]);
    project.fails(&["check", "t", "--with", "n=1"], &["`who` is not defined"]);
    assert_eq!(project.run(&["eval", "t", "--with", "n"]).status, Some(2));
}

#[test]
fn parameters_of_jobs() {
    let toml = "[run.a]\ntarget = \"t\"\noutput = \"x\"\nwith = { list = [1, \"two\"], on = true }\n\
                [run.b]\ntarget = \"t\"\noutput = \"y\"\nwith = { list = [] , on = false }\n";
    let target = "WRITE \"{{ list | join('-') }}\" /f\n$ if on\nWRITE on /on\n$ endif\nMOUNT --file output /o\nCMD true\n";
    let project = Project::new(&[("t.rapt", target), ("Raptor.toml", toml)]);
    let container = |args: &[&str]| {
        let text = project.ok(&[&["eval", "--closure"], args].concat());
        let shown: Value = serde_json::from_str(&text).unwrap();
        let layer = shown.as_object().unwrap().values().find(|it| it["kind"] == "layer").unwrap();
        (layer["name"].as_str().unwrap().to_owned(), layer["steps"].as_array().unwrap().len())
    };
    assert_eq!(container(&["a"]), ("t?list=[1,two]&on=true".to_owned(), 2));
    assert_eq!(container(&["b"]), ("t?list=[]&on=false".to_owned(), 1));
    assert_eq!(container(&["b", "--with", "on=true"]), ("t?list=[]&on=true".to_owned(), 2));
    project.ok(&["check"]);
    project.write("Raptor.toml", &toml.replace("true", "0.5"));
    project.fails(&["check"], &["E0402", "Raptor.toml:4", "`on`", "this is float"]);
}

/// What a command prints on both streams with so many threads.
fn with_threads(project: &Project, n: &str, args: &[&str]) -> (String, String) {
    let ran = common::ran(project.command(args).env("RAYON_NUM_THREADS", n).output().unwrap());
    (ran.stdout, ran.stderr)
}

#[test]
fn threads_do_not_show() {
    let mut files = vec![
        ("base.rapt".to_owned(), "FROM none\nWRITE x /x\n".to_owned()),
        ("inc.rinc".to_owned(), "FROM base\nRUN {{ n }}\n".to_owned()),
        ("good.rapt".to_owned(), "WRITE good /g\n".to_owned()),
        ("a.rapt".to_owned(), "FROM b\n".to_owned()),
        ("b.rapt".to_owned(), "FROM a\n".to_owned()),
    ];
    let mut targets = vec!["b".to_owned(), "a".to_owned()];
    for n in 0..40 {
        let text = format!("FROM t{}\nINCLUDE inc n={n}\n", (n * 7 + 1) % 45);
        files.push((format!("t{n}.rapt"), text));
        files.push((
            format!("g{n}@.rapt"),
            format!("FROM good\nCOPY base.rapt g{n}@.rapt /{{{{ instance }}}}\n"),
        ));
        targets.push(format!("t{n}"));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let project = Project::new(&files);
    let check: Vec<&str> = ["check"].into_iter().chain(targets.iter().map(String::as_str)).collect();
    let expected = with_threads(&project, "1", &check);
    assert!(
        expected.1.contains("FROM leads back to") && expected.1.contains("could not open t41.rapt"),
        "{}",
        expected.1
    );
    let toml: String =
        (0..40).map(|n| format!("[run.j{n}]\ntarget = \"g{n}@{n}\"\nargs = [\"true\"]\n")).collect();
    project.write("Raptor.toml", &toml);
    let good = with_threads(&project, "1", &["eval", "--closure", "g1@x"]);
    for n in ["2", "3", "8"] {
        assert_eq!(with_threads(&project, n, &check), expected, "{n} threads");
        assert_eq!(with_threads(&project, n, &["eval", "--closure", "g1@x"]), good, "{n} threads");
        assert!(with_threads(&project, n, &["check"]).1.contains("No errors"));
    }
}

#[test]
fn long_chains_of_bases() {
    const DEPTH: usize = 10_000;
    let files: Vec<(String, String)> = (0..DEPTH)
        .map(|n| (format!("c{n}.rapt"), if n == 0 { String::new() } else { format!("FROM c{}\n", n - 1) }))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let project = Project::new(&files);
    let top = format!("c{}", DEPTH - 1);
    project.ok(&["check", &top]);
    let shown: Value = serde_json::from_str(&project.ok(&["show", "--json", &top])).unwrap();
    assert_eq!(shown["targets"][0]["layers"].as_array().unwrap().len(), DEPTH);
}
