//! Further undefined names of a template that stopped at its first one.
//!
//! Rendering ends at the first error. A name that nothing in the file assigns, and that stands in a `{{ … }}` outside
//! of all blocks, would have been the next one for certain; everything else is left until the file renders further.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::ast::{Expr, Stmt};

use super::guard;

/// Names with their places behind `done`, in the order of the text; none if a file that is included may assign any.
pub(super) fn certain<'a>(tree: &Stmt<'a>, done: usize) -> Vec<(&'a str, Range<usize>)> {
    let Stmt::Template(template) = tree else { return Vec::new() };
    let mut seen = BTreeSet::from(["self", "super", "loop", "caller"]);
    let mut stmts = vec![tree];
    while let Some(stmt) = stmts.pop() {
        if matches!(stmt, Stmt::Include(_) | Stmt::Extends(_)) {
            return Vec::new();
        }
        assignments(stmt, &mut seen);
        guard::parts(stmt, &mut stmts, &mut Vec::new());
    }
    let written = template.children.iter().filter_map(|stmt| match stmt {
        Stmt::EmitExpr(it) => root(&it.expr),
        _ => None,
    });
    written.filter(|(name, range)| range.start >= done && seen.insert(name)).collect()
}

/// The variable that must be there for the expression to be written at all.
fn root<'a>(mut expr: &Expr<'a>) -> Option<(&'a str, Range<usize>)> {
    loop {
        expr = match expr {
            Expr::Var(it) => {
                let start = it.span().start_offset as usize;
                return Some((it.id, start..start + it.id.len()));
            }
            Expr::GetAttr(it) => &it.expr,
            Expr::GetItem(it) => &it.expr,
            _ => return None,
        }
    }
}

fn assignments<'a>(stmt: &Stmt<'a>, names: &mut BTreeSet<&'a str>) {
    match stmt {
        Stmt::ForLoop(it) => targets(&it.target, names),
        Stmt::WithBlock(it) => it.assignments.iter().for_each(|(target, _)| targets(target, names)),
        Stmt::Set(it) => targets(&it.target, names),
        Stmt::SetBlock(it) => targets(&it.target, names),
        Stmt::Import(it) => targets(&it.name, names),
        Stmt::FromImport(it) => {
            it.names.iter().for_each(|(name, alias)| targets(alias.as_ref().unwrap_or(name), names));
        }
        Stmt::Macro(it) => {
            names.insert(it.name);
            it.args.iter().for_each(|arg| targets(arg, names));
        }
        Stmt::CallBlock(it) => it.macro_decl.args.iter().for_each(|arg| targets(arg, names)),
        _ => {}
    }
}

fn targets<'a>(expr: &Expr<'a>, names: &mut BTreeSet<&'a str>) {
    match expr {
        Expr::Var(it) => drop(names.insert(it.id)),
        Expr::List(it) => it.items.iter().for_each(|item| targets(item, names)),
        _ => {}
    }
}
