//! Panics of application code, which must fail one event and nothing else.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, Waker},
};

use futures::FutureExt as _;

use super::Error;
use crate::BoxError;

/// Polls a future once without a waker. After `Pending`, the caller must poll it again.
pub(super) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut task::Context::from_waker(Waker::noop()))
}

/// Returns the message of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> BoxError {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    text.into()
}

/// Awaits application code, and converts a panic into an error that contains `what`.
pub(super) async fn catch_panic<T>(what: &str, run: impl Future<Output = T>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(run).catch_unwind().await;
    caught.map_err(|panic| Error::internal(what, &panic_text(&*panic)))
}

/// Runs application code, and converts a panic into an error that contains `what`.
pub(super) fn guard<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Error::internal(what, &panic_text(&*panic)))
}
