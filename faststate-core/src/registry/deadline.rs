//! Pauses, and calls of a store within a deadline.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::store::StoreError;

/// Pauses, if at all.
pub(super) async fn pause(pause: Duration) {
    if !pause.is_zero() {
        // In a box: most events never pause, and their future is smaller for it.
        Box::pin(tokio::time::sleep(pause)).await;
    }
}

/// One call of the store, within the deadline.
pub(super) async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(StoreError::Unavailable(elapsed.into())),
    }
}
