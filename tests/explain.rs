//! The pages of `raptor explain`: what they call wrong has exactly their code, what they call right has none.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::Project;
use raptor_lang::diag::Code;
use serde_json::Value;

/// A fenced block: ```` ```rapt,E0301,name=a.rapt ````.
#[derive(Debug)]
struct Block {
    language: String,
    code: Option<String>,
    name: Option<String>,
    text: String,
}

#[test]
fn wrong_examples_have_the_code_and_right_ones_none() {
    let mut failures = Vec::new();
    for code in Code::ALL {
        let (wrong, right) = code.page().split_once("\n## Right\n").expect("a section `Right`");
        let (_, wrong) = wrong.split_once("\n## Wrong\n").expect("a section `Wrong`");
        let (right, why) = right.split_once("\n## Why\n").expect("a section `Why`");
        assert!(why.trim().len() > 20, "{} does not say why", code.id());
        let wrong = blocks(wrong);
        assert!(wrong.iter().any(|it| it.code.as_deref() == Some(code.id())), "no example of {}", code.id());
        for (examples, expected) in [(wrong, vec![code.id()]), (blocks(right), Vec::new())] {
            let (found, output) = codes(&examples);
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            if found != expected {
                failures.push(format!("{}: expected {expected:?}, found {found:?}\n{output}", code.id()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_page_is_printed_and_every_code_listed() {
    let project = Project::new(&[]);
    let list = project.ok(&["explain"]);
    let json: Value = serde_json::from_str(&project.ok(&["explain", "--json"])).unwrap();
    assert_eq!(list.lines().count(), Code::ALL.len());
    assert_eq!(json["codes"].as_array().unwrap().len(), Code::ALL.len());
    for code in Code::ALL {
        assert!(list.contains(&format!("{}  {}\n", code.id(), code.summary())));
    }
    assert!(project.ok(&["explain", "e0301"]).starts_with("# E0301\n\n"));
    let page: Value = serde_json::from_str(&project.ok(&["explain", "--json", "W0501"])).unwrap();
    assert_eq!(page["severity"], "warning");
    assert_eq!(page["text"], Code::Ineffective.page());
    let ran = project.run(&["explain", "E301"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("did you mean `E0301`?"), "{}", ran.stderr);
}

fn blocks(section: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut parts = section.split("```");
    parts.next();
    while let (Some(fenced), Some(_)) = (parts.next(), parts.next()) {
        let (info, text) = fenced.split_once('\n').unwrap();
        let mut block = Block { language: String::new(), code: None, name: None, text: text.to_owned() };
        for (at, part) in info.split(',').enumerate() {
            match (at, part.strip_prefix("name=")) {
                (0, _) => block.language = part.to_owned(),
                (_, Some(name)) => block.name = Some(name.to_owned()),
                (_, None) => block.code = Some(part.to_owned()),
            }
        }
        blocks.push(block);
    }
    assert!(!blocks.is_empty(), "no example in:\n{section}");
    blocks
}

/// The codes that raptor tells of a project with these files, and all that it said.
fn codes(blocks: &[Block]) -> (BTreeSet<String>, String) {
    let project = Project::new(&[]);
    let mut script = None;
    let mut by_manifest = false;
    for block in blocks {
        match (&block.name, block.language.as_str()) {
            (Some(name), _) => project.write(name, &block.text),
            (None, "rapt") => project.write("example.rapt", &block.text),
            (None, "toml") => {
                by_manifest = true;
                project.write("Raptor.toml", &block.text);
            }
            (None, "sh") => script = Some(&block.text),
            (None, language) => panic!("a block of {language} has no name"),
        }
    }
    let output = match script {
        Some(script) => {
            let bin = project.path("bin");
            fs::create_dir(&bin).unwrap();
            symlink(common::raptor(), bin.join("raptor")).unwrap();
            let script = script.replace("raptor ", "raptor --message-format json ");
            let plain = project.command(&[]);
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]).current_dir(project.path("")).env_clear();
            command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
            command.output().unwrap()
        }
        None if by_manifest => project.command(&["--message-format", "json", "check"]).output().unwrap(),
        None => project.command(&["--message-format", "json", "check", "example"]).output().unwrap(),
    };
    let ran = common::ran(output);
    let told =
        ran.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON on every line"));
    let codes: BTreeSet<String> = told.filter_map(|it| Some(it["code"].as_str()?.to_owned())).collect();
    let failed = codes.iter().any(|it| it.starts_with('E'));
    assert_eq!(ran.status, Some(i32::from(failed)), "{blocks:?}\n{}", ran.stderr);
    (codes, ran.stderr)
}
