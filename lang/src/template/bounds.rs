//! Bounds on what the values of a template may grow to.
//!
//! Fuel counts instructions, and one instruction can double a text or repeat it a billion times. So operators that
//! join, literals with variables, and assignments reach the engine as calls of the functions here (see
//! [`super::guard`]), and filters that can multiply are wrapped. All of them return what the engine would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use minijinja::value::{DynObject, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, State, escape_formatter, filters};

use super::builtins;
use super::engine::Shared;

/// Stands for `a ~ b`.
pub(super) const CONCAT: &str = "__raptor_concat";
/// Stands for `a + b`.
pub(super) const ADD: &str = "__raptor_add";
/// Stands for `a * b`.
pub(super) const MULTIPLY: &str = "__raptor_multiply";
/// Returns its argument, if that is not too big.
pub(super) const HOLD: &str = "__raptor_hold";

/// Most bytes of text in one value.
const MAX_VALUE: usize = 16 << 20;
/// Most items in one value, those of inner values included.
const MAX_ITEMS: usize = 1 << 20;
/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 100;
/// Most bytes that all operators, filters and `{{ … }}` of one rendering may produce.
const MAX_PRODUCED: u64 = 256 << 20;
/// Most items that may be counted for these bounds in one rendering; a second of work.
const MAX_COUNTED: u64 = 50_000_000;
/// Bytes that an item of a list takes.
const ITEM: usize = size_of::<Value>();
/// Bytes that a list or map takes beside its items.
const OBJECT: usize = 256;

/// What a rendering used up so far.
#[derive(Debug, Default)]
pub(super) struct Used {
    produced: AtomicU64,
    counted: AtomicU64,
}

impl Used {
    /// Begins anew.
    pub(super) fn reset(&self) {
        self.produced.store(0, Ordering::Relaxed);
        self.counted.store(0, Ordering::Relaxed);
    }

    fn produce(&self, bytes: usize) -> Result<(), Error> {
        let before = self.produced.fetch_add(bytes as u64, Ordering::Relaxed);
        match before.saturating_add(bytes as u64) > MAX_PRODUCED {
            true => {
                Err(failure(format!("the template produces more than {} MiB in all", MAX_PRODUCED >> 20)))
            }
            false => Ok(()),
        }
    }

