//! An event's input, converted by type.

use std::fmt;

use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{decode_event, parse_json};
use crate::{Key, key::pollutes};

/// The query parameter in which Datastar sends signals with GET and DELETE.
const SIGNALS: &str = "datastar";

/// The raw input of an event: the pairs of the query, and the fields of the body.
///
/// Its `Debug` shows names only: values may be secrets.
#[derive(Clone, Default)]
pub struct Input {
    query: Map<String, Value>,
    /// A JSON body, a form's pairs, or the `datastar` parameter.
    body: Map<String, Value>,
}

/// An event made from input.
#[derive(Debug)]
#[non_exhaustive]
pub struct Decoded<E> {
    /// The event.
    pub event: E,
    /// The names of the event's fields.
    pub fields: &'static [&'static str],
}

/// Why input is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InputError {
    /// What is wrong, and what would be right.
    pub message: String,
    /// The field it is about, if it is about one.
    pub field: Option<String>,
}

impl InputError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None }
    }
}

impl Input {
    /// Reads a query string and a body of this content type: `application/json`, or
    /// `application/x-www-form-urlencoded`. Without a body there need not be a type.
    ///
    /// # Limits
    /// JSON is nested at most 64 deep.
    ///
    /// # Errors
    /// Malformed or too deep JSON, JSON that is not an object, invalid UTF-8, a name given twice (in the
    /// query and the body together, too), a reserved name, an unknown content type.
    pub fn parse(query: Option<&str>, content_type: Option<&str>, body: &[u8]) -> Result<Self, InputError> {
        let mut input = Self { query: pairs(query.unwrap_or_default().as_bytes())?, body: Map::new() };
        if let Some(Value::String(signals)) = input.query.remove(SIGNALS).filter(|signals| signals != "") {
            input.body = parse_json::object(signals.as_bytes())?;
        }
        if !body.is_empty() {
            let fields = parse_body(content_type, body)?;
            if input.body.is_empty() {
                input.body = fields;
            } else {
                fields.into_iter().try_for_each(|(name, value)| insert(&mut input.body, name, value))?;
            }
        }
        match input.query.keys().find(|name| input.body.contains_key(*name)) {
            Some(name) => Err(twice(name)),
            None => Ok(input),
        }
    }

    /// The event whose fields these are: looked up in the query, then in the body, then among the
    /// signals of `key` in the body. Names that the event has not are ignored.
    ///
    /// Values are converted to the type that a field asks for: texts to numbers and booleans (`"on"`,
    /// `"true"`, `"1"`; `"off"`, `"false"`, `"0"`, `""`), numbers and booleans to texts, whole floats to
    /// integers; for an `Option`, `""` and `null` are `None`; for a number, `""` is an absent field. For any
    /// other type, `null` is one. A list is a list: one value is not a list of one.
    ///
    /// # Errors
    /// A missing field, or a value that is not of the field's type.
    pub fn decode<E: DeserializeOwned>(&self, key: &Key) -> Result<Decoded<E>, InputError> {
        let nested = self.body.contains_key(key.state());
        let signals = nested.then(|| at(&self.body, &key.signal_path())).flatten().and_then(Value::as_object);
        match signals {
            Some(signals) => decode_event::decode(&[&self.query, &self.body, signals]),
            None => decode_event::decode(&[&self.query, &self.body]),
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.query.keys()).entries(self.body.keys()).finish()
    }
}

fn parse_body(content_type: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, InputError> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        parse_json::object(body)
    } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        pairs(body)
    } else {
        Err(InputError::new(
            "the body's content type must be application/json or application/x-www-form-urlencoded",
        ))
    }
}

/// The pairs of a query string or a form.
fn pairs(text: &[u8]) -> Result<Map<String, Value>, InputError> {
    let mut map = Map::new();
    for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        let name = unescape(name)?;
        if pollutes(&name) {
            return Err(InputError::new(format!("`{name}` is a reserved name")));
        }
        let value = unescape(value)?;
        insert(&mut map, name, Value::String(value))?;
    }
    Ok(map)
}

fn insert(map: &mut Map<String, Value>, name: String, value: Value) -> Result<(), InputError> {
    if map.contains_key(&name) {
        return Err(twice(&name));
    }
    map.insert(name, value);
    Ok(())
}

fn twice(name: &str) -> InputError {
    InputError { message: format!("`{name}` is given twice: give it once"), field: Some(name.to_owned()) }
}

fn unescape(text: &[u8]) -> Result<String, InputError> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| InputError::new("the input is not valid UTF-8"))
}

fn at<'a>(root: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(root.get(first)?, |value, segment| value.get(segment))
}

#[cfg(test)]
mod tests;
