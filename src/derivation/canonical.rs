//! Canonical JSON: sorted keys, no insignificant space, integers only, UTF-8 (RFC 8259 strings, shortest escapes).

use serde::Serialize;
use serde_json::Value;

/// The canonical text of a value.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    write(&serde_json::to_value(value)?, &mut out)?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (idx, item) in items.iter().enumerate() {
                if idx > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            // The map's own order depends on a feature of serde_json that any dependency can switch on.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (idx, (name, field)) in fields.into_iter().enumerate() {
                if idx > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name)?;
                out.push(b':');
                write(field, out)?;
            }
            out.push(b'}');
        }
        Value::Number(number) if number.is_f64() => {
            return Err(serde::ser::Error::custom("canonical JSON has no floating-point numbers"));
        }
        scalar => serde_json::to_writer(out, scalar)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::canonical_json;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_floats_refused() {
        let value = json!({"b": [1, {"z": null, "a": "\u{1}é\n"}], "a": true});
        assert_eq!(
            canonical_json(&value).unwrap(),
            "{\"a\":true,\"b\":[1,{\"a\":\"\\u0001é\\n\",\"z\":null}]}"
        );
        assert!(canonical_json(&json!({"x": 0.5})).is_err());
    }
}
