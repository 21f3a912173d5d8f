//! An event's input, converted by type.
use crate::Key;
use serde::de::DeserializeOwned;

/// The raw input of an event.
#[derive(Clone, Debug, Default)]
pub struct Input {}

/// An event made from input.
#[derive(Debug)]
pub struct Decoded<E> {
    /// The event.
    pub event: E,
    /// The names of the event's fields.
    pub fields: &'static [&'static str],
}

impl Input {
    /// Reads a query string and a body of this content type.
    ///
    /// # Errors
    /// Malformed or too deep JSON, invalid UTF-8, a name given twice, a reserved name, an unknown content type.
    pub fn parse(
        _query: Option<&str>,
        _content_type: Option<&str>,
        _body: &[u8],
    ) -> Result<Self, InputError> {
        todo!()
    }

    /// The event whose fields these are.
    ///
    /// # Errors
    /// A missing field, or a value that is not of the field's type.
    pub fn decode<E: DeserializeOwned>(&self, _key: &Key) -> Result<Decoded<E>, InputError> {
        todo!()
    }
}

/// Why input is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    /// What is wrong, and what would be right.
    pub message: String,
    /// The field it is about, if it is about one.
    pub field: Option<String>,
}
