//! Rejections, which are events that a rule of the domain refused.

use std::{borrow::Cow, fmt};

/// The kind of a rejection, which the HTTP layer maps to a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The input breaks a rule.
    Invalid,
    /// The viewer may not do this.
    Forbidden,
    /// The subject of the event does not exist.
    NotFound,
    /// The present state does not permit the event.
    Conflict,
}

/// The refusal of an event by a rule of the domain. Nothing has changed, and the sender sees the message.
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
    /// Creates the rejection of input that breaks a rule (422).
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Invalid, message)
    }

    /// Creates the rejection of an event that the viewer may not send (403).
    #[must_use]
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Forbidden, message)
    }

    /// Creates the rejection of an event whose subject does not exist (404).
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::NotFound, message)
    }

    /// Creates the rejection of an event that the present state does not permit (409).
    #[must_use]
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionKind::Conflict, message)
    }

    fn new(kind: RejectionKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), fields: Vec::new() }
    }

    /// Shows the message beside the event's field `name`, as the signal `$_errors.state.name`, or
    /// `$_errors.state.id.name` for a record or component.
    #[must_use]
    pub fn field(self, name: impl Into<Cow<'static, str>>) -> Self {
        let message = self.message.clone();
        self.and(name, message)
    }

    /// Adds a message for another field.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name.into(), message.into()));
        self
    }

    /// Returns the kind of the rejection.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// Returns the message for the user.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the names of the fields that have a message, each with its message.
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
