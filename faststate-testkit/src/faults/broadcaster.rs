//! A broadcaster that loses, repeats and reorders on demand.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key,
    broadcast::{BroadcastError, Change, Inbox, Interest},
};
use parking_lot::Mutex;

/// What becomes of a change on its way to this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BroadcastFault {
    /// It arrives.
    #[default]
    None,
    /// It is lost without a word. The promise is kept by [`FaultyBroadcaster::announce_loss`], later.
    Lose,
    /// It arrives twice.
    Repeat,
    /// It waits for the next one and arrives after it, or with [`FaultyBroadcaster::release`].
    Delay,
    /// It arrives without its data.
    Strip,
}

/// Wraps a node's broadcaster and mistreats what arrives there.
pub struct FaultyBroadcaster {
    inner: Arc<dyn Broadcaster>,
    faulty_inbox: Arc<FaultyInbox>,
}

type Decide = dyn FnMut(&Change) -> BroadcastFault + Send;

/// Stands between the transport and the node's inbox.
struct FaultyInbox {
    inbox: Mutex<Option<Arc<dyn Inbox>>>,
    fault: Mutex<Box<Decide>>,
    delayed: Mutex<Vec<Change>>,
}

impl FaultyBroadcaster {
    /// A wrapper that does no harm yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Broadcaster>) -> Arc<Self> {
        let fault = Mutex::new(Box::new(|_: &Change| BroadcastFault::None) as Box<_>);
        let faulty_inbox = FaultyInbox { inbox: Mutex::default(), fault, delayed: Mutex::default() };
        Arc::new(Self { inner, faulty_inbox: Arc::new(faulty_inbox) })
    }

    /// Decides from now on what becomes of each change.
    pub fn set(&self, fault: impl FnMut(&Change) -> BroadcastFault + Send + 'static) {
        *self.faulty_inbox.fault.lock() = Box::new(fault);
    }

    /// Tells the node that changes may be lost, as a transport must once it knows.
    pub fn announce_loss(&self) {
        if let Some(inbox) = self.faulty_inbox.inbox() {
            inbox.lost();
        }
    }

    /// Lets the delayed changes arrive.
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
