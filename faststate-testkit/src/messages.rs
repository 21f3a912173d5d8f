//! Control over the messages and jobs of a registry in a test.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use faststate_core::{
    internal::{MessageGate, Passage},
    registry::{RegistryBuilder, UnfinishedMessage},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Holds the messages and jobs of a registry until the test delivers them.
///
/// ```
/// use std::sync::Arc;
///
/// use faststate_core::{MemoryStore, StateRegistry};
/// use faststate_testkit::messages::HeldMessages;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let messages = HeldMessages::new();
/// let registry = messages.hold(StateRegistry::builder()).store(MemoryStore::new()).build().unwrap();
/// messages.assert_pending(&[]);
/// # drop(registry);
/// # }
/// ```
#[derive(Debug, Default)]
pub struct HeldMessages {
    held: Mutex<VecDeque<Held>>,
    arrived: Notify,
}

/// A delivery that waits for the test.
#[derive(Debug)]
struct Held {
    message: UnfinishedMessage,
    passage: oneshot::Sender<Passage>,
}

impl HeldMessages {
    /// Creates a gate that holds everything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes a registry hold its messages and jobs here. Several registries may share one gate.
    #[must_use]
    pub fn hold(self: &Arc<Self>, builder: RegistryBuilder) -> RegistryBuilder {
        builder.message_gate(Arc::clone(self) as _)
    }

    /// Returns the held deliveries, in the order in which they began.
    #[must_use]
    pub fn held(&self) -> Vec<UnfinishedMessage> {
        self.held
            .lock()
            .iter()
            .filter(|held| !held.passage.is_closed())
            .map(|held| held.message.clone())
            .collect()
    }

    /// Checks the kinds of the held deliveries, such as `message to Key(account/r/bob)` or `job mail`.
    ///
    /// # Panics
    /// Panics if they differ.
    #[track_caller]
    pub fn assert_pending(&self, kinds: &[&str]) {
        let held: Vec<_> = self.held().into_iter().map(|message| message.kind).collect();
        assert_eq!(held, kinds, "the held messages and jobs");
    }

    /// Waits for a delivery, delivers it, and returns the message. The answer arrives at the sender some time later: use
    /// `Registry::settle` to wait for it.
    pub async fn deliver_next(&self) -> UnfinishedMessage {
        self.pass_next(Passage::Deliver).await
    }

    /// Waits for a delivery, and delivers it twice at once.
    pub async fn duplicate_next(&self) -> UnfinishedMessage {
        self.pass_next(Passage::Duplicate).await
    }

    /// Waits for a delivery, and loses it. The message is tried again later.
    pub async fn lose_next(&self) -> UnfinishedMessage {
        self.pass_next(Passage::Lose).await
    }

    /// Waits for a delivery, and loses its answer. The message is tried again later.
    pub async fn lose_next_answer(&self) -> UnfinishedMessage {
        self.pass_next(Passage::LoseAnswer).await
    }

    async fn pass_next(&self, passage: Passage) -> UnfinishedMessage {
        loop {
            let arrived = self.arrived.notified();
            let next = self.held.lock().pop_front();
            match next {
                Some(Held { message, passage: answer }) => {
                    if answer.send(passage).is_ok() {
                        return message;
                    }
                }
                None => arrived.await,
            }
        }
    }
}

#[async_trait]
impl MessageGate for HeldMessages {
    async fn pass(&self, message: UnfinishedMessage) -> Passage {
        let (passage, answer) = oneshot::channel();
        self.held.lock().push_back(Held { message, passage });
        self.arrived.notify_one();
        answer.await.unwrap_or(Passage::Lose)
    }
}
