//! Law 6: expired receipts are swept as fast as new ones are created.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{MemoryStore, Store, store::StoreError};
use faststate_testkit::faults::{Overridden, StoreOverride};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::board::with;

/// Number of receipts that expire per second.
const PER_SECOND: f64 = 5_000.0;

/// A store in which receipts expire constantly, and whose sweep calls for many rows time out.
#[derive(Debug)]
struct Expiring {
    inner: MemoryStore,
    since: Instant,
    swept: Mutex<usize>,
    /// Number of rows that it removes per second.
    speed: f64,
    longest: Mutex<Duration>,
}

impl Expiring {
    fn new(speed: f64) -> Arc<Overridden<Self>> {
        let (swept, longest) = (Mutex::default(), Mutex::default());
        let since = Instant::now();
        Arc::new(Overridden(Self { inner: MemoryStore::new(), since, swept, speed, longest }))
    }

    fn backlog(&self) -> usize {
        (self.since.elapsed().as_secs_f64() * PER_SECOND) as usize - *self.swept.lock()
    }
}

#[async_trait]
impl StoreOverride for Expiring {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    /// Like a database, rolls back a call that takes too long.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let rows = limit.min(self.backlog());
        let takes = Duration::from_secs_f64(rows as f64 / self.speed);
        let most = Duration::from_secs(2);
        sleep(takes.min(most)).await;
        if takes > most {
            return Err(StoreError::Unavailable("the sweep took too long".into()));
        }
        *self.swept.lock() += rows;
        let mut longest = self.longest.lock();
        *longest = takes.max(*longest);
        Ok(rows)
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_receipts_are_swept_as_fast_as_they_are_created() {
    for speed in [1_000_000.0, 50_000.0, 10_000.0] {
        let store = Expiring::new(speed);
        let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
        sleep(Duration::from_secs(600)).await;
        // These were created since the last sweep but one.
        let bound = (PER_SECOND * 40.0) as usize;
        assert!(store.backlog() < bound, "{} have not been swept at {speed} per second", store.backlog());
        drop(registry);
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_sweep_ends_although_calls_for_many_rows_time_out() {
    // 10,000 rows take 4 s.
    let store = Expiring::new(2_500.0);
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    sleep(Duration::from_secs(120)).await;
    assert!(*store.swept.lock() > 100_000, "{} were swept", store.swept.lock());
    assert!(*store.longest.lock() < Duration::from_secs(2));
    drop(registry);
}
