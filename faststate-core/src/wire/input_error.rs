//! The error of parsing and decoding input.

/// Input that cannot be parsed, or that is not a valid event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InputError {
    /// The problem, and what would be valid input.
    #[doc(hidden)]
    pub message: String,
    /// The field that is invalid, if the problem concerns one field.
    #[doc(hidden)]
    pub field: Option<String>,
}

impl InputError {
    /// Returns the error of an event in a message that does not decode.
    pub(crate) fn undecodable(error: &serde_json::Error) -> Self {
        Self::new(error.to_string())
    }

    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None }
    }
}
