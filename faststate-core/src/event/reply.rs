//! Streamed replies to events.

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{BoxError, Elements, patch::EncodedFields, wire::frame};

/// The most pieces that wait for a slow caller.
const MAX_UNREAD_PIECES: usize = 8;

/// The writing end of a streamed reply.
///
/// At most 8 pieces wait for the caller. If it reads slowly, each further write waits.
#[derive(Clone, Debug)]
pub struct Reply {
    sender: mpsc::Sender<Bytes>,
}

/// The error of writing to a streamed reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyClosed {
    /// The caller has disconnected, so the work should stop.
    #[error("the caller is gone")]
    Gone,
    /// The signals cannot be encoded; the source contains the reason.
    #[error("the signals cannot be written")]
    Signals(#[source] BoxError),
}

impl Reply {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD_PIECES);
        (Self { sender }, receiver)
    }

    /// Sends elements.
    ///
    /// # Errors
    /// [`ReplyClosed::Gone`] after the caller has disconnected.
    ///
    /// # Cancellation
    /// If the future is dropped, either all or none of the elements are sent.
    pub async fn elements(&self, elements: &Elements) -> Result<(), ReplyClosed> {
        self.send(frame::elements(std::slice::from_ref(elements))).await
    }

    /// Merges signals into the root of the page's signals. They are a struct or a map, encoded like a state.
    ///
    /// # Errors
    /// [`ReplyClosed::Gone`] after the caller has disconnected, [`ReplyClosed::Signals`] if `signals` is not a struct or
    /// map, or cannot be encoded.
    ///
    /// # Cancellation
    /// If the future is dropped, either all or none of the signals are sent.
    pub async fn signals(&self, signals: &(impl Serialize + Sync)) -> Result<(), ReplyClosed> {
        let image = EncodedFields::of(signals).map_err(|error| ReplyClosed::Signals(error.into()))?;
        self.send(frame::signals(image.json())).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), ReplyClosed> {
        self.sender.send(bytes).await.map_err(|_| ReplyClosed::Gone)
    }
}
