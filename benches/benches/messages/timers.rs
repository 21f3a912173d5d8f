//! The cost of many pending timers: of `due`, and of events of other records in the same store.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use faststate_core::{
    Key, Scope, StateRegistry, Store, Version,
    store::{PendingMessages, Precondition, Record},
};
use faststate_store_diesel::DieselStore;
use futures::{StreamExt as _, stream};

use crate::{
    Pace,
    bank::{Account, Touch},
    cpu,
};

/// The number of concurrent saves that fill the store.
const FILL_CONCURRENCY: usize = 256;
/// The number of records that are changed at once.
const EVENTS_AT_ONCE: usize = 64;
/// The number of measured calls of `due`.
const CALLS: usize = 101;

/// Measures one kind of store: `full` gets the timers, and `empty` has none. Events of the two alternate.
pub(crate) async fn measure(name: &str, full: DieselStore, empty: DieselStore, pace: &Pace) {
    let (full, empty) = (Arc::new(full), Arc::new(empty));
    fill(&full, pace.timers).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        with.push(events(&full, pace).await);
        without.push(events(&empty, pace).await);
    }
    let mut calls: Vec<f64> = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        assert!(full.due(256).await.unwrap().keys.is_empty());
        calls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "  {name:<10} `due` {:.3} ms   an event {:.1} us of CPU, {:.1} without timers (medians)",
        median(calls),
        median(with),
        median(without)
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Saves records whose timers are due in a year or later.
async fn fill(store: &Arc<DieselStore>, timers: u64) {
    let year = Duration::from_hours(24 * 365);
    let data = br#"[{"id":"00000000000000000000000000000001","requested":1,"from":1,"work":{"timer":{"name":"end","event":{"event":"touch","input":{}}}}}]"#;
    let save = |at: u64| {
        let store = Arc::clone(store);
        async move {
            let key = Key::new("account", Scope::Record, None, Some(&format!("timer-{at}"))).unwrap();
            let pending = PendingMessages { data: data[..].into(), ..PendingMessages::default() };
            let due = Some(SystemTime::now() + year + Duration::from_secs(at));
            let record =
                Record { pending, due, ..Record::new(1, Version::start(), &br#"{"balance":0}"#[..], None) };
            store.save(&key, &record, Precondition::Absent, None).await.unwrap();
        }
    };
    stream::iter(0..timers).for_each_concurrent(FILL_CONCURRENCY, save).await;
}

/// Returns microseconds of CPU time per event.
async fn events(store: &Arc<DieselStore>, pace: &Pace) -> f64 {
    let registry = crate::bank::registry_over(Arc::clone(store));
    let run = async |length: Duration| {
        let end = Instant::now() + length;
        let tasks = (0..EVENTS_AT_ONCE).map(|id| touch(Arc::clone(&registry), id, end));
        futures::future::join_all(tasks).await.into_iter().sum::<u64>()
    };
    run(pace.turn / 5).await;
    let before = cpu();
    let count = run(pace.turn).await;
    (cpu() - before) * 1e6 / count.max(1) as f64
}

async fn touch(registry: Arc<StateRegistry>, id: usize, end: Instant) -> u64 {
    let account = registry.record::<Account>(&format!("event-{id}")).unwrap();
    let mut count = 0;
    while Instant::now() < end {
        account.send(Touch {}).await.unwrap();
        count += 1;
    }
    count
}
