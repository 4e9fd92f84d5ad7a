//! The schemas of `spec/schema`, and whether JSON is as they say.

use serde_json::Value;

/// A schema, by its file name.
pub fn read(file: &str) -> Value {
    let path = format!("{}/spec/schema/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Fails unless a value is as a definition of a schema says.
pub fn check(schema: &Value, definition: &str, value: &Value) {
    let rule = schema["$defs"].get(definition).unwrap_or_else(|| panic!("no definition {definition}"));
    validate(schema, rule, value).unwrap_or_else(|error| panic!("{definition}: {error}\n{value}"));
}

/// The keywords of JSON Schema that our schemas use; any other fails. A validator crate would double the time that the
/// tests take to compile.
pub fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        name => panic!("type {name}"),
    };
    for (keyword, rule) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = rule.as_str().unwrap().trim_start_matches('#');
                validate(root, root.pointer(target).unwrap(), value)?;
                true
            }
            "oneOf" => {
                let results = rule.as_array().unwrap().iter().map(|it| validate(root, it, value));
                results.filter(Result::is_ok).count() == 1
            }
            "type" => rule.as_array().map_or_else(|| is_type(rule), |types| types.iter().any(is_type)),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "minLength" => value.as_str().is_none_or(|it| it.len() as u64 >= rule.as_u64().unwrap()),
            "minimum" => value.as_u64().is_none_or(|it| it >= rule.as_u64().unwrap()),
            "minItems" => value.as_array().is_none_or(|it| it.len() as u64 >= rule.as_u64().unwrap()),
            "required" => rule.as_array().unwrap().iter().all(|it| value.get(it.as_str().unwrap()).is_some()),
            "additionalProperties" if rule.is_object() => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    if schema["properties"].get(name).is_none() {
                        validate(root, rule, field).map_err(|error| format!("{name}: {error}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|it| it.keys().all(|key| known.contains_key(key)))
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(field) = value.get(name) {
                        validate(root, rule, field).map_err(|error| format!("{name}: {error}"))?;
                    }
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(root, rule, item)?;
                }
                true
            }
            keyword => panic!("keyword {keyword}"),
        };
        if !holds {
            return Err(format!("{keyword} {rule} does not hold for {value}"));
        }
    }
    Ok(())
}

/// The patterns that our schemas use; any other fails.
fn matches(pattern: &str, text: &str) -> bool {
    let all = |text: &str, is: fn(u8) -> bool, n: usize| text.len() == n && text.bytes().all(is);
    match pattern {
        "^[EW][0-9]{4}$" => {
            text.strip_prefix(['E', 'W']).is_some_and(|it| all(it, |b| b.is_ascii_digit(), 4))
        }
        "^[0-9a-f]{64}$" => all(text, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f'), 64),
        "^[0-9a-f]{40}$" => all(text, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f'), 40),
        "^sha256:[0-9a-f]{64}$" => {
            text.strip_prefix("sha256:").is_some_and(|it| matches("^[0-9a-f]{64}$", it))
        }
        pattern => panic!("pattern {pattern}"),
    }
}
