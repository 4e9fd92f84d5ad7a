//! The typed views find what is there, and miss what is not.

use super::*;
use crate::syntax::ast::{AstNode, File, Statement};

fn file(text: &str) -> File {
    File::cast(parse(text, Mode::Source).syntax()).unwrap()
}

fn statement(text: &str) -> Statement {
    file(text).statements().next().unwrap()
}

fn texts<N: AstNode>(nodes: impl Iterator<Item = N>) -> Vec<String> {
    nodes.map(|it| it.syntax().text().to_string()).collect()
}

#[test]
fn parts_of_statements() {
    let copy = statement("COPY --chmod=755 --exclude *.o a \"b c\" /d");
    assert_eq!(copy.kind(), SyntaxKind::COPY_STMT);
    assert_eq!(copy.keyword().unwrap().text(), "COPY");
    assert_eq!(texts(copy.words()), ["a", "\"b c\"", "/d"]);
    assert_eq!(copy.words().nth(1).unwrap().value().unwrap(), "b c");
    assert!(copy.words().nth(1).unwrap().strings().next().unwrap().is_closed());
    let names: Vec<_> = copy.options().map(|it| it.name().unwrap().text().to_string()).collect();
    assert_eq!(names, ["chmod", "exclude"]);

    let include = statement("INCLUDE $std.a@1 x=[1, \"a\"] y");
    assert_eq!(include.module().unwrap().range(), 8..16);
    assert_eq!(texts(include.args().filter_map(|it| it.name())), ["x", "y"]);
    let values: Vec<_> = include.args().map(|it| it.value().map(|it| it.text().to_string())).collect();
    assert_eq!(values, [Some("[1, \"a\"]".to_string()), None]);

    let env = statement("ENV A=b C");
    assert_eq!(texts(env.vars().filter_map(|it| it.name())), ["A", "C"]);
    assert_eq!(texts(env.vars().filter_map(|it| it.value())), ["b"]);
    assert_eq!(env.words().count(), 0);

    assert_eq!(texts(statement("CMD [\"a\", \"b\"]").words()), ["\"a\"", "\"b\""]);
    assert_eq!(statement("RUN <<EOF\nEOF\n").heredoc().unwrap().text(), "<<EOF");
}

#[test]
fn parts_that_are_missing() {
    let include = statement("INCLUDE");
    assert!(include.module().is_none() && include.heredoc().is_none() && include.args().next().is_none());
    assert!(!statement("RUN \"a").words().next().unwrap().strings().next().unwrap().is_closed());
    assert!(statement("RUN a{{ x }}").words().next().unwrap().value().is_none());
}

#[test]
fn templates() {
    let file = file("$ if x\nRUN a {{ y }}\n{% else %}\nRUN \"{{ z }}\"\n{% endif %}\n");
    assert_eq!(texts(file.holes()), ["{{ y }}", "{{ z }}"]);
    let block = file.blocks().next().unwrap();
    let keywords: Vec<_> =
        block.clauses().map(|it| it.tag().unwrap().keyword().unwrap().text().to_string()).collect();
    assert_eq!(keywords, ["if", "else"]);
    assert_eq!(block.end().unwrap().keyword().unwrap().text(), "endif");
    assert_eq!(texts(block.clauses().last().unwrap().statements()), ["RUN \"{{ z }}\""]);
    let string = file.statements().last().unwrap().words().next().unwrap().strings().next().unwrap();
    assert_eq!(texts(string.holes()), ["{{ z }}"]);
}
