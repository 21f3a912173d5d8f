//! Law 16: timers that fail stop no others, and the store's clock decides when they fire.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use faststate_core::{
    Access, Handle, Key, MemoryStore, StateConfig, StateRegistry, Store,
    internal::{follow_tokio_time, now},
    store::{DueKeys, Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{Overridden, StoreOverride};
use tokio::time::sleep;

use crate::office::{
    Chores, Office, Open, Reaction, Send, SetAlarm, office_registry, offices, offices_with, unfinished,
};

fn start() -> Arc<StateRegistry> {
    follow_tokio_time();
    office_registry(&Arc::new(MemoryStore::new()), &Chores::default())
}

async fn set_alarm(registry: &Arc<StateRegistry>, office: &str, name: &str, reaction: Reaction) {
    let office: Handle<Office> = registry.record(office).unwrap();
    let at = now() + Duration::from_secs(10);
    office.send(SetAlarm { name: name.to_owned(), at, reaction }).await.unwrap();
}

async fn rang(registry: &Arc<StateRegistry>, office: &str) -> Vec<String> {
    let office: Handle<Office> = registry.record(office).unwrap();
    office.read().await.unwrap().rang.clone()
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_that_fails_stops_no_other() {
    for (reaction, is_parked) in [(Reaction::Reject, false), (Reaction::Panic, true)] {
        let registry = start();
        set_alarm(&registry, "a", "bad", reaction).await;
        for office in ["a", "b"] {
            set_alarm(&registry, office, "good", Reaction::Accept).await;
        }
        sleep(Duration::from_millis(10_900)).await;
        assert_eq!(
            (rang(&registry, "a").await, rang(&registry, "b").await),
            (vec!["good".into()], vec!["good".into()])
        );
        sleep(Duration::from_secs(60)).await;
        assert_eq!(rang(&registry, "a").await.len(), 1, "each timer fires once");
        assert_eq!(unfinished(&registry).await.0.len(), usize::from(is_parked), "{reaction:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_whose_prepare_hangs_delays_no_other() {
    let registry = start();
    for office in 0..3 {
        set_alarm(&registry, &office.to_string(), "bad", Reaction::HangInPrepare).await;
    }
    for office in ["0", "b"] {
        set_alarm(&registry, office, "good", Reaction::Accept).await;
    }
    sleep(Duration::from_secs(11)).await;
    assert_eq!(rang(&registry, "b").await, ["good"]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        rang(&registry, "0").await,
        ["good"],
        "a timer of the same instance waits for at most the deadline"
    );
    // It is tried again, and waits.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rang(&registry, "0").await, ["good"]);
}

/// A store whose clock is `ahead` of the node's clock, or behind it if `ahead` is negative.
#[derive(Debug)]
struct OtherClock {
    store: MemoryStore,
    ahead: Arc<AtomicI64>,
}

impl OtherClock {
    fn shifted(&self, time: SystemTime, sign: i64) -> SystemTime {
        let seconds = sign * self.ahead.load(SeqCst);
        let shift = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { time - shift } else { time + shift }
    }
}

#[async_trait]
impl StoreOverride for OtherClock {
    fn inner(&self) -> &dyn Store {
        &self.store
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let mut loaded = self.store.load(key, receipt).await?;
        if let Some(record) = &mut loaded.record {
            record.due = record.due.map(|due| self.shifted(due, 1));
        }
        Ok(loaded)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        // The store inside has the clock of the node.
        let record = Record { due: record.due.map(|due| self.shifted(due, -1)), ..record.clone() };
        self.store.save(key, &record, expect, receipt).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        let DueKeys { now, keys } = self.store.due(limit).await?;
        Ok(DueKeys { now: self.shifted(now, 1), keys })
    }
}

const HOUR: i64 = 3_600;

fn other_clock(seconds: i64) -> (Arc<Overridden<OtherClock>>, impl Fn() -> Arc<StateRegistry>) {
    follow_tokio_time();
    let store = OtherClock { store: MemoryStore::new(), ahead: Arc::new(seconds.into()) };
    let store = Arc::new(Overridden(store));
    let shared = Arc::clone(&store);
    let start = move || {
        let builder = StateRegistry::builder().store(Arc::clone(&shared));
        offices(builder, &Chores::default()).build().unwrap()
    };
    (store, start)
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_fires_by_the_clock_of_the_store() {
    for ahead in [-HOUR, 0, HOUR] {
        let (store, start) = other_clock(ahead);
        let registry = start();
        // The first poll shows the store's clock.
        sleep(Duration::from_secs(1)).await;
        let office: Handle<Office> = registry.record("a").unwrap();
        let at = store.shifted(now(), 1) + Duration::from_secs(30);
        office.send(SetAlarm { name: "x".into(), at, reaction: Reaction::Accept }).await.unwrap();
        sleep(Duration::from_secs(29)).await;
        assert_eq!(rang(&registry, "a").await.len(), 0, "the store's clock is {ahead} s ahead");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(rang(&registry, "a").await.len(), 1, "the store's clock is {ahead} s ahead");
        sleep(Duration::from_secs(8_000)).await;
        assert_eq!(rang(&registry, "a").await.len(), 1, "it fires once");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_message_of_a_dead_node_waits_by_the_clock_of_the_store() {
    for ahead in [-HOUR, HOUR] {
        let (_store, start) = other_clock(ahead);
        let first = start();
        sleep(Duration::from_secs(1)).await;
        let office: Handle<Office> = first.record("a").unwrap();
        office.send(Send::to("good")).await.unwrap();
        drop((office, first));
        let second = start();
        let office: Handle<Office> = second.record("a").unwrap();
        sleep(Duration::from_secs(4)).await;
        assert_eq!(office.read().await.unwrap().done, 0, "the lease lasts for 5 s");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(office.read().await.unwrap().done, 1, "the store's clock is {ahead} s ahead");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_fires_once_when_the_clock_of_the_store_is_moved() {
    for moved in [-HOUR, HOUR] {
        let (store, start) = other_clock(0);
        let nodes = [start(), start()];
        let office: Handle<Office> = nodes[0].record("a").unwrap();
        for (name, seconds) in [("early", 30), ("late", 120)] {
            let at = now() + Duration::from_secs(seconds);
            office.send(SetAlarm { name: name.into(), at, reaction: Reaction::Accept }).await.unwrap();
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(rang(&nodes[1], "a").await, ["early"]);
        // The store inside does not see its clock move, so the record is saved again.
        store.ahead.store(moved, SeqCst);
        office.send(Open {}).await.unwrap();
        office.send(Send::to("good")).await.unwrap();
        sleep(Duration::from_secs(8_000)).await;
        assert_eq!(rang(&nodes[1], "a").await, ["early", "late"]);
        assert_eq!(office.read().await.unwrap().done, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_record_with_a_timer_of_another_node_does_not_expire() {
    follow_tokio_time();
    let store = Arc::new(MemoryStore::new());
    let start = || {
        let config = StateConfig::record().access(Access::public()).persist().ttl(Duration::from_secs(30));
        let builder = StateRegistry::builder().store(Arc::clone(&store));
        offices_with(builder, &Chores::default(), config).build().unwrap()
    };
    let nodes = [start(), start()];
    let offices = nodes.each_ref().map(|node| node.record::<Office>("a").unwrap());
    offices[1].send(Open {}).await.unwrap();
    let at = now() + Duration::from_secs(300);
    offices[0].send(SetAlarm { name: "x".into(), at, reaction: Reaction::Accept }).await.unwrap();
    // The second node uses the instance, does not know of the timer, and extends the lifetime of its record.
    sleep(Duration::from_secs(5)).await;
    offices[1].read().await.unwrap();
    let mut has_expired = false;
    for _ in 0..285 {
        sleep(Duration::from_secs(1)).await;
        has_expired |= store.load(offices[0].key(), None).await.unwrap().record.is_none();
    }
    assert!(!has_expired);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(rang(&nodes[0], "a").await, ["x"]);
}
