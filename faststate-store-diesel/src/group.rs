//! Saves that come while others are on their way to the server are saved together, in one transaction.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key,
    store::{Precondition, Queue, Receipt, Record, SaveOutcome, Shards, Waiting},
};
use tokio::time::{Instant, timeout_at};

use crate::{builder::Settings, error::Error};

/// How many saves share a transaction.
const BATCH: usize = 256;
/// About how many bytes of data they have, unless a single one has more.
const BYTES: usize = 1 << 20;

/// A save, on its way.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) key: Key,
    pub(crate) record: Record,
    pub(crate) expect: Precondition,
    pub(crate) receipt: Option<Receipt>,
    /// When its caller leaves.
    until: Instant,
}

type Outcome = Result<SaveOutcome, Error>;

/// What a server does with saves. A call that is dropped has done the whole of it or nothing.
#[async_trait]
pub(crate) trait Saves: Send + Sync + 'static {
    /// One, by itself.
    async fn alone(&self, save: &Save) -> Result<SaveOutcome, Error>;

    /// All in one transaction, each judged by what those before it have done. After an error nobody knows
    /// what became of any.
    async fn together(&self, saves: &[&Save]) -> Result<Together, Error>;
}

/// What became of several saves.
pub(crate) enum Together {
    /// This, of each, and it is committed.
    Done(Vec<SaveOutcome>),
    /// Nothing: one of them was in the way of all. Each may be tried by itself.
    Undone,
}

/// The saves that wait for one of a few lanes, each with one transaction on its way.
///
/// A save whose caller has left before its turn is not begun. One that is begun runs until the last caller of
/// its transaction leaves, and then its connection is closed.
pub(crate) struct Group {
    queue: Queue<Save, Outcome>,
    patience: Duration,
}

impl Group {
    pub(crate) fn start(server: Arc<impl Saves>, lanes: u32, settings: Settings) -> Self {
        let patience = settings.timeout;
        let lanes = Shards::new(lanes).with_calls(BATCH).with_bytes(BYTES);
        let queue = Queue::start(
            lanes,
            |save: &Save| save.record.data.len(),
            move |saves| {
                let server = Arc::clone(&server);
                async move { run(&server, saves, patience).await }
            },
        );
        Self { queue, patience }
    }

    pub(crate) async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Outcome {
        let until = Instant::now() + self.patience;
        let save =
            Save { key: key.clone(), record: record.clone(), expect, receipt: receipt.copied(), until };
        self.queue.ask(save).await.unwrap_or(Err(Error::Gone))
    }
}

/// Saves and answers.
async fn run(server: &Arc<impl Saves>, mut waiting: Vec<Waiting<Save, Outcome>>, within: Duration) {
    if waiting.len() < 2 {
        for waiting in waiting {
            alone(&**server, waiting, within).await;
        }
        return;
    }
    // So that no two transactions, of this node or of another, wait for each other.
    waiting.sort_by(|a, b| a.call.key.as_str().cmp(b.call.key.as_str()));
    let saves: Vec<_> = waiting.iter().map(|waiting| &waiting.call).collect();
    let until = waiting.iter().map(|waiting| waiting.call.until).max().unwrap_or_else(Instant::now);
    let outcome = timeout_at(until, server.together(&saves)).await;
    match outcome.unwrap_or(Err(Error::Late(within))) {
        Ok(Together::Done(savings)) => {
            for (waiting, saving) in waiting.into_iter().zip(savings) {
                waiting.answer(Ok(saving));
            }
        }
        Ok(Together::Undone) => {
            // At once, not in turn: the one that is in the way must not be in the way again.
            for waiting in waiting {
                let server = Arc::clone(server);
                tokio::spawn(async move { alone(&*server, waiting, within).await });
            }
        }
        Err(error) => {
            for waiting in waiting {
                waiting.answer(Err(error.clone()));
            }
        }
    }
}

async fn alone(server: &impl Saves, waiting: Waiting<Save, Outcome>, within: Duration) {
    let outcome = timeout_at(waiting.call.until, server.alone(&waiting.call)).await;
    waiting.answer(outcome.unwrap_or(Err(Error::Late(within))));
}
