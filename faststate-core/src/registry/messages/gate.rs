//! The gate through which tests hold, lose and duplicate messages.

use async_trait::async_trait;

use super::operator::UnfinishedMessage;

/// Decides about each delivery of a message and each attempt of a job, before it begins.
#[async_trait]
pub trait MessageGate: Send + Sync + 'static {
    /// Waits until the delivery may begin, and returns what happens to it.
    async fn pass(&self, message: UnfinishedMessage) -> Passage;
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It happens.
    Deliver,
    /// It happens twice at once.
    Duplicate,
    /// It happens, but the sender does not learn the answer, as if the node had died.
    LoseAnswer,
    /// It does not happen, and is tried again.
    Lose,
}
