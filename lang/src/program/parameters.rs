//! Parameters of a target: how they are written on the command line and in names, and as values of templates.

use std::collections::BTreeMap;
use std::fmt;

use minijinja::value::Value;

/// Parameters of a target, by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    /// A number.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A text.
    Str(String),
    /// A list.
    List(Vec<Parameter>),
    /// A table.
    Map(BTreeMap<String, Parameter>),
}

/// Why a text is no parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// There is no `=`.
    #[error("`{0}` lacks a value: write NAME=VALUE")]
    NoValue(String),
    /// A template could never read it.
    #[error("`{0}` cannot be the name of a variable: use letters, digits and `_`")]
    BadName(String),
    /// More digits than a number has.
    #[error("{0} is too large for a number")]
    TooLarge(String),
}

/// One `NAME=VALUE` of the command line: `true`, `false` and digits mean what they look like, all else is text.
pub fn parse_parameter(text: &str) -> Result<(String, Parameter), ParameterError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ParameterError::NoValue(text.to_owned()))?;
    if !is_variable(name) {
        return Err(ParameterError::BadName(name.to_owned()));
    }
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let value = match value {
        "true" => Parameter::Bool(true),
        "false" => Parameter::Bool(false),
        digits if is_number => match digits.parse() {
            Ok(number) => Parameter::Int(number),
            Err(_) => return Err(ParameterError::TooLarge(digits.to_owned())),
        },
        text => Parameter::Str(text.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// Whether templates can read a variable of this name.
pub fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `a=1&b=text`: the same text for the same parameters only, for names that people read.
pub fn describe(parameters: &Parameters) -> String {
    let shown: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    shown.join("&")
}

impl Parameter {
    /// The value that templates see.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Parameter::Int(number) => Value::from(*number),
            Parameter::Bool(truth) => Value::from(*truth),
            Parameter::Str(text) => Value::from(text.as_str()),
            Parameter::List(items) => items.iter().map(Parameter::to_value).collect(),
            Parameter::Map(entries) => {
                entries.iter().map(|(key, value)| (key.as_str(), value.to_value())).collect()
            }
        }
    }
}

/// As in `spec/derivation.md`: a text that could be taken for something else stands in quotes.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Int(number) => write!(f, "{number}"),
            Parameter::Bool(truth) => write!(f, "{truth}"),
            Parameter::Str(text) => write_text(text, f),
            Parameter::List(items) => {
                f.write_str("[")?;
                for (idx, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if idx == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Parameter::Map(entries) => {
                f.write_str("{")?;
                for (idx, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if idx == 0 { "" } else { "," })?;
                    write_text(key, f)?;
                    write!(f, "={value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c))
        && !matches!(text, "true" | "false");
    match plain {
        true => f.write_str(text),
        false => write!(f, "{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Parameter, describe, parse_parameter};

    #[test]
    fn arguments_are_what_they_look_like() {
        let parse = |text: &str| parse_parameter(text).map(|(name, value)| format!("{name} {value:?}"));
        for (text, expected) in [
            ("a=1", "a Int(1)"),
            ("a=007", "a Int(7)"),
            ("a=-1", "a Str(\"-1\")"),
            ("a=true", "a Bool(true)"),
            ("_a1=x=y", "_a1 Str(\"x=y\")"),
            ("a=", "a Str(\"\")"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("a", "`a` lacks a value: write NAME=VALUE"),
            ("a-b=1", "`a-b` cannot be the name of a variable: use letters, digits and `_`"),
            ("=1", "`` cannot be the name of a variable: use letters, digits and `_`"),
            ("a=99999999999999999999", "99999999999999999999 is too large for a number"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn different_parameters_are_described_differently() {
        let list = |items: &[Parameter]| Parameter::List(items.to_vec());
        let text = |it: &str| Parameter::Str(it.to_owned());
        let values = [
            (Parameter::Int(1), "1"),
            (text("1"), "\"1\""),
            (text("true"), "\"true\""),
            (Parameter::Bool(true), "true"),
            (text("a.b-c/d"), "a.b-c/d"),
            (text("a&b=1"), "\"a&b=1\""),
            (text(""), "\"\""),
            (list(&[text("a,b"), text("a")]), "[\"a,b\",a]"),
            (list(&[text("a"), text("b"), text("a")]), "[a,b,a]"),
            (Parameter::Map([("k".to_owned(), list(&[]))].into()), "{k=[]}"),
        ];
        for (value, expected) in values {
            assert_eq!(describe(&[("x".to_owned(), value)].into()), format!("x={expected}"));
        }
        let two = [("b".to_owned(), Parameter::Int(2)), ("a".to_owned(), Parameter::Int(1))];
        assert_eq!(describe(&two.into()), "a=1&b=2");
    }
}
