//! Errors of the encoders.

use std::fmt;

use serde::ser;

/// An error that prevents a state or its signals from being encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is neither a struct nor a map.
    #[error(
        "signals must be a struct or a map with string keys, not {0}: put the value into a field of a struct"
    )]
    Shape(&'static str),
    /// The name cannot be the name of a signal.
    #[error(
        "`{0}` cannot name a signal: use `[a-z][a-z0-9_]*` without `__`, and not `constructor` or `prototype`"
    )]
    Name(String),
    /// The key, inside a field, would pollute a prototype in the browser.
    #[error(
        "`{0}` cannot be a key: every JavaScript object inherits a property of this name, and dots separate names"
    )]
    Reserved(String),
    /// A map contains the name twice.
    #[error("`{0}` occurs twice: a flattened map must not repeat the struct's own fields")]
    Repeated(String),
    /// A key of a map inside a field is neither a string nor another simple value.
    #[error("the keys of a map must be strings, integers, characters or booleans, not {0}")]
    Key(&'static str),
    /// JSON cannot represent the number.
    #[error("a float is not finite: store an `Option` or check the value in `apply`")]
    NotFinite,
    /// A `Serialize` implementation of the application returned an error.
    #[error("{0}")]
    Custom(String),
    /// A field's value cannot be encoded.
    #[error("in `{field}`: {source}")]
    Field {
        /// The top-level field.
        field: String,
        /// The error in its value.
        source: Box<Self>,
    },
}

/// The [`EncodeError`] of the serializers.
///
/// One word in size, so that the `Result` of every serializer call is returned in a register.
#[derive(Debug)]
pub(super) struct BoxedEncodeError(Box<EncodeError>);

impl BoxedEncodeError {
    pub(super) fn within(self, field: &str) -> Self {
        EncodeError::Field { field: field.to_owned(), source: self.0 }.into()
    }

    pub(super) fn into_inner(self) -> EncodeError {
        *self.0
    }
}

impl From<EncodeError> for BoxedEncodeError {
    #[cold]
    fn from(error: EncodeError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for BoxedEncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BoxedEncodeError {}

impl ser::Error for BoxedEncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        EncodeError::Custom(message.to_string()).into()
    }
}
