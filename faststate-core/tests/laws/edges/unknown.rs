//! Unknown outcomes, and recovery from lost changes.

use super::*;

/// A store whose reply to a deletion is lost, and that may refuse later loads.
#[derive(Debug, Default)]
struct LosesDeletes {
    inner: MemoryStore,
    down: AtomicBool,
}

#[async_trait]
impl StoreOverride for LosesDeletes {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        self.inner.load(key, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.inner.delete(key, version).await?;
        self.down.store(true, Ordering::SeqCst);
        Err(StoreError::Unavailable("the reply was lost".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_see_a_deletion_whose_reply_was_lost() {
    let store = Arc::new(Overridden(LosesDeletes::default()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    add_one(&board).await.unwrap();
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
    shows_count(&mut tab, 1).await;
    assert!(board.delete().await.is_err());
    assert!(board.read().await.is_err(), "an instance that may be deleted is not shown");
    sleep(Duration::from_secs(30)).await;
    store.down.store(false, Ordering::SeqCst);
    shows_count(&mut tab, 0).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_see_a_save_of_unknown_outcome() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
    store.next_saves([StoreFault::HangAfter]);
    store.set(StoreFault::Fail);
    assert!(matches!(add_one(&board).await, Err(Error::OutcomeUnknown)));
    sleep(Duration::from_secs(30)).await;
    store.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_lost_change_is_loaded_once_the_store_is_back() {
    let Two { a, b, store_b, to_b, .. } = two(|config| config);
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    to_b.set(|_| BroadcastFault::Lose);
    store_b.set(StoreFault::Fail);
    add_one(&board(&a)).await.unwrap();
    a.settle().await;
    to_b.announce_loss();
    sleep(Duration::from_secs(30)).await;
    store_b.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}

#[tokio::test(start_paused = true)]
async fn law_04_change_that_finds_the_queue_full_is_not_lost() {
    let Two { a, b, store_b, .. } = two(|config| config.max_queued_events(1));
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    store_b.set(StoreFault::Hang);
    let there = board(&b);
    let (mut running, mut waiting) = (Box::pin(add_one(&there)), Box::pin(add_one(&there)));
    assert!(poll_once(&mut running).is_pending() && poll_once(&mut waiting).is_pending());
    add_one(&board(&a)).await.unwrap();
    a.settle().await;
    assert!(running.await.is_err() && waiting.await.is_err());
    store_b.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}
