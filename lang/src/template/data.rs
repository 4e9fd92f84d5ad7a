//! Data files that templates read: YAML, JSON and TOML as values of the template language.

use minijinja::value::Value;
use toml_edit::{Document, Item, Value as Toml};

/// One YAML document; `null` becomes `none`.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    let value: serde_norway::Value = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    Ok(Value::from_serialize(&value))
}

/// One JSON value.
pub(super) fn json(text: &str) -> Result<Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(Value::from_serialize(&value))
}

/// A TOML document; dates become strings.
pub(super) fn toml(text: &str) -> Result<Value, String> {
    let document = Document::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |it| it.start);
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    Ok(item(document.as_item()))
}

fn item(item: &Item) -> Value {
    match item {
        Item::None => Value::from(()),
        Item::Value(value) => toml_value(value),
        Item::Table(table) => table.iter().map(|(key, it)| (key, self::item(it))).collect(),
        Item::ArrayOfTables(tables) => {
            let table =
                |it: &toml_edit::Table| -> Value { it.iter().map(|(k, v)| (k, self::item(v))).collect() };
            Value::from(tables.iter().map(table).collect::<Vec<_>>())
        }
    }
}

fn toml_value(value: &Toml) -> Value {
    match value {
        Toml::String(it) => Value::from(it.value().as_str()),
        Toml::Integer(it) => Value::from(*it.value()),
        Toml::Float(it) => Value::from(*it.value()),
        Toml::Boolean(it) => Value::from(*it.value()),
        Toml::Datetime(it) => Value::from(it.value().to_string()),
        Toml::Array(it) => Value::from(it.iter().map(toml_value).collect::<Vec<_>>()),
        Toml::InlineTable(it) => it.iter().map(|(key, value)| (key, toml_value(value))).collect(),
    }
}
