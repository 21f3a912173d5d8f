//! Errors of Redis, and their mapping to [`StoreError`].

use std::time::Duration;

use bb8_redis::redis::{ErrorKind, ParsingError, RedisError, ServerErrorKind};
use faststate_core::store::StoreError;

use crate::keys::PrefixError;

/// An error of a call. It can be cloned because one failure can concern several calls.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RedisStoreError {
    #[error("there is no connection to {address}")]
    Connection { address: String, source: Option<RedisError> },
    #[error("Redis returned an error")]
    Redis(#[source] RedisError),
    #[error("Redis {why}")]
    Full { why: &'static str, source: RedisError },
    #[error("Redis returned an answer of an unexpected type")]
    Answer(#[source] ParsingError),
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    #[error("the store's task has ended with its runtime")]
    Ended,
}

/// The codes of a server that temporarily accepts no writes. Redis returns them before a script has written anything.
const FULL: [(&str, &str); 3] = [
    ("OOM", "has reached its `maxmemory`"),
    ("MISCONF", "takes no writes, because it cannot write to its disk"),
    ("NOREPLICAS", "takes no writes, because it has too few replicas"),
];

impl From<RedisStoreError> for StoreError {
    fn from(problem: RedisStoreError) -> Self {
        let permanent = match &problem {
            RedisStoreError::Redis(error) => {
                if let Some((_, why)) = FULL.iter().find(|(code, _)| has_code(error, code)) {
                    return Self::Full(RedisStoreError::Full { why, source: error.clone() }.into());
                }
                !has_code(error, "READONLY") && is_permanent(error)
            }
            RedisStoreError::Full { .. } => return Self::Full(problem.into()),
            RedisStoreError::Connection { source, .. } => source.as_ref().is_some_and(is_of_config),
            RedisStoreError::Answer(_) => true,
            RedisStoreError::Late(_) | RedisStoreError::Ended => false,
        };
        if permanent { Self::Refused(problem.into()) } else { Self::Unavailable(problem.into()) }
    }
}

/// Returns whether Redis returned this code, directly or from within a script (in the text, for Redis 6.2).
pub(crate) fn has_code(error: &RedisError, code: &str) -> bool {
    let in_script = |text: &str| text.starts_with("Error running script") && text.contains(code);
    error.code() == Some(code) || error.detail().is_some_and(in_script)
}

/// Returns whether a retry cannot succeed until the configuration is changed.
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

/// Returns whether the address or the password is wrong.
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
