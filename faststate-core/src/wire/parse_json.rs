//! A strict parser for JSON from browsers.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, error::Category};

use super::InputError;
use crate::key::pollutes;

/// Maximum nesting depth of JSON; serde_json's own limit is 128.
const MAX_DEPTH: usize = 64;

/// Parses a JSON object. Refuses repeated names, names that would pollute a prototype, and more than 64 levels.
pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>, InputError> {
    let text = std::str::from_utf8(json).map_err(|_| InputError::new("the JSON is not valid UTF-8"))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let faulty = RefCell::default();
    let value = StrictJson { depth: 0, faulty: &faulty }.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(InputError::new("the JSON must be an object of fields")),
        Err(error) if error.classify() == Category::Syntax && has_lone_surrogate(text) => {
            let field = faulty.into_inner();
            let place = field.as_ref().map_or_else(|| "the input".to_owned(), |field| format!("`{field}`"));
            let message = format!("{place} contains half of a character: part of an emoji is missing");
            Err(InputError { message, field })
        }
        Err(error) => Err(InputError::new(format!("the JSON cannot be read: {error}"))),
    }
}

/// Returns whether a string contains half of a surrogate pair. JavaScript writes one for a text that was cut inside an
/// emoji.
fn has_lone_surrogate(json: &str) -> bool {
    let unit = |at: usize| {
        let digits = json.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = json.as_bytes().get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => return true,
            (Some(_), _) => 6,
            (None, _) => 2,
        };
    }
    false
}

/// Builds a `Value` from JSON at one nesting depth.
#[derive(Clone, Copy)]
struct StrictJson<'a> {
    depth: usize,
    /// The top-level field whose value cannot be parsed.
    faulty: &'a RefCell<Option<String>>,
}

impl StrictJson<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("it is nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for StrictJson<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictJson<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if pollutes(&name) {
                return Err(de::Error::custom(format_args!("`{name}` is a reserved name")));
            }
            let value = match access.next_value_seed(inner) {
                Ok(value) => value,
                Err(error) => {
                    if self.depth == 0 {
                        self.faulty.replace(Some(name));
                    }
                    return Err(error);
                }
            };
            if map.contains_key(&name) {
                return Err(de::Error::custom(format_args!("`{name}` is given twice")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> (String, Option<String>) {
        let error = object(json.as_bytes()).unwrap_err();
        (error.message, error.field)
    }

    #[test]
    fn lone_surrogate_is_refused_with_its_field() {
        for half in [r"\ud83d", r"a\ud83d", r"\ud83dz", r"\ud83d\n", r"\ude00", r"\ude00\ud83d", r"\\\ud83d"]
        {
            let (message, field) = fault(&format!(r#"{{"amount":1,"user":"{half}","x":"y"}}"#));
            assert_eq!(message, "`user` contains half of a character: part of an emoji is missing", "{half}");
            assert_eq!(field.as_deref(), Some("user"), "{half}");
            let (message, field) = fault(&format!(r#"{{"a":{{"b":["{half}"]}}}}"#));
            assert!(message.starts_with("`a` contains half") && field.as_deref() == Some("a"), "{half}");
        }
        let (message, field) = fault(r#"{"\ud83d":1}"#);
        assert!(message.starts_with("the input contains half") && field.is_none(), "{message}");
    }

    #[test]
    fn surrogate_pairs_are_accepted() {
        let json = r#"{"a":"\ud83d\ude00","b":"\\ud83d","c":"\u00e9\\"}"#;
        let map = object(json.as_bytes()).unwrap();
        assert_eq!(
            (&map["a"], &map["b"], &map["c"]),
            (&"\u{1f600}".into(), &r"\ud83d".into(), &"é\\".into())
        );
        assert!(fault(r#"{"a":"\ud83d\ude00"#).0.starts_with("the JSON cannot be read"));
    }
}
