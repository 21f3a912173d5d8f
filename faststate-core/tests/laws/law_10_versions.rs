//! Law 10: versions are never reused after a deletion, an expiry, a restart or a restored backup.

use std::{collections::HashMap, sync::Arc, time::Duration};

use faststate_core::{
    Access, Handle, Key, MemoryStore, ReactiveState, Registry as _, Scope, StateConfig, StateRegistry, Store,
    Version, Viewer,
    internal::TopicName,
    store::{Precondition, Record},
};

use serde::{Deserialize, Serialize};

use crate::{
    board::{Add, Board, board, with},
    tab::Tab,
};

/// Every version that was seen, with its count.
#[derive(Default)]
struct Seen(HashMap<Version, i64>);

impl Seen {
    async fn look(&mut self, board: &Handle<Board>) -> (Version, i64) {
        let state = board.read().await.unwrap();
        let known = *self.0.entry(state.version()).or_insert(state.count);
        assert_eq!(known, state.count, "{} had another count", state.version());
        (state.version(), state.count)
    }

    /// Checks that the instance has started over: the default value, under a new epoch.
    async fn starts_over(&mut self, board: &Handle<Board>) {
        let epochs: Vec<_> = self.0.keys().map(|version| version.epoch).collect();
        let (version, count) = self.look(board).await;
        assert_eq!(count, 0);
        assert!(!epochs.contains(&version.epoch), "an epoch was reused");
    }
}

fn registry(memory: &Arc<dyn Store>, ttl: Option<Duration>) -> Arc<StateRegistry> {
    let store = Arc::clone(memory);
    with(
        |builder| builder.store(store),
        |config| match ttl {
            Some(ttl) => config.persist().ttl(ttl),
            None => config.persist(),
        },
    )
}

async fn count_to(board: &Handle<Board>, count: i64, seen: &mut Seen) {
    for _ in 0..count {
        let outcome = board.send(Add { amount: 1 }).await.unwrap();
        assert!(!seen.0.contains_key(&outcome.version), "{} was used before", outcome.version);
        assert_eq!(seen.look(board).await.0, outcome.version);
    }
}

#[tokio::test(start_paused = true)]
async fn law_10_deletion_and_expiry_start_a_new_epoch() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let ttl = Duration::from_secs(5);
    let registry = registry(&memory, Some(ttl));
    let board = board(&registry);
    let mut seen = Seen::default();
    seen.look(&board).await;
    for round in 0..6 {
        count_to(&board, 5, &mut seen).await;
        if round % 2 == 0 {
            board.delete().await.unwrap();
        } else {
            tokio::time::sleep(ttl * 10).await;
        }
        seen.starts_over(&board).await;
    }
}

#[tokio::test]
async fn law_10_deletion_of_an_unsaved_instance_starts_over() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let board = board(&registry(&memory, None));
    let mut seen = Seen::default();
    for _ in 0..5 {
        seen.starts_over(&board).await;
        board.delete().await.unwrap();
    }
}

#[tokio::test]
async fn law_10_restart_continues_at_the_stored_version() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut seen = Seen::default();
    for restart in 0..5 {
        let registry = registry(&memory, None);
        let board = board(&registry);
        assert_eq!(seen.look(&board).await.1, restart * 5);
        count_to(&board, 5, &mut seen).await;
    }
}

#[tokio::test]
async fn law_10_restored_store_starts_a_new_epoch() {
    for restarted in [false, true] {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut running = registry(&memory, None);
        let mut seen = Seen::default();
        let mut tab = Tab::open(&running, &Viewer::application(), &["board", "board.lines"]).await;
        count_to(&board(&running), 3, &mut seen).await;
        let key = board(&running).key().clone();
        let backup = memory.load(&key, None).await.unwrap().record.unwrap();
        count_to(&board(&running), 3, &mut seen).await;
        tab.read();

        // The store is restored from a backup.
        let present = memory.load(&key, None).await.unwrap().record.unwrap();
        memory.delete(&key, present.version).await.unwrap();
        memory.save(&key, &Record { ttl: None, ..backup.clone() }, Precondition::Absent, None).await.unwrap();
        if restarted {
            running = registry(&memory, None);
            tab.connect(&running).await;
        }
        let board = board(&running);
        let outcome = board.send(Add { amount: 10 }).await.unwrap();
        assert!(!seen.0.contains_key(&outcome.version));
        assert_eq!(seen.look(&board).await.1, 13, "restarted: {restarted}");
        count_to(&board, 5, &mut seen).await;
        // A page that has seen the lost versions gets the truth under a new epoch, so that law 5 holds.
        tab.read();
        tab.shows(&board.read().await.unwrap()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn law_10_future_cursors_start_at_most_one_epoch_per_minute() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let registry = registry(&memory, None);
    let board = board(&registry);
    let mut seen = Seen::default();
    count_to(&board, 3, &mut seen).await;
    let mut epochs = std::collections::HashSet::new();
    for _ in 0..100 {
        let present = board.read().await.unwrap();
        assert_eq!(present.count, 3);
        epochs.insert(present.version().epoch);
        let future = Version { seq: 1000, ..present.version() };
        let topic = TopicName::signals("board");
        drop(registry.engine().follow(&topic, &Viewer::application(), Some(future), 1).await.unwrap());
    }
    assert_eq!(epochs.len(), 2);
    // A cursor of another epoch has no effect.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let present = board.read().await.unwrap().version();
    let topic = TopicName::signals("board");
    let other = Version { seq: 1000, ..Version::start() };
    drop(registry.engine().follow(&topic, &Viewer::application(), Some(other), 1).await.unwrap());
    assert_eq!(board.read().await.unwrap().version(), present);
}

/// An integer of more than 64 bits.
const WIDE: u128 = u128::MAX - 7;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Vault {
    units: u128,
}

impl ReactiveState for Vault {
    const NAME: &'static str = "vault";
    const SCHEMA: u32 = 2;
}

#[tokio::test]
async fn law_10_wide_integer_is_readable_after_a_schema_change() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let key = Key::new("vault", Scope::Global, None, None).unwrap();
    let data = format!("{{\"units\":{WIDE}}}");
    let old = Record::new(1, Version::start(), data, None);
    memory.save(&key, &old, Precondition::Absent, None).await.unwrap();
    let config = StateConfig::global().access(Access::public()).persist();
    let registry =
        StateRegistry::builder().store(memory).state::<Vault>(config, |vault| vault).build().unwrap();
    let vault = registry.global::<Vault>().unwrap();
    assert_eq!(vault.read().await.unwrap().units, WIDE);
    let spend = |vault: &mut Vault| {
        vault.units -= 1;
        Ok(())
    };
    vault.update(spend).await.unwrap();
    assert_eq!(vault.read().await.unwrap().units, WIDE - 1);
}
