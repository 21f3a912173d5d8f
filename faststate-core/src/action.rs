//! The string for `data-on:*`.
use http::Method;
use serde_json::Value;
use std::fmt;

/// A Datastar action that sends an event.
#[derive(Clone, Debug)]
pub struct Action {}

impl Action {
    /// The action of an event of a state, with its input or why it cannot be written.
    pub(crate) fn new(
        _method: &Method,
        _state: &str,
        _event: &str,
        _path: Option<&str>,
        _input: Result<Value, serde_json::Error>,
    ) -> Self {
        todo!()
    }
    /// For the record or component with this id.
    #[must_use]
    pub fn on(self, _id: &str) -> Self {
        todo!()
    }
    /// Takes the field from a signal at the moment of the action, instead of from the event.
    #[must_use]
    pub fn bind(self, _field: &str, _signal: &str) -> Self {
        todo!()
    }
    /// For a page that does not follow the state: the reply carries the state's signals.
    #[must_use]
    pub fn replying(self) -> Self {
        todo!()
    }
    /// The action that follows these topics, for `data-init`.
    #[must_use]
    pub fn follow(_url: &str) -> String {
        todo!()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
