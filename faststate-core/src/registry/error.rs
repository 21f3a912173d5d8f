//! What can go wrong.

use crate::{BoxError, Rejection, store::StoreError, wire::InputError};

/// Why the engine did not do what it was asked; nothing has changed unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule of the domain refused it.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// The input does not fit the event's fields.
    #[error(transparent)]
    Input(#[from] InputError),
    /// There is no such state, event, view or instance, or the viewer may not see it: one answer for
    /// both (law 8).
    #[error("not found, or not yours to see")]
    Unknown,
    /// It belongs to a user, and nobody is signed in.
    #[error("sign in first")]
    SignIn,
    /// The request addresses a host that this server does not answer for.
    #[error(
        "this server does not answer for the host `{0}`: name it in `hosts`, or set `trusted_proxy_header` if a proxy passes it on"
    )]
    Host(String),
    /// A cap is reached: see the text; try again later.
    #[error("too busy: {0}; try again")]
    Busy(&'static str),
    /// The store does not answer or refuses; whether trying again may help,
    /// [it tells](StoreError::is_temporary).
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] StoreError),
    /// The deadline passed before the event's turn came: it was not applied.
    #[error("it took too long and was not applied; try again")]
    TimedOut,
    /// The deadline passed while the change was being saved: it may or may not have been applied.
    /// Sending it again with the same event id is safe.
    #[error(
        "it took too long and may or may not have been applied; sending it again with the same id is safe"
    )]
    OutcomeUnknown,
    /// A defect of the application: a panic, or a state that cannot be encoded. The details are in the
    /// log under `id`.
    #[error("an internal error; the log has it under {id}")]
    Internal {
        /// What the log entry carries too.
        id: String,
    },
}

/// What a person is told; the source tells the rest.
const fn unavailable(error: &StoreError) -> &'static str {
    if error.is_temporary() {
        "the store is not available; try again"
    } else {
        "the store refuses this, or what it holds cannot be read"
    }
}

impl Error {
    /// Logs a defect under a new id, and gives the error that shows only the id.
    #[doc(hidden)]
    #[must_use]
    pub fn internal(what: &str, error: &BoxError) -> Self {
        let id = format!("{:08x}", rand::random::<u32>());
        tracing::error!(%id, %error, "{what}");
        Self::Internal { id }
    }
}

/// Everything that is wrong with what a builder was told.
#[derive(Debug, thiserror::Error)]
#[error("the registry cannot be built:\n- {}", .0.join("\n- "))]
pub struct BuildError(pub(crate) Vec<String>);

impl BuildError {
    /// The mistakes, each a sentence that says what to do.
    pub fn mistakes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
