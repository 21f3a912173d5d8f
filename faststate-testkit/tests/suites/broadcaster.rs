//! `suites::broadcaster` for the local broadcaster, and mutants of it.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key, LocalBroadcaster,
    broadcast::{BroadcastError, Change, Inbox, Interest},
};
use faststate_testkit::{
    faults::FaultyBroadcaster,
    suites::{self, broadcaster::ConnectedNodes},
};
use parking_lot::Mutex;

use crate::caught;

fn local() -> [LocalBroadcaster; 3] {
    let first = LocalBroadcaster::new();
    let (second, third) = (first.peer(), first.peer());
    [first, second, third]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local_broadcaster_passes_the_suite() {
    let nodes: ConnectedNodes = local().map(|node| Arc::new(node) as _);
    suites::broadcaster::all(&nodes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrapper_without_faults_passes_the_suite() {
    let nodes: ConnectedNodes = local().map(|node| FaultyBroadcaster::new(Arc::new(node)) as _);
    suites::broadcaster::all(&nodes).await.unwrap();
}

/// The flaw of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    DeliversToNone,
    DeliversToAll,
    DeliversAfterLeaving,
    ForgetsTheSecondInterest,
    CannotJoinAgain,
    MergesCase,
    SwapsVersions,
    CutsData,
    LosesUnderLoad,
    DropsPeerMessages,
    SendsPeerMessagesToAll,
}

/// A local broadcaster with one flaw.
struct Mutant {
    inner: LocalBroadcaster,
    flaw: Flaw,
    joined: Mutex<HashMap<Key, usize>>,
    inboxes: Inboxes,
}

type Inboxes = Arc<Mutex<Vec<Arc<MutantInbox>>>>;

/// Applies the flaw to the changes that arrive.
struct MutantInbox(Arc<dyn Inbox>, Flaw, Mutex<u32>);

impl Inbox for MutantInbox {
    fn change(&self, change: Change) {
        let Change { key, from, to, schema, data } = change;
        let mut count = self.2.lock();
        *count += 1;
        self.0.change(match self.1 {
            Flaw::LosesUnderLoad if count.is_multiple_of(100) => return,
            Flaw::SwapsVersions => Change { key, from: to, to, schema, data },
            Flaw::CutsData => {
                let data = data.map(|data| Bytes::slice(&data, ..data.len().min(8000)));
                Change { key, from, to, schema, data }
            }
            _ => Change { key, from, to, schema, data },
        });
    }

    fn notified(&self, key: Option<Key>, message: Bytes) {
        self.0.notified(key, message);
    }

    fn lost(&self) {}
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mutant").field(&self.flaw).finish()
    }
}

impl Mutant {
    fn mapped(&self, key: &Key) -> Key {
        let Some(id) = key.id().filter(|_| self.flaw == Flaw::MergesCase) else { return key.clone() };
        Key::new(key.state(), key.scope(), None, Some(&id.to_lowercase())).unwrap()
    }
}

#[async_trait]
impl Broadcaster for Mutant {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        if self.flaw == Flaw::DeliversToNone {
            return Ok(());
        }
        if self.flaw == Flaw::DeliversToAll {
            let inboxes = self.inboxes.lock().clone();
            inboxes.iter().for_each(|inbox| inbox.change(change.clone()));
            return Ok(());
        }
        let mut change = change.clone();
        change.key = self.mapped(&change.key);
        self.inner.publish(&change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        match self.flaw {
            Flaw::DropsPeerMessages => Ok(()),
            Flaw::SendsPeerMessagesToAll => {
                let inboxes = self.inboxes.lock().clone();
                inboxes.iter().for_each(|inbox| inbox.notified(key.cloned(), message.clone()));
                Ok(())
            }
            _ => self.inner.notify(key, message).await,
        }
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        let key = self.mapped(key);
        let before = {
            let mut joined = self.joined.lock();
            let joined = joined.entry(key.clone()).or_default();
            *joined += 1;
            *joined - 1
        };
        if self.flaw == Flaw::CannotJoinAgain && before > 1 {
            return Ok(Interest::new(|| {}));
        }
        if self.flaw == Flaw::ForgetsTheSecondInterest && before > 0 {
            return Ok(Interest::new(|| {}));
        }
        let interest = self.inner.join(&key).await?;
        if self.flaw == Flaw::DeliversAfterLeaving {
            std::mem::forget(interest);
            return Ok(Interest::new(|| {}));
        }
        Ok(interest)
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        let ear = Arc::new(MutantInbox(inbox, self.flaw, Mutex::new(0)));
        self.inboxes.lock().push(Arc::clone(&ear));
        self.inner.attach(ear);
    }
}

async fn suite(flaw: Flaw) -> Result<(), suites::Failure> {
    let inboxes = Inboxes::default();
    let nodes: ConnectedNodes = local().map(|inner| {
        Arc::new(Mutant { inner, flaw, joined: Mutex::default(), inboxes: Arc::clone(&inboxes) }) as _
    });
    suites::broadcaster::all(&nodes).await
}

#[tokio::test(start_paused = true)]
async fn suite_catches_every_mutant() {
    for (flaw, promise) in [
        (Flaw::DeliversToNone, "reaches every node"),
        (Flaw::DeliversAfterLeaving, "that has left"),
        (Flaw::ForgetsTheSecondInterest, "one of two interests"),
        (Flaw::CannotJoinAgain, "joins again"),
        (Flaw::MergesCase, "arrives unmodified"),
        (Flaw::SwapsVersions, "arrives unmodified"),
        (Flaw::CutsData, "arrives unmodified"),
        (Flaw::LosesUnderLoad, "reaches every node"),
        (Flaw::DeliversToAll, "receives few changes"),
        (Flaw::DropsPeerMessages, "a peer message reaches"),
        (Flaw::SendsPeerMessagesToAll, "few peer messages"),
    ] {
        let outcome = suite(flaw).await;
        caught(outcome, promise);
    }
}
