//! Law 3: the outcome of an event with several saves of unknown outcome.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Context, Error, Event, EventId, Handle, Key, MemoryStore, Registry as _, Rejection, StateRegistry, Store,
    Version, Viewer,
    registry::{Applied, Outcome},
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{FaultyStore, Overridden, StoreFault, StoreOverride};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::board::{Add, Board, board, with};

/// The fault of one save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SaveFault {
    /// The save fails at once, and takes effect after this time.
    Lands(Duration),
    /// The save fails at once, and the event's first save takes effect before the call returns.
    FirstSaveLands,
    /// The save is refused because the store is full.
    Full,
    /// The store refuses the record or key.
    Refused,
}

/// A store with a script of faults for its first saves. Later saves succeed.
struct ScriptedStore {
    inner: Arc<MemoryStore>,
    faults: Mutex<Vec<SaveFault>>,
    first: Mutex<Option<(Key, Record, Precondition, Receipt)>>,
}

impl ScriptedStore {
    async fn land(inner: &MemoryStore, (key, record, expect, receipt): (Key, Record, Precondition, Receipt)) {
        let _ = inner.save(&key, &record, expect, Some(&receipt)).await;
    }
}

#[async_trait]
impl StoreOverride for ScriptedStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let fault = self.faults.lock().unwrap().pop();
        let Some(fault) = fault else { return self.inner.save(key, record, expect, receipt).await };
        let save = (key.clone(), record.clone(), expect, *receipt.unwrap());
        match fault {
            SaveFault::Lands(after) => {
                self.first.lock().unwrap().get_or_insert(save.clone());
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    sleep(after).await;
                    Self::land(&inner, save).await;
                });
            }
            SaveFault::FirstSaveLands => {
                let first = self.first.lock().unwrap().take().unwrap();
                Self::land(&self.inner, first).await;
            }
            SaveFault::Full => return Err(StoreError::Full("no room".into())),
            SaveFault::Refused => return Err(StoreError::Refused("not this".into())),
        }
        Err(StoreError::Unavailable("no answer".into()))
    }
}

impl fmt::Debug for ScriptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedStore")
    }
}

static WORKED: AtomicUsize = AtomicUsize::new(0);

/// Adds to the count and starts background work.
#[derive(Serialize, Deserialize)]
struct Order;

impl Event for Order {
    type State = Board;
    const NAME: &'static str = "order";

    fn apply(&self, board: &mut Board, context: &mut Context<Board>) -> Result<(), Rejection> {
        board.count += 1;
        context.after(|_| async {
            WORKED.fetch_add(1, SeqCst);
        });
        Ok(())
    }
}

fn shop(faults: &[SaveFault]) -> (Arc<StateRegistry>, Handle<Board>, Arc<MemoryStore>) {
    let inner = Arc::<MemoryStore>::default();
    let faults = Mutex::new(faults.iter().rev().copied().collect());
    let script = ScriptedStore { inner: Arc::clone(&inner), faults, first: Mutex::default() };
    let registry = with(|builder| builder.store(Overridden(script)), |config| config.persist());
    let board = board(&registry);
    (registry, board, inner)
}

async fn order(board: &Handle<Board>) -> Result<Outcome, Error> {
    board.send_as(Order, Viewer::application(), EventId::random()).await
}

async fn stored(store: &impl Store, board: &Handle<Board>) -> i64 {
    let record = store.load(board.key(), None).await.unwrap().record;
    record.map_or(0, |record| serde_json::from_slice::<Board>(&record.data).unwrap().count)
}

#[tokio::test(start_paused = true)]
async fn law_03_refusal_after_unknown_outcome_leaves_it_unknown() {
    for refusal in [SaveFault::Full, SaveFault::Refused] {
        let mut faults = vec![SaveFault::Lands(Duration::from_secs(3))];
        faults.extend([refusal; 20]);
        let (_registry, board, store) = shop(&faults);
        let outcome = order(&board).await;
        assert!(matches!(outcome, Err(Error::OutcomeUnknown)), "{refusal:?}: {outcome:?}");
        assert_eq!(stored(&store, &board).await, 0);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stored(&store, &board).await, 1, "the first save took effect later");
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_refusal_is_definite_once_no_save_can_take_effect() {
    let (_registry, board, store) = shop(&[SaveFault::Lands(Duration::from_secs(3)), SaveFault::Full]);
    let handle = board.clone();
    let ordering = tokio::spawn(async move { order(&handle).await });
    tokio::task::yield_now().await;
    // A save by another writer makes the first save impossible.
    let data = serde_json::to_vec(&Board::default()).unwrap();
    let record = Record::new(1, Version::start(), data, None);
    assert_eq!(
        store.save(board.key(), &record, Precondition::Absent, None).await.unwrap(),
        SaveOutcome::Saved
    );
    let outcome = ordering.await.unwrap();
    assert!(matches!(outcome, Err(Error::Unavailable(StoreError::Full(_)))), "{outcome:?}");
}

// One test, because the counter is shared by the process.
#[tokio::test(start_paused = true)]
async fn law_03_work_runs_once_whichever_save_took_effect() {
    for faults in [
        &[SaveFault::Lands(Duration::from_secs(60)), SaveFault::FirstSaveLands][..],
        &[SaveFault::Lands(Duration::from_secs(60)), SaveFault::Lands(Duration::ZERO)],
        &[SaveFault::Lands(Duration::ZERO)],
        &[SaveFault::Lands(Duration::from_secs(60))],
    ] {
        let (registry, board, store) = shop(faults);
        let before = WORKED.load(SeqCst);
        let outcome = order(&board).await.unwrap_or_else(|error| panic!("{faults:?}: {error:?}"));
        registry.settle().await;
        assert_eq!(stored(&store, &board).await, 1, "{faults:?}");
        assert_eq!(outcome.answer, Applied::Changed, "{faults:?}");
        assert_eq!(WORKED.load(SeqCst) - before, 1, "{faults:?}");
    }

    // Another node's change follows the event: the engine finds its own event by the generated id.
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(Arc::clone(&memory));
    let [here, there] = [Arc::clone(&store) as Arc<dyn Store>, memory]
        .map(|store| with(|builder| builder.store(store), |config| config.persist()));
    let (here, there) = (board(&here), board(&there));
    store.next_saves([StoreFault::FailAfter]);
    let before = WORKED.load(SeqCst);
    let ordering = tokio::spawn(async move { here.send(Order).await });
    tokio::task::yield_now().await;
    there.send(Add { amount: 10 }).await.unwrap();
    assert_eq!(ordering.await.unwrap().unwrap().answer, Applied::Changed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(WORKED.load(SeqCst) - before, 1);
}
