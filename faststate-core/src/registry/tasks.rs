//! Tasks that `Registry::settle` does not wait for.

use std::future::Future;

use futures::FutureExt as _;
use tokio::task::JoinHandle;

/// Spawns a task.
///
/// The future is boxed because a task type of tokio is about a thousand lines of machine-independent code: without the
/// box, an application would compile it for each state and each call of this function.
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future.boxed())
}
