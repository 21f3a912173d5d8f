//! What can go wrong between here and Redis, and what it means for a store.

use std::time::Duration;

use bb8_redis::redis::{ErrorKind, ParsingError, RedisError, ServerErrorKind};
use faststate_core::store::StoreError;

use crate::keys::PrefixError;

/// What went wrong. One answer can concern many calls, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("there is no connection to {address}")]
    Connection { address: String, source: Option<RedisError> },
    #[error("Redis says")]
    Redis(#[source] RedisError),
    #[error("Redis gave an answer of another kind")]
    Answer(#[source] ParsingError),
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    #[error("the store's task has ended with its runtime")]
    Ended,
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        let permanent = match &problem {
            Problem::Redis(error) => {
                // Each of these is said before a script has written anything.
                if says(error, "OOM") {
                    return Self::Full("Redis has reached its `maxmemory`");
                }
                if says(error, "MISCONF") {
                    return Self::Full("Redis takes no writes, because it cannot write to its disk");
                }
                if says(error, "NOREPLICAS") {
                    return Self::Full("Redis takes no writes, because it has too few replicas");
                }
                !says(error, "READONLY") && is_permanent(error)
            }
            Problem::Connection { source, .. } => source.as_ref().is_some_and(is_of_config),
            Problem::Answer(_) => true,
            Problem::Late(_) | Problem::Ended => false,
        };
        if permanent { Self::Refused(problem.into()) } else { Self::Unavailable(problem.into()) }
    }
}

/// Whether Redis gave this code, itself or from within a script (where Redis 6.2 has it in the text).
pub(crate) fn says(error: &RedisError, code: &str) -> bool {
    let in_script = |text: &str| text.starts_with("Error running script") && text.contains(code);
    error.code() == Some(code) || error.detail().is_some_and(in_script)
}

/// Whether asking again will not help until somebody changes something.
fn is_permanent(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ResponseError
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::NoPerm
        ),
        ErrorKind::Extension if error.code() == Some("WRONGTYPE") => true,
        _ => is_of_config(error),
    }
}

/// Whether the address or the password is wrong.
fn is_of_config(error: &RedisError) -> bool {
    let kind = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Client
            | ErrorKind::RESP3NotSupported
    );
    kind || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
}

impl From<PrefixError> for StoreError {
    fn from(error: PrefixError) -> Self {
        Self::Refused(error.into())
    }
}
