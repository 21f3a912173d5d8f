//! Failed checks.

use std::{error::Error, fmt::Write as _};

/// A broken promise, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{promise}, but {found}")]
pub struct Failure {
    promise: String,
    found: String,
}

impl Failure {
    /// Creates a failure whose message is `promise`, ", but" and `found`.
    #[must_use]
    pub fn new(promise: impl Into<String>, found: impl Into<String>) -> Self {
        Self { promise: promise.into(), found: found.into() }
    }

    /// Creates a failure from an unexpected error and its sources.
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

    /// The broken promise.
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
        Self::error("a running store responds", &error)
    }
}

impl From<faststate_core::broadcast::BroadcastError> for Failure {
    fn from(error: faststate_core::broadcast::BroadcastError) -> Self {
        Self::error("a running broadcaster responds", &error)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::error("no call panics", &error)
    }
}

/// Returns a [`Failure`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $promise:expr, $($found:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new($promise, format!($($found)+)));
        }
    };
}
pub(crate) use ensure;
