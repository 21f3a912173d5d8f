//! A reply that is written while the work goes on.

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{BoxError, Elements, patch::EncodedFields, wire::frame};

/// How many pieces may wait for a slow caller.
const WAITING: usize = 8;

/// The caller's end of a streamed reply.
///
/// Holds at most 8 pieces that the caller has not read: a writer waits for a slow caller.
#[derive(Clone, Debug)]
pub struct Reply {
    sender: mpsc::Sender<Bytes>,
}

/// The caller is gone, or what was to be written is not valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyClosed {
    /// The caller hung up: stop.
    #[error("the caller is gone")]
    Gone,
    /// The signals cannot be written: see the source.
    #[error("the signals cannot be written")]
    Signals(#[source] BoxError),
}

impl Reply {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Sends elements.
    ///
    /// # Errors
    /// [`ReplyClosed::Gone`] once the caller has hung up.
    pub async fn elements(&self, elements: &Elements) -> Result<(), ReplyClosed> {
        self.send(frame::elements(std::slice::from_ref(elements))).await
    }

    /// Merges signals at the root: a struct or map, by the same wire rules as a state.
    ///
    /// # Errors
    /// [`ReplyClosed::Gone`] once the caller has hung up, [`ReplyClosed::Signals`] for what is not a
    /// struct or map of signals.
    pub async fn signals(&self, signals: &(impl Serialize + Sync)) -> Result<(), ReplyClosed> {
        let image = EncodedFields::of(signals).map_err(|error| ReplyClosed::Signals(error.into()))?;
        self.send(frame::signals(image.json())).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), ReplyClosed> {
        self.sender.send(bytes).await.map_err(|_| ReplyClosed::Gone)
    }
}
