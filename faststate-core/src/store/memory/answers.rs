//! The receipts of messages, with the answers to their senders.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::time::Instant;

use crate::store::{RECEIPT_KEPT, Receipt};

/// The receipts of messages. Unlike those of events, they have different lifetimes and may have an answer.
#[derive(Default)]
pub(super) struct AnswerTable(HashMap<Receipt, Answered>);

struct Answered {
    answer: Bytes,
    end: Instant,
}

impl AnswerTable {
    /// Returns the answer of a receipt; it is empty if the message was accepted.
    pub(super) fn get(&self, receipt: &Receipt, now: Instant) -> Option<Bytes> {
        self.0.get(receipt).filter(|answered| answered.end > now).map(|answered| answered.answer.clone())
    }

    /// Returns whether the table contains the receipt, even an expired one.
    pub(super) fn has_entry(&self, receipt: &Receipt) -> bool {
        self.0.contains_key(receipt)
    }

    pub(super) fn insert(&mut self, receipt: Receipt, answer: Bytes, now: Instant) {
        self.0.insert(receipt, Answered { answer, end: now + receipt.lifetime() });
    }

    /// Shortens the remaining lifetime of a receipt.
    pub(super) fn release(&mut self, receipt: &Receipt, now: Instant) {
        if let Some(answered) = self.0.get_mut(receipt) {
            answered.end = answered.end.min(now + RECEIPT_KEPT);
        }
    }

    /// Removes at most `limit` expired receipts; returns their number.
    pub(super) fn remove_expired(&mut self, now: Instant, limit: usize) -> usize {
        let mut removed = 0;
        self.0.retain(|_, answered| {
            let expired = removed < limit && answered.end <= now;
            removed += usize::from(expired);
            !expired
        });
        removed
    }
}
