//! A broadcaster that loses, repeats and reorders changes on demand.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key,
    broadcast::{BroadcastError, Change, Inbox, Interest},
};
use parking_lot::Mutex;

/// A fault of a change on its way to this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BroadcastFault {
    /// The change arrives.
    #[default]
    None,
    /// The change is lost silently. Call [`FaultyBroadcaster::announce_loss`] later, as the contract requires.
    Lose,
    /// The change arrives twice.
    Repeat,
    /// The change arrives after the next one, or at [`FaultyBroadcaster::release`].
    Delay,
    /// The change arrives without its data.
    Strip,
}

/// Wraps a node's broadcaster and injects faults into the changes that arrive.
///
/// # Locking
/// Of its three locks, `inbox` (the node's inbox), `fault` (the decision function) and `delayed` (held changes), at most one
/// is held at a time, and none while the node's inbox is called.
pub struct FaultyBroadcaster {
    inner: Arc<dyn Broadcaster>,
    faulty_inbox: Arc<FaultyInbox>,
}

type Decide = dyn FnMut(&Change) -> BroadcastFault + Send;

/// The inbox that is attached to the transport and forwards to the node's inbox.
struct FaultyInbox {
    inbox: Mutex<Option<Arc<dyn Inbox>>>,
    fault: Mutex<Box<Decide>>,
    delayed: Mutex<Vec<Change>>,
}

impl FaultyBroadcaster {
    /// Wraps `inner` without a fault.
    #[must_use]
    pub fn new(inner: Arc<dyn Broadcaster>) -> Arc<Self> {
        let fault = Mutex::new(Box::new(|_: &Change| BroadcastFault::None) as Box<_>);
        let faulty_inbox = FaultyInbox { inbox: Mutex::default(), fault, delayed: Mutex::default() };
        Arc::new(Self { inner, faulty_inbox: Arc::new(faulty_inbox) })
    }

    /// Sets the function that chooses the fault of each later change.
    pub fn set(&self, fault: impl FnMut(&Change) -> BroadcastFault + Send + 'static) {
        *self.faulty_inbox.fault.lock() = Box::new(fault);
    }

    /// Notifies the node that changes may be lost, as a transport must when it detects a loss.
    pub fn announce_loss(&self) {
        if let Some(inbox) = self.faulty_inbox.inbox() {
            inbox.lost();
        }
    }

    /// Delivers the delayed changes.
    pub fn release(&self) {
        self.faulty_inbox.release();
    }
}

impl FaultyInbox {
    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.inbox.lock().clone()
    }

    fn release(&self) {
        let delayed = std::mem::take(&mut *self.delayed.lock());
        if let Some(inbox) = self.inbox() {
            delayed.into_iter().for_each(|change| inbox.change(change));
        }
    }
}

impl Inbox for FaultyInbox {
    fn change(&self, change: Change) {
        let Some(inbox) = self.inbox() else { return };
        let fault = (self.fault.lock())(&change);
        match fault {
            BroadcastFault::None => inbox.change(change),
            BroadcastFault::Lose => return,
            BroadcastFault::Repeat => {
                inbox.change(change.clone());
                inbox.change(change);
            }
            BroadcastFault::Strip => inbox.change(Change { data: None, ..change }),
            BroadcastFault::Delay => {
                self.delayed.lock().push(change);
                return;
            }
        }
        self.release();
    }

    fn notified(&self, key: Option<Key>, message: Bytes) {
        if let Some(inbox) = self.inbox() {
            inbox.notified(key, message);
        }
    }

    fn lost(&self) {
        if let Some(inbox) = self.inbox() {
            inbox.lost();
        }
    }
}

#[async_trait]
impl Broadcaster for FaultyBroadcaster {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.inner.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.inner.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.inner.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        *self.faulty_inbox.inbox.lock() = Some(inbox);
        self.inner.attach(Arc::<FaultyInbox>::clone(&self.faulty_inbox));
    }
}

impl fmt::Debug for FaultyBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBroadcaster").field("inner", &self.inner).finish_non_exhaustive()
    }
}
