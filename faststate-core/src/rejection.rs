//! An event refused by a rule of the domain.

use std::{borrow::Cow, fmt};

/// Why an event was refused; the HTTP layer makes a status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The input breaks a rule.
    Invalid,
    /// This viewer may not do this.
    Forbidden,
    /// What the event is about does not exist.
    NotFound,
    /// The state does not allow it now.
    Conflict,
}

/// An event refused by a domain rule: nothing has changed, and the message is shown to the sender.
///
/// ```
/// # use faststate_core::Rejection;
/// let rejection = Rejection::invalid("give it a name").field("name").and("age", "must be at least 18");
/// assert_eq!(rejection.fields().count(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    kind: RejectionKind,
    message: Cow<'static, str>,
    fields: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Rejection {
    /// The input breaks a rule (422).
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Invalid, message)
    }

    /// This viewer may not do this (403).
    #[must_use]
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Forbidden, message)
    }

    /// What the event is about does not exist (404).
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::NotFound, message)
    }

    /// The state does not allow it now (409).
    #[must_use]
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Conflict, message)
    }

    fn new(kind: RejectionKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), fields: Vec::new() }
    }

    /// Shows the message beside the event's field `name`: it becomes the signal `$_errors.state.name`, or
    /// `$_errors.state.id.name` for a record or component.
    #[must_use]
    pub fn field(self, name: impl Into<Cow<'static, str>>) -> Self {
        let message = self.message.clone();
        self.and(name, message)
    }

    /// Adds a message beside one more field.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name.into(), message.into()));
        self
    }

    /// What kind of refusal this is.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The message for the person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields that have a message of their own.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, message)| (&**name, &**message))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Rejection {}
