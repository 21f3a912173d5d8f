//! Errors of the registry and of its builder.

use crate::{BoxError, Rejection, store::StoreError, wire::InputError};

/// An error of the engine. The call changed nothing, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A domain rule refused the event.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// The input does not match the event's fields.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The state, event, view or instance does not exist, or the viewer may not see it. The two cases are
    /// indistinguishable (law 8).
    #[error("not found, or not yours to see")]
    Unknown,
    /// The state belongs to a user, and the viewer is not signed in.
    #[error("sign in first")]
    SignIn,
    /// The request names a host that this server does not serve.
    #[error(
        "this server does not serve the host `{0}`: add it to `hosts`, or set `trusted_proxy_header` if a proxy forwards it"
    )]
    Host(String),
    /// The limit that the text names is reached. A later call may succeed.
    #[error("too busy: {0}; try again")]
    Busy(&'static str),
    /// The store does not respond, or refuses the call. [`StoreError::is_temporary`] returns whether a retry may succeed.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] StoreError),
    /// The deadline passed before the event's turn began. The event was not applied.
    #[error("it took too long and was not applied; try again")]
    TimedOut,
    /// The deadline passed while the change was being saved, so it may or may not have been applied. Sending the event
    /// again with the same id is safe.
    #[error(
        "it took too long and may or may not have been applied; sending it again with the same id is safe"
    )]
    OutcomeUnknown,
    /// A defect of the application: a panic, or a state that cannot be encoded. The log contains the details under `id`.
    #[error("an internal error; the log has it under {id}")]
    Internal {
        /// The id of the log entry.
        id: String,
    },
}

/// The message for people; the source has the details.
const fn unavailable(error: &StoreError) -> &'static str {
    if error.is_temporary() {
        "the store is not available; try again"
    } else {
        "the store refuses this call, or its record cannot be read; see the log"
    }
}

impl Error {
    /// Whether the same call can succeed later.
    pub(crate) const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(error) => error.is_temporary(),
            Self::Busy(_) | Self::TimedOut | Self::OutcomeUnknown => true,
            _ => false,
        }
    }

    /// Logs a defect under a new id, and returns an error that contains only the id.
    #[doc(hidden)]
    #[must_use]
    pub fn internal(what: &str, error: &BoxError) -> Self {
        let id = format!("{:08x}", rand::random::<u32>());
        tracing::error!(%id, %error, "{what}");
        Self::Internal { id }
    }
}

/// All mistakes in the configuration of a registry.
#[derive(Debug, thiserror::Error)]
#[error("the registry cannot be built:\n- {}", .0.join("\n- "))]
pub struct BuildError(pub(crate) Vec<String>);

impl BuildError {
    /// Returns the mistakes. Each message says how to correct it.
    pub fn mistakes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}
