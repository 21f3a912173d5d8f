//! The input of an event.

use std::fmt;

use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Decoded, InputError, decode_event, parse_json};
use crate::{Key, key::pollutes};

/// The query parameter in which Datastar sends signals with GET and DELETE requests.
const SIGNALS: &str = "datastar";

/// The raw input of an event: the pairs of the query and the fields of the body.
///
/// The `Debug` output contains names only, because values can be secrets.
#[derive(Clone, Default)]
pub struct Input {
    query: Map<String, Value>,
    /// The fields of a JSON body, of a form, or of the `datastar` parameter.
    body: Map<String, Value>,
}

impl Input {
    /// Parses a query string and a body with this content type: `application/json` or
    /// `application/x-www-form-urlencoded`. An empty body needs no content type.
    ///
    /// # Limits
    /// JSON is nested at most 64 levels deep.
    ///
    /// # Errors
    /// JSON that is malformed, nested too deeply or not an object; invalid UTF-8; a name that occurs twice, even
    /// once in the query and once in the body; a reserved name; an unknown content type.
    #[doc(hidden)]
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

    /// Decodes an event. Each field comes from the query, or else from the body, or else from the signals of `key`
    /// in the body. Names that are not fields of the event are ignored.
    ///
    /// Values are converted to the type of the field:
    /// - strings to numbers and booleans (`"on"`, `"true"`, `"1"`; `"off"`, `"false"`, `"0"`, `""`),
    /// - numbers and booleans to strings,
    /// - floats without a fraction to integers.
    ///
    /// For an `Option`, `""` and `null` are `None`. For a number, `""` and `null` are an absent field; for any other
    /// type, only `null` is. A single value is not converted to a list.
    ///
    /// # Errors
    /// A missing field, or a value that cannot be converted to the field's type.
    pub(crate) fn decode<E: DeserializeOwned>(&self, key: &Key) -> Result<Decoded<E>, InputError> {
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

/// Parses the pairs of a query string or a form.
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