    /// Size of a value; an error if it is over a bound.
    fn weigh(&self, value: &Value) -> Result<Weight, Error> {
        let mut weight = Weight::default();
        let result = weight.add(value, 0);
        let before = self.counted.fetch_add(weight.items as u64, Ordering::Relaxed);
        match before + weight.items as u64 > MAX_COUNTED {
            true => Err(failure("the template copies too many values".to_owned())),
            false => result.map(|()| weight),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    /// Of its texts.
    bytes: usize,
    items: usize,
}

impl Weight {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.items += 1;
        if let Some(text) = value.as_bytes() {
            self.bytes = self.bytes.saturating_add(text.len());
        }
        self.check()?;
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth >= MAX_DEPTH {
            return Err(failure(format!("a value is nested more than {MAX_DEPTH} deep")));
        }
        match object.repr() {
            ObjectRepr::Map => {
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    self.add(&key, depth + 1)?;
                    self.add(&value, depth + 1)?;
                }
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                for item in object.try_iter().into_iter().flatten() {
                    self.add(&item, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.bytes > MAX_VALUE {
            return Err(failure(format!("a value is longer than {} MiB", MAX_VALUE >> 20)));
        }
        match self.items > MAX_ITEMS {
            true => Err(failure(format!("a value has more than {MAX_ITEMS} items"))),
            false => Ok(()),
        }
    }
}

/// Adds the functions, the wrapped filters, and the count of what is written.
pub(super) fn add(env: &mut Environment<'static>, shared: &Arc<Shared>) {
    let it = shared.clone();
    env.add_function(CONCAT, move |a: Value, b: Value| concat(&it.used, &a, &b));
    let it = shared.clone();
    env.add_function(ADD, move |a: Value, b: Value| plus(&it.used, a, b));
    let it = shared.clone();
    env.add_function(MULTIPLY, move |a: Value, b: Value| multiply(&it.used, a, b));
    let it = shared.clone();
    env.add_function(HOLD, move |value: Value| hold(&it.used, value));
    for (name, filter) in multiplying_filters() {
        let it = shared.clone();
        env.add_filter(name, move |state: &State, args: Rest<Value>| {
            call_filter(&it.used, name, &filter, state, &args)
        });
    }
    let it = shared.clone();
    env.set_formatter(move |out, state, value| {
        let weight = it.used.weigh(value)?;
        it.used.produce(weight.bytes + weight.items)?;
        escape_formatter(out, state, value)
    });
}

fn concat(used: &Used, a: &Value, b: &Value) -> Result<Value, Error> {
    together(used.weigh(a)?, used.weigh(b)?)?;
    let text = format!("{a}{b}");
    used.produce(text.len())?;
    Ok(Value::from(text))
}

fn plus(used: &Used, a: Value, b: Value) -> Result<Value, Error> {
    let weight = together(used.weigh(&a)?, used.weigh(&b)?)?;
    if a.kind() == ValueKind::String {
        used.produce(weight.bytes)?;
    }
    static PLUS: LazyLock<Option<Expression<'static, 'static>>> = LazyLock::new(|| expression("a + b"));
    flat(used, operate(&PLUS, a, b)?)
}

fn multiply(used: &Used, a: Value, b: Value) -> Result<Value, Error> {
    let is_repeatable = |it: &Value| it.as_str().is_some() || is_iterable(it);
    let repeated = [(&a, &b), (&b, &a)].into_iter().find(|(it, _)| is_repeatable(it));
    if let Some((it, n)) = repeated {
        let weight = used.weigh(it)?;
        let n = n.as_usize().unwrap_or(1);
        let weight = Weight { bytes: weight.bytes.saturating_mul(n), items: weight.items.saturating_mul(n) };
        if it.as_str().is_none() {
            weight.check()?;
        }
        Weight { items: 1, ..weight }.check()?;
        used.produce(weight.bytes)?;
    }
    static TIMES: LazyLock<Option<Expression<'static, 'static>>> = LazyLock::new(|| expression("a * b"));
    flat(used, operate(&TIMES, a, b)?)
}

fn hold(used: &Used, value: Value) -> Result<Value, Error> {
    let weight = used.weigh(&value)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Map => {
            used.produce(OBJECT + weight.items.min(value.len().unwrap_or(0)) * ITEM)?
        }
        _ => {}
    }
    flat(used, value)
}

fn together(a: Weight, b: Weight) -> Result<Weight, Error> {
    let weight = Weight { bytes: a.bytes + b.bytes, items: a.items + b.items };
    weight.check().map(|()| weight)
}

/// The engine computes slices, sums of lists and the like only when they are read. A chain of them would be as
/// deep as it is long, so what is kept is computed.
fn flat(used: &Used, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let known = value.len();
    let Some(object) = value.as_object() else { return Ok(value) };
    let items: Vec<Value> = items(object)?;
    used.produce(OBJECT + items.len() * ITEM)?;
    let items = Arc::new(items);
    Ok(match known {
        Some(_) => Value::make_object_iterable(Items(items), |it| Box::new(it.0.iter().cloned())),
        // Only the length of some lists is known to templates; that must not change.
        None => {
            Value::make_object_iterable(Items(items), |it| Box::new(it.0.iter().filter(|_| true).cloned()))
        }
    })
}

struct Items(Arc<Vec<Value>>);

fn items(object: &DynObject) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in object.try_iter().into_iter().flatten() {
        if items.len() >= MAX_ITEMS {
            return Err(failure(format!("a value has more than {MAX_ITEMS} items")));
        }
        items.push(item);
    }
    Ok(items)
}

fn is_iterable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// An operator as the engine knows it, for two variables.
fn expression(source: &'static str) -> Option<Expression<'static, 'static>> {
    static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(Environment::empty);
    ENGINE.compile_expression(source).ok()
}

fn operate(expression: &Option<Expression<'_, '_>>, a: Value, b: Value) -> Result<Value, Error> {
    let Some(expression) = expression else { return Err(failure("no such operator".to_owned())) };
    let operands: Value = [("a", a), ("b", b)].into_iter().collect();
    // The place in our expression says nothing; the engine adds the one of the call.
    expression.eval(operands).map_err(|error| match error.detail() {
        Some(detail) => Error::new(error.kind(), detail.to_owned()),
        None => Error::from(error.kind()),
    })
}

fn multiplying_filters() -> Vec<(&'static str, Value)> {
    vec![
        ("batch", Value::from_function(filters::batch)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("chain", Value::from_function(filters::chain)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("escape_sh", Value::from_function(builtins::escape_sh)),
        ("groupby", Value::from_function(filters::groupby)),
        ("indent", Value::from_function(filters::indent)),
        ("items", Value::from_function(filters::items)),
        ("join", Value::from_function(filters::join)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("pprint", Value::from_function(filters::pprint)),
        ("replace", Value::from_function(filters::replace)),
        ("reverse", Value::from_function(filters::reverse)),
        ("sh", Value::from_function(builtins::escape_sh)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("title", Value::from_function(filters::title)),
        ("tojson", Value::from_function(filters::tojson)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
        ("urlencode", Value::from_function(filters::urlencode)),
        ("zip", Value::from_function(filters::zip)),
    ]
}

fn call_filter(
    used: &Used,
    name: &str,
    filter: &Value,
    state: &State,
    args: &[Value],
) -> Result<Value, Error> {
    let mut input = Weight::default();
    for arg in args {
        input = together(input, used.weigh(arg)?)?;
    }
    let output = Weight { bytes: output_len(name, args, input), items: output_items(name, args) };
    output.check()?;
    used.produce(OBJECT + output.bytes + output.items * ITEM)?;
    let mut value = filter.call(state, args)?;
    if name == "chain" {
        value = match value.kind() {
            ValueKind::Seq => value.try_iter()?.collect(),
            ValueKind::Map => {
                let object = value.as_object();
                object.and_then(|it| it.try_iter_pairs()).into_iter().flatten().collect()
            }
            _ => value,
        };
    }
    let value = flat(used, value)?;
    let weight = used.weigh(&value)?;
    used.produce(weight.bytes + weight.items * ITEM)?;
    Ok(value)
}

/// Most bytes that a filter writes, where that can be far more than it reads.
fn output_len(name: &str, args: &[Value], input: Weight) -> usize {
    let text = |idx: usize| args.get(idx).and_then(Value::as_str).unwrap_or_default();
    let number = |idx: usize| args.get(idx).and_then(Value::as_usize).unwrap_or_default();
    let named = |name: &str| {
        let value = args.last().and_then(|it| it.get_attr(name).ok());
        value.and_then(|it| it.as_usize()).unwrap_or_default()
    };
    match name {
        "replace" => text(0).matches(text(1)).count().saturating_mul(text(2).len()),
        "join" => input.items.saturating_mul(text(1).len()),
        "indent" => {
            let n_lines = text(0).matches('\n').count() + 1;
            n_lines.saturating_mul(number(1).max(named("width")))
        }
        // The engine makes one indentation first, and repeats it for each level on each line.
        "tojson" => {
            let indent = number(1).max(named("indent"));
            indent.saturating_mul(input.items.saturating_mul(input.items.min(MAX_DEPTH)))
        }
        "pprint" => input.items.saturating_mul(4 * input.items.min(MAX_DEPTH)),
        _ => 0,
    }
}

/// Items that a filter makes room for because a number says so.
fn output_items(name: &str, args: &[Value]) -> usize {
    let named = |name: &str| args.last().and_then(|it| it.get_attr(name).ok()).and_then(|it| it.as_usize());
    match name {
        "batch" | "slice" => {
            args.get(1).and_then(Value::as_usize).or_else(|| named("count")).unwrap_or_default()
        }
        _ => 0,
    }
}

fn failure(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
