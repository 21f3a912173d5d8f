//! Pauses, and store calls with a deadline.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::store::StoreError;

/// Sleeps for `pause`, unless it is zero.
pub(super) async fn pause(pause: Duration) {
    if !pause.is_zero() {
        // Boxed, because most events never pause, and their future is smaller this way.
        Box::pin(tokio::time::sleep(pause)).await;
    }
}

/// Awaits a store call until the deadline, and then returns [`StoreError::Unavailable`].
pub(super) async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(StoreError::Unavailable(elapsed.into())),
    }
}
