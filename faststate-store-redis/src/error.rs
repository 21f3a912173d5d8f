//! Errors of Redis, and their mapping to [`StoreError`].

use std::time::Duration;

use bb8_redis::redis::{ErrorKind, ParsingError, RedisError, ServerErrorKind};
use faststate_core::store::StoreError;

use crate::{address::AddressError, dialer::ConnectError, keys::PrefixError, tls::TlsProblem};

/// An error of a call. It can be cloned because one failure can concern several calls.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RedisStoreError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    #[error("there is no connection to {address}")]
    Connection { address: String, source: Option<ConnectError> },
    #[error("Redis returned an error")]
    Redis(#[source] RedisError),
    #[error("the server is one of a cluster: use `redis+cluster://` instead of `redis://`")]
    IsCluster(#[source] RedisError),
    #[error("Redis {why}")]
    Full { why: &'static str, source: RedisError },
    #[error("Redis returned an answer of an unexpected type")]
    Answer(#[source] ParsingError),
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    #[error("no server of the cluster holds the slot {0}")]
    NoMaster(u16),
    #[error("the store's task has ended with its runtime")]
    Ended,
}

/// The codes of a server that temporarily accepts no writes. Redis returns them before a script has written anything.
const FULL: [(&str, &str); 3] = [
    ("OOM", "has reached its `maxmemory`"),
    ("MISCONF", "takes no writes, because it cannot write to its disk"),
    ("NOREPLICAS", "takes no writes, because it has too few replicas"),
];

/// The codes of a server that is not, or no longer, the one to use. It has not executed the command.
const DEMOTED: [&str; 4] = ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"];

impl From<RedisStoreError> for StoreError {
    fn from(problem: RedisStoreError) -> Self {
        let permanent = match &problem {
            RedisStoreError::Redis(error) => {
                if let Some((_, why)) = FULL.iter().find(|(code, _)| has_code(error, code)) {
                    return Self::Full(RedisStoreError::Full { why, source: error.clone() }.into());
                }
                if has_code(error, "MOVED") || has_code(error, "CROSSSLOT") {
                    return Self::Refused(RedisStoreError::IsCluster(error.clone()).into());
                }
                !is_demoted(error) && is_permanent(error)
            }
            RedisStoreError::Full { .. } => return Self::Full(problem.into()),
            RedisStoreError::Connection { source, .. } => {
                source.as_ref().is_some_and(ConnectError::is_permanent)
            }
            RedisStoreError::Address(_)
            | RedisStoreError::Tls(_)
            | RedisStoreError::Answer(_)
            | RedisStoreError::IsCluster(_) => true,
            RedisStoreError::Late(_) | RedisStoreError::NoMaster(_) | RedisStoreError::Ended => false,
        };
        if permanent { Self::Refused(problem.into()) } else { Self::Unavailable(problem.into()) }
    }
}

/// Returns whether Redis returned this code, directly or from within a script (in the text, for Redis 6.2).
pub(crate) fn has_code(error: &RedisError, code: &str) -> bool {
    let in_script = |text: &str| text.starts_with("Error running script") && text.contains(code);
    error.code() == Some(code) || error.detail().is_some_and(in_script)
}

/// Returns whether another server has to be used: the connection is closed, and the command was not executed.
pub(crate) fn is_demoted(error: &RedisError) -> bool {
    DEMOTED.iter().any(|code| has_code(error, code))
}

/// Returns whether a retry cannot succeed until the configuration is changed.
fn is_permanent(error: &RedisError) -> bool {
    let kind = match error.kind() {
        ErrorKind::Server(kind) => {
            matches!(
                kind,
                ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot | ServerErrorKind::NoPerm
            )
        }
        kind => matches!(
            kind,
            ErrorKind::AuthenticationFailed
                | ErrorKind::InvalidClientConfig
                | ErrorKind::UnexpectedReturnType
                | ErrorKind::Client
                | ErrorKind::RESP3NotSupported
        ),
    };
    kind || matches!(error.code(), Some("WRONGTYPE" | "WRONGPASS" | "NOAUTH" | "NOPERM"))
}

impl From<PrefixError> for StoreError {
    fn from(error: PrefixError) -> Self {
        Self::Refused(error.into())
    }
}
