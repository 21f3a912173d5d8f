//! What a suite answers, and what a page says of bytes that it cannot merge.

use std::{error::Error, fmt::Write as _};

/// A promise that is broken, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{promise}, but {found}")]
pub struct Failure {
    promise: String,
    found: String,
}

impl Failure {
    /// The failure to keep `promise`, which reads before ", but" and `found`.
    #[must_use]
    pub fn new(promise: impl Into<String>, found: impl Into<String>) -> Self {
        Self { promise: promise.into(), found: found.into() }
    }

    /// An error where there should be none, with its sources.
    #[must_use]
    pub fn error(promise: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let mut found = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let _ = write!(found, ": {error}");
            source = error.source();
        }
        Self::new(promise, found)
    }

    /// The promise that is broken.
    #[must_use]
    pub fn promise(&self) -> &str {
        &self.promise
    }

    /// What was found instead.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }
}

impl From<faststate_core::store::StoreError> for Failure {
    fn from(error: faststate_core::store::StoreError) -> Self {
        Self::error("a store that runs answers", &error)
    }
}

impl From<faststate_core::broadcast::BroadcastError> for Failure {
    fn from(error: faststate_core::broadcast::BroadcastError) -> Self {
        Self::error("a broadcaster that runs answers", &error)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::error("no call panics", &error)
    }
}

/// Gives up with a [`Failure`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $promise:expr, $($found:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new($promise, format!($($found)+)));
        }
    };
}
pub(crate) use ensure;
