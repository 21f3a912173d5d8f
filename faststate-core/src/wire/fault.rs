//! Errors of decoding an event.

use std::fmt;

use serde::de;

use super::InputError;

/// An error in a value, with the path of that value.
#[derive(Debug)]
pub(super) struct Fault {
    /// The segments of the path, innermost first.
    path: Vec<String>,
    text: FaultText,
}

/// The text of a fault, without the path.
#[derive(Debug)]
enum FaultText {
    /// A predicate of the value at the path, such as `must be a number`.
    Predicate(String),
    /// A message of a `Deserialize` implementation.
    Sentence(String),
}

impl Fault {
    pub(super) fn must_be(what: impl fmt::Display) -> Self {
        Self { path: Vec::new(), text: FaultText::Predicate(format!("must be {what}")) }
    }

    /// Adds an outer segment to the path.
    pub(super) fn within(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }

    /// Converts the fault to the error for the caller. Its field is the outermost segment of the path, if that is
    /// one of `fields`.
    pub(super) fn into_error(self, fields: &[&str]) -> InputError {
        let field = self.path.last().filter(|name| fields.contains(&name.as_str())).cloned();
        InputError { message: self.to_string(), field }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
        match &self.text {
            FaultText::Sentence(sentence) if path.is_empty() => f.write_str(sentence),
            FaultText::Sentence(sentence) => write!(f, "`{path}`: {sentence}"),
            FaultText::Predicate(predicate) if path.is_empty() => write!(f, "the input {predicate}"),
            FaultText::Predicate(predicate) => write!(f, "`{path}` {predicate}"),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), text: FaultText::Sentence(message.to_string()) }
    }

    fn missing_field(field: &'static str) -> Self {
        let text = FaultText::Predicate("is missing".to_owned());
        Self { path: vec![field.to_owned()], text }
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let choices: Vec<_> = expected.iter().map(|choice| format!("`{choice}`")).collect();
        Self::must_be(format_args!("one of {}", choices.join(", ")))
    }
}
