//! The signals of a state in their wire form.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use super::{
    EncodeError,
    encode::{EncodeBuffer, FieldSpan, FieldSpans, INITIAL_CAPACITY, ValueSerializer, WireForm},
    error::BoxedEncodeError,
};

/// The signals of a state, encoded once for the wire: one JSON object, and the position of each field in it.
///
/// Absent values (`None`, `()`, a skipped field) are encoded as `""`, because Datastar deletes a signal that
/// is `null`. Integers beyond 2^53 are encoded as strings. The JSON is strict and compact.
#[derive(Clone)]
pub struct EncodedFields {
    json: Bytes,
    fields: Arc<[FieldSpan]>,
    open: bool,
}

/// An encoded field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncodedField<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl EncodedField<'_> {
    /// Returns whether the value is a JSON object. A browser merges objects and replaces all other values.
    pub(crate) fn is_object(&self) -> bool {
        self.value.first() == Some(&b'{')
    }
}

impl EncodedFields {
    /// Encodes a struct or map.
    ///
    /// # Errors
    /// A top-level value that is neither a struct nor a map, an illegal, reserved or repeated name, a map with
    /// keys that are not strings, a float that is not finite, and errors of the application's `Serialize`.
    pub fn of(signals: &impl Serialize) -> Result<Self, EncodeError> {
        Self::with_capacity(signals, INITIAL_CAPACITY)
    }

    /// Like [`of`](Self::of), with an initial buffer capacity in bytes.
    pub(crate) fn with_capacity(signals: &impl Serialize, capacity: usize) -> Result<Self, EncodeError> {
        let mut out = EncodeBuffer::<WireForm>::with_capacity(capacity);
        signals.serialize(ValueSerializer::new(&mut out)).map_err(BoxedEncodeError::into_inner)?;
        match out.fields {
            Some(fields) => Ok(Self::new(out.json.into(), fields)),
            None => Err(EncodeError::Shape(shape_of(&out.json))),
        }
    }

    pub(super) fn new(json: Bytes, fields: FieldSpans) -> Self {
        Self { json, fields: fields.spans.into(), open: fields.open }
    }

    /// Returns the signals with one more field. Its name must not need escaping, and no other field may have it.
    pub(crate) fn with_number(&self, name: &str, number: u32) -> Self {
        let mut json = Vec::with_capacity(self.json.len() + name.len() + 16);
        json.extend_from_slice(&self.json[..self.json.len() - 1]);
        if json.len() > 1 {
            json.push(b',');
        }
        json.push(b'"');
        let start = json.len();
        json.extend_from_slice(name.as_bytes());
        let name = start..json.len();
        json.extend_from_slice(b"\":");
        json.extend_from_slice(number.to_string().as_bytes());
        let field = FieldSpan { name, end: json.len() };
        json.push(b'}');
        let fields = self.fields.iter().cloned().chain([field]).collect();
        Self { json: json.into(), fields, open: self.open }
    }

    /// Returns the whole JSON object.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns the JSON object without its braces.
    pub(crate) fn inner(&self) -> &[u8] {
        &self.json[1..self.json.len() - 1]
    }

    /// Returns whether other values of the same type can have other fields: a map, or a struct that flattens one.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn field(&self, at: usize) -> Option<EncodedField<'_>> {
        let span = self.fields.get(at)?;
        // `"name":value`
        let (name, value) = (&self.json[span.name.clone()], &self.json[span.name.end + 2..span.end]);
        Some(EncodedField { name, value })
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = EncodedField<'_>> {
        (0..self.len()).filter_map(|at| self.field(at))
    }
}

impl fmt::Debug for EncodedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedFields({} fields, {} bytes)", self.len(), self.json.len())
    }
}

/// Describes a value that has no fields by its wire form.
#[cold]
fn shape_of(json: &[u8]) -> &'static str {
    match json {
        b"\"\"" => "an absent or empty value (a unit struct needs braces: `struct Name {}`)",
        [b'"', ..] => "a string, an enum or an integer beyond 2^53",
        [b'[', ..] => "a list or a tuple",
        [b'{', ..] => "an enum",
        [b't' | b'f', ..] => "a boolean",
        _ => "a number",
    }
}
