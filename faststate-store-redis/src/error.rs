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
    #[error("Redis {why}")]
    Full { why: &'static str, source: RedisError },
    #[error("Redis gave an answer of another kind")]
    Applied(#[source] ParsingError),
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    #[error("the store's task has ended with its runtime")]
    Ended,
}

/// What Redis says before a script has written anything, when it takes no writes for now.
const FULL: [(&str, &str); 3] = [
    ("OOM", "has reached its `maxmemory`"),
    ("MISCONF", "takes no writes, because it cannot write to its disk"),
    ("NOREPLICAS", "takes no writes, because it has too few replicas"),
];

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        let permanent = match &problem {
            Problem::Redis(error) => {
                if let Some((_, why)) = FULL.iter().find(|(code, _)| says(error, code)) {
                    return Self::Full(Problem::Full { why, source: error.clone() }.into());
                }
                !says(error, "READONLY") && is_permanent(error)
            }
            Problem::Full { .. } => return Self::Full(problem.into()),
            Problem::Connection { source, .. } => source.as_ref().is_some_and(is_of_config),
            Problem::Applied(_) => true,
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
