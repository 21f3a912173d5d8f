//! The proof that an event was applied.

use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{EventId, Key, Viewer};

/// How long a store keeps the receipt of a caller's event id, by the store's clock: 10 minutes.
pub const RECEIPT_KEPT: Duration = Duration::from_secs(600);
/// How long a store keeps the receipt of a message that its sender does not release: 8 days, which is longer than the
/// sender keeps the message.
pub const MESSAGE_RECEIPT_KEPT: Duration = Duration::from_hours(8 * 24);

/// Proof that an event was applied to a key: 128 bits of SHA-256 over key, event, event id and sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    digest: [u8; 16],
    kind: ReceiptKind,
}

/// The origin of a receipt, which determines its lifetime.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ReceiptKind {
    /// A caller's event id.
    Event,
    /// A save of the engine.
    Internal,
    /// A message from another instance.
    Message,
}

impl Receipt {
    /// Creates the receipt of a caller's event id.
    #[must_use]
    pub fn new(key: &Key, event: &str, id: &EventId) -> Self {
        Self::of(key, event, id, &[])
    }

    /// Creates the receipt of this viewer's event id, so that the same id from another session is another event.
    ///
    /// The session is left out for an instance that a session or a user owns, which has no other senders, and for a
    /// client that has not returned its cookie yet, which cannot be distinguished from other new clients.
    pub(crate) fn from_viewer(key: &Key, event: &str, id: &EventId, viewer: &Viewer) -> Self {
        let bound = !key.scope().has_owner() && !viewer.is_unconfirmed();
        let sender = viewer.session_id().filter(|_| bound);
        Self::of(key, event, id, sender.map_or(&[], |session| session.as_bytes()))
    }

    fn of(key: &Key, event: &str, id: &EventId, sender: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // Lengths of two bytes: with a short event id, everything fits into one block of the hash.
        for part in [key.as_str(), event, id.as_str()] {
            hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
            hash.update(part);
        }
        hash.update(sender);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self { digest, kind: ReceiptKind::Event }
    }

    /// Creates the receipt of a message with this id, at its target.
    #[must_use]
    #[doc(hidden)]
    pub fn message(target: &Key, id: u128) -> Self {
        let mut hash = Sha256::new();
        hash.update(id.to_le_bytes());
        hash.update(target.as_str());
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self { digest, kind: ReceiptKind::Message }
    }

    /// Creates a random receipt, with which the engine learns the outcome of its own saves.
    #[must_use]
    #[doc(hidden)]
    pub fn internal() -> Self {
        Self { digest: rand::random(), kind: ReceiptKind::Internal }
    }

    /// Returns the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.digest
    }

    /// Returns whether the engine created it. A store whose outcomes are never unknown need not keep such a receipt.
    #[must_use]
    #[doc(hidden)]
    pub const fn is_internal(&self) -> bool {
        matches!(self.kind, ReceiptKind::Internal)
    }

    /// Returns whether it is the receipt of a message, which [`Store::release`](super::Store::release) releases.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        matches!(self.kind, ReceiptKind::Message)
    }

    /// Returns how long a store keeps it: 10 minutes, 8 days for a message, or 1 minute if it is internal.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        match self.kind {
            ReceiptKind::Event => RECEIPT_KEPT,
            ReceiptKind::Internal => Duration::from_secs(60),
            ReceiptKind::Message => MESSAGE_RECEIPT_KEPT,
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({:032x})", u128::from_be_bytes(self.digest))
    }
}
