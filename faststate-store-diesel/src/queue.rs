//! Saves that come while others are on their way to the server are saved together, in one transaction.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key,
    store::{Expect, Receipt, Record, Saving},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::yield_now,
    time::{Instant, timeout_at},
};

use crate::{error::Error, setup::Settings};

/// How many saves share a transaction.
const BATCH: usize = 256;
/// About how many bytes of data they have, unless a single one has more.
const BYTES: usize = 1 << 20;
/// How many saves may wait; more wait outside.
const WAITING: usize = 1024;

/// A save, on its way.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) key: Key,
    pub(crate) record: Record,
    pub(crate) expect: Expect,
    pub(crate) receipt: Option<Receipt>,
}

/// What a server does with saves. A call that is dropped has done the whole of it or nothing.
#[async_trait]
pub(crate) trait Saves: Send + Sync + 'static {
    /// One, by itself.
    async fn alone(&self, save: &Save) -> Result<Saving, Error>;

    /// All in one transaction, each judged by what those before it have done. After an error nobody knows
    /// what became of any.
    async fn together(&self, saves: &[&Save]) -> Result<Together, Error>;
}

/// What became of several saves.
pub(crate) enum Together {
    /// This, of each, and it is committed.
    Done(Vec<Saving>),
    /// Nothing: one of them was in the way of all. Each may be tried by itself.
    Undone,
}

/// The saves that wait for one of a few lanes. A lane has one transaction on its way at a time, so that the
/// busier the server is, the more saves share one.
///
/// A save whose caller has left before its turn is not begun. One that is begun runs until the last caller of
/// its transaction leaves, and then its connection is closed.
pub(crate) struct Queue {
    saves: mpsc::Sender<Waiting>,
    patience: Duration,
}

struct Waiting {
    save: Save,
    /// When its caller leaves.
    until: Instant,
    answer: oneshot::Sender<Result<Saving, Error>>,
}

impl Queue {
    /// Starts the lanes, which end with the queue.
    pub(crate) fn start(server: Arc<impl Saves>, lanes: u32, settings: Settings) -> Self {
        let (saves, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..lanes.max(1) {
            let (server, waiting) = (Arc::clone(&server), Arc::clone(&waiting));
            tokio::spawn(async move {
                while let Some(saves) = next(&waiting).await {
                    run(&server, saves, settings.timeout).await;
                }
            });
        }
        Self { saves, patience: settings.timeout }
    }

    pub(crate) async fn save(&self, save: Save) -> Result<Saving, Error> {
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + self.patience;
        self.saves.send(Waiting { save, until, answer }).await.map_err(|_| Error::Gone)?;
        answered.await.unwrap_or(Err(Error::Gone))
    }
}

/// The saves that go together; none when the queue is gone.
async fn next(waiting: &Mutex<mpsc::Receiver<Waiting>>) -> Option<Vec<Waiting>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    // Whoever is about to save, saves now.
    yield_now().await;
    let mut bytes = first.save.record.data.len();
    let mut saves = vec![first];
    while saves.len() < BATCH
        && bytes < BYTES
        && let Ok(save) = waiting.try_recv()
    {
        bytes += save.save.record.data.len();
        saves.push(save);
    }
    Some(saves)
}

/// Saves and answers.
async fn run(server: &Arc<impl Saves>, mut waiting: Vec<Waiting>, within: Duration) {
    waiting.retain(|waiting| !waiting.answer.is_closed());
    if waiting.len() < 2 {
        for waiting in waiting {
            alone(&**server, waiting, within).await;
        }
        return;
    }
    // So that no two transactions, of this node or of another, wait for each other.
    waiting.sort_by(|a, b| a.save.key.as_str().cmp(b.save.key.as_str()));
    let saves: Vec<_> = waiting.iter().map(|waiting| &waiting.save).collect();
    let until = waiting.iter().map(|waiting| waiting.until).max().unwrap_or_else(Instant::now);
    let outcome = timeout_at(until, server.together(&saves)).await;
    match outcome.unwrap_or(Err(Error::Late(within))) {
        Ok(Together::Done(savings)) => {
            for (waiting, saving) in waiting.into_iter().zip(savings) {
                // Whoever asked may have left; that is their business.
                let _ = waiting.answer.send(Ok(saving));
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
                let _ = waiting.answer.send(Err(error.clone()));
            }
        }
    }
}

async fn alone(server: &impl Saves, waiting: Waiting, within: Duration) {
    let outcome = timeout_at(waiting.until, server.alone(&waiting.save)).await;
    let _ = waiting.answer.send(outcome.unwrap_or(Err(Error::Late(within))));
}
