//! Arguments of INCLUDE and RENDER: from expressions to values of the template language.

use minijinja::value::Value;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::stmt::{Arg, Expr, Literal, Spanned};
use crate::suggest;
use crate::template::Context;

/// Evaluates arguments in the scope of the file that they stand in; of duplicate names the last wins.
pub fn evaluate(args: &[Arg], scope: &Context, problems: &mut Vec<Diagnostic>) -> Context {
    let mut context = Context::new();
    for arg in args {
        let value = match &arg.value.value {
            Expr::Literal(literal) => Some(literal_value(literal)),
            Expr::Lookup(path) => lookup(path, scope, problems),
        };
        if let Some(value) = value {
            context.insert(arg.name.value.clone(), value);
        }
    }
    context
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
        Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
        None => {
            problem.with_hint("a text must be quoted; a variable is set with `$ set NAME=…` in the same file")
        }
    }
}
