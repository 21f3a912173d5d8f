//! Waits with a deadline.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Failure, ensure};

/// The deadline of a condition that should hold immediately, generous enough for a loaded machine.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Polls `check` until it returns a value. Fails with `promise` after 10 s.
pub(crate) async fn until<T, F>(promise: &str, mut check: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>>,
{
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, promise, "not within {CHECK_TIMEOUT:?}");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
