//! Faults between the engine's parts: code that hangs, panics or fails, and records that disappear, at the wrong moment.

mod lifetimes;
mod once;
mod panics;
mod records;
mod transport;
mod unknown;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Broadcaster, Context, Error, Event, EventId, Handle, Key, LocalBroadcaster, MemoryStore,
    PrepareContext, ReactiveState, Registry, Rejection, StateConfig, StateRegistry, Store, Version, Viewer,
    broadcast::{BroadcastError, Change, Inbox, Interest},
    internal::TopicName,
    registry::Applied,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{
    BroadcastFault, FaultyBroadcaster, FaultyStore, Overridden, StoreFault, StoreOverride,
};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    board::{Board, board, poll_once, until, with},
    tab::Tab,
};

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

/// Two nodes over one store, with faults between each node and the store and between the nodes.
struct Two {
    a: Arc<StateRegistry>,
    b: Arc<StateRegistry>,
    store_b: Arc<FaultyStore>,
    to_b: Arc<FaultyBroadcaster>,
}

fn two(config: impl Fn(StateConfig) -> StateConfig) -> Two {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store_b = FaultyStore::new(Arc::clone(&memory));
    let hub = LocalBroadcaster::new();
    let to_b = FaultyBroadcaster::new(Arc::new(hub.peer()));
    let a = with(|builder| builder.store(memory).broadcaster(hub), |c| config(c).persist());
    let b = with(
        |builder| builder.store(Arc::clone(&store_b)).broadcaster(Arc::clone(&to_b)),
        |c| config(c).persist(),
    );
    Two { a, b, store_b, to_b }
}

async fn add_one(board: &Handle<Board>) -> Result<Applied, Error> {
    let outcome = board.update(|board| {
        board.count += 1;
        Ok(())
    });
    Ok(outcome.await?.answer)
}

/// Merges frames until the page shows this count, within the 5 s of law 13.
async fn shows_count(tab: &mut Tab, count: i64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        tab.read();
        if tab.shows(&Board { count, ..Board::default() }).is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "the page does not show {count}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A note, which exists only if `initial` returns one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl ReactiveState for Note {
    const NAME: &'static str = "note";
}

#[derive(Serialize, Deserialize)]
struct Write {
    text: String,
}

impl Event for Write {
    type State = Note;
    const NAME: &'static str = "write";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        note.text.clone_from(&self.text);
        Ok(())
    }
}

/// The notes "a" to "y" exist once `exist` is set. Until then, the lookup of "z" never ends.
fn notes(
    exist: &Arc<AtomicBool>,
    configure: impl FnOnce(faststate_core::registry::RegistryBuilder) -> faststate_core::registry::RegistryBuilder,
    config: impl FnOnce(StateConfig) -> StateConfig,
) -> Arc<StateRegistry> {
    let exist = Arc::clone(exist);
    configure(StateRegistry::builder())
        .state::<Note>(config(StateConfig::record().access(Access::public())), |state| {
            state.event::<Write>().initial(move |key| {
                let exists = exist.load(Ordering::SeqCst);
                async move {
                    if key.id().as_deref() == Some("z") && !exists {
                        pending::<()>().await;
                    }
                    exists.then(|| Note { text: "new".to_owned() })
                }
            })
        })
        .build()
        .unwrap()
}
