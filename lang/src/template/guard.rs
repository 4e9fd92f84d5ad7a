//! Rewrites a template so that the engine keeps the bounds of [`super::bounds`].
//!
//! It works on the engine's own syntax tree, whose spans tell where each operator and literal stands.

use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Expr, Spanned, Stmt};

use super::bounds;
use super::scan::{Edit, Rank};

/// What the tree of a template tells.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Changes of its text.
    pub(super) edits: Vec<Edit>,
    /// Whether some of its text becomes a value: `set` blocks, macros, calls, filters and blocks.
    pub(super) captures: bool,
    /// Bytes of its longest text between tags.
    pub(super) longest_raw: usize,
}

/// Walks the tree of `text`. Trees are deep where operators are many, so the walk does not recurse.
pub(super) fn guard(tree: &Stmt<'_>, text: &str) -> Guarded {
    let mut guarded = Guarded::default();
    let mut stmts = vec![tree];
    let mut exprs = Vec::new();
    while let Some(stmt) = stmts.pop() {
        match stmt {
            Stmt::EmitRaw(raw) => guarded.longest_raw = guarded.longest_raw.max(raw.raw.len()),
            Stmt::SetBlock(_)
            | Stmt::Macro(_)
            | Stmt::CallBlock(_)
            | Stmt::FilterBlock(_)
            | Stmt::Block(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_) => guarded.captures = true,
            Stmt::ForLoop(it) => guarded.captures |= it.recursive,
            _ => {}
        }
        parts(stmt, &mut stmts, &mut exprs);
        while let Some(expr) = exprs.pop() {
            inner(expr, &mut exprs);
            match expr {
                Expr::BinOp(it) => operator(it, text, &mut guarded.edits),
                Expr::List(it) if expr.as_const().is_none() => {
                    literal(it.span().start_offset, it.span().end_offset, text, &mut guarded.edits);
                }
                Expr::Map(it) if expr.as_const().is_none() => {
                    literal(it.span().start_offset, it.span().end_offset, text, &mut guarded.edits);
                }
                _ => {}
            }
        }
    }
    guarded
}

/// `a ~ b` becomes `concat(a , b)`.
fn operator(it: &Spanned<BinOp<'_>>, text: &str, edits: &mut Vec<Edit>) {
    let (sign, function) = match it.op {
        BinOpKind::Concat => ('~', bounds::CONCAT),
        BinOpKind::Add => ('+', bounds::ADD),
        BinOpKind::Mul => ('*', bounds::MULTIPLY),
        _ => return,
    };
    let (start, end) = (it.span().start_offset as usize, it.span().end_offset as usize);
    let left_end = it.left.span().end_offset as usize;
    // Closing brackets around the left side do not belong to its span.
    let between = text.get(left_end..end).unwrap_or_default();
    let at =
        left_end + between.len() - between.trim_start_matches(|c: char| c.is_whitespace() || c == ')').len();
    if !text.get(at..).is_some_and(|rest| rest.starts_with(sign)) {
        return;
    }
    edits.push(Edit { at: start, removed: 0, added: format!("{function}("), rank: Rank::Open(end) });
    edits.push(Edit { at, removed: 1, added: ",".to_owned(), rank: Rank::Replace });
    edits.push(Edit { at: end, removed: 0, added: ")".to_owned(), rank: Rank::Close });
}

fn literal(start: u32, end: u32, text: &str, edits: &mut Vec<Edit>) {
    let (start, end) = (start as usize, end as usize);
    let literal = text.get(start..end).unwrap_or_default();
    if literal.starts_with(['[', '{']) && literal.ends_with([']', '}']) {
        let added = format!("{}(", bounds::HOLD);
        edits.push(Edit { at: start, removed: 0, added, rank: Rank::Open(end) });
        edits.push(Edit { at: end, removed: 0, added: ")".to_owned(), rank: Rank::Close });
    }
}

/// Statements and expressions directly in a statement, except names that it assigns.
pub(super) fn parts<'t, 'a>(
    stmt: &'t Stmt<'a>,
    stmts: &mut Vec<&'t Stmt<'a>>,
    exprs: &mut Vec<&'t Expr<'a>>,
) {
    match stmt {
        Stmt::Template(it) => stmts.extend(&it.children),
        Stmt::EmitExpr(it) => exprs.push(&it.expr),
        Stmt::ForLoop(it) => {
            exprs.push(&it.iter);
            exprs.extend(&it.filter_expr);
            stmts.extend(it.body.iter().chain(&it.else_body));
        }
        Stmt::IfCond(it) => {
            exprs.push(&it.expr);
            stmts.extend(it.true_body.iter().chain(&it.false_body));
        }
        Stmt::WithBlock(it) => {
            exprs.extend(it.assignments.iter().map(|(_, value)| value));
            stmts.extend(&it.body);
        }
        Stmt::Set(it) => exprs.push(&it.expr),
        Stmt::SetBlock(it) => {
            exprs.extend(&it.filter);
            stmts.extend(&it.body);
        }
        Stmt::AutoEscape(it) => {
            exprs.push(&it.enabled);
            stmts.extend(&it.body);
        }
        Stmt::FilterBlock(it) => {
            exprs.push(&it.filter);
            stmts.extend(&it.body);
        }
        Stmt::Block(it) => stmts.extend(&it.body),
        Stmt::Import(it) => exprs.push(&it.expr),
        Stmt::FromImport(it) => exprs.push(&it.expr),
        Stmt::Extends(it) => exprs.push(&it.name),
        Stmt::Include(it) => exprs.push(&it.name),
        Stmt::Macro(it) => {
            exprs.extend(&it.defaults);
            stmts.extend(&it.body);
        }
        Stmt::CallBlock(it) => {
            exprs.push(&it.call.expr);
            args(&it.call.args, exprs);
            exprs.extend(&it.macro_decl.defaults);
            stmts.extend(&it.macro_decl.body);
        }
        Stmt::Do(it) => {
            exprs.push(&it.call.expr);
            args(&it.call.args, exprs);
        }
        Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
    }
}

fn inner<'t, 'a>(expr: &'t Expr<'a>, exprs: &mut Vec<&'t Expr<'a>>) {
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(it) => {
            exprs.push(&it.expr);
            exprs.extend(it.start.iter().chain(&it.stop).chain(&it.step));
        }
        Expr::UnaryOp(it) => exprs.push(&it.expr),
        Expr::BinOp(it) => exprs.extend([&it.left, &it.right]),
        Expr::IfExpr(it) => {
            exprs.extend([&it.test_expr, &it.true_expr]);
            exprs.extend(&it.false_expr);
        }
        Expr::Filter(it) => {
            exprs.extend(&it.expr);
            args(&it.args, exprs);
        }
        Expr::Test(it) => {
            exprs.push(&it.expr);
            args(&it.args, exprs);
        }
        Expr::GetAttr(it) => exprs.push(&it.expr),
        Expr::GetItem(it) => exprs.extend([&it.expr, &it.subscript_expr]),
        Expr::Call(it) => {
            exprs.push(&it.expr);
            args(&it.args, exprs);
        }
        Expr::List(it) => exprs.extend(&it.items),
        Expr::Map(it) => exprs.extend(it.keys.iter().chain(&it.values)),
    }
}

fn args<'t, 'a>(args: &'t [CallArg<'a>], exprs: &mut Vec<&'t Expr<'a>>) {
    exprs.extend(args.iter().map(|arg| match arg {
        CallArg::Pos(it) | CallArg::Kwarg(_, it) | CallArg::PosSplat(it) | CallArg::KwargSplat(it) => it,
    }));
}
