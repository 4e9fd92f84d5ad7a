//! Arguments of INCLUDE and RENDER: from expressions to values of the template language.

use std::collections::BTreeSet;

use minijinja::value::Value;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::stmt::{Arg, Expr, Literal, Spanned};
use crate::suggest;
use crate::template::Context;

/// Evaluates arguments in the scope of the file that they stand in; of duplicate names the last wins. Also returns
/// the names of those without a value. For what is already `missing` in that file no problem is told again.
pub fn evaluate(
    args: &[Arg],
    scope: &Context,
    missing: &BTreeSet<String>,
    problems: &mut Vec<Diagnostic>,
) -> (Context, BTreeSet<String>) {
    let mut context = Context::new();
    let mut without = BTreeSet::new();
    for arg in args {
        let name = arg.name.value.clone();
        let value = match &arg.value.value {
            Expr::Literal(literal) => Some(literal_value(literal)),
            Expr::Lookup(path) => {
                let is_told = path
                    .first()
                    .is_some_and(|it| missing.contains(&it.value) && !scope.contains_key(&it.value));
                if is_told { None } else { lookup(path, scope, problems) }
            }
        };
        match value {
            Some(value) => {
                without.remove(&name);
                context.insert(name, value);
            }
            None => drop(without.insert(name)),
        }
    }
    (context, without)
}

fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Int(number) => Value::from(*number),
        Literal::Bool(truth) => Value::from(*truth),
        Literal::Str(text) => Value::from(text.as_str()),
        Literal::List(items) => items.iter().map(literal_value).collect(),
        Literal::Map(entries) => {
            entries.iter().map(|(key, value)| (literal_value(key), literal_value(value))).collect()
        }
    }
}

fn lookup(path: &[Spanned<String>], scope: &Context, problems: &mut Vec<Diagnostic>) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    let Some(mut value) = scope.get(&first.value).cloned() else {
        problems.push(undefined(&first.value, first.span, scope.keys().map(String::as_str)));
        return None;
    };
    for segment in rest {
        value = match value.get_attr(&segment.value) {
            Ok(inner) if !inner.is_undefined() => inner,
            _ => {
                let keys: Vec<String> =
                    value.try_iter().into_iter().flatten().map(|key| key.to_string()).collect();
                problems.push(undefined(&segment.value, segment.span, keys.iter().map(String::as_str)));
                return None;
            }
        };
    }
    Some(value)
}

fn undefined<'a>(name: &str, span: Span, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let message = format!("undefined variable: {name}");
    let problem = Diagnostic::new(Code::UndefinedVariable, message, span, "nothing of this name is set here");
    match suggest::nearest(name, known) {
        Some(near) => problem.did_you_mean(near),
        None => {
            problem.with_hint("a text must be quoted; a variable is set with `$ set NAME=…` in the same file")
        }
    }
}
