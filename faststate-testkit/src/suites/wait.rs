//! Waiting for what should happen at once.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Failure, ensure};

/// How long a suite waits for something that should happen at once, on a busy machine.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks again until there is an answer; a promise about it is broken after 10 seconds.
pub(crate) async fn until<T, F>(promise: &str, mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>>,
{
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, promise, "not within {CHECK_TIMEOUT:?}");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
