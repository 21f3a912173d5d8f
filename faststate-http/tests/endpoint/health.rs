//! Health probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Key, MemoryStore, StateRegistry, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use futures::future::join_all;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::app::{Client, Doorman, endpoint, registry_with};

const HEALTH: &str = "/faststate/health";

/// A store that counts its pings.
#[derive(Debug)]
struct Pinged(MemoryStore, AtomicUsize);

#[async_trait]
impl Store for Pinged {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.0.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.0.save(key, record, expect, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.0.delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.0.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.0.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_health_pings_each_store_once_per_second() {
    let store = Arc::new(Pinged(MemoryStore::new(), AtomicUsize::new(0)));
    let pings = || store.1.load(Ordering::SeqCst);
    let builder = StateRegistry::builder().store(Arc::clone(&store));
    let registry = registry_with(builder, |config| config.persist());
    let client = Client::of(endpoint(&registry, &Doorman::default()));
    let ask = || {
        let mut client = client.clone();
        async move { client.get(HEALTH).await.json().await }
    };
    let answers = join_all((0..1_000).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| answer["status"] == json!("ok") && answer["followers"] == json!(0)));
    assert_eq!(pings(), 1, "concurrent requests share one report");
    sleep(Duration::from_secs(1)).await;
    // A request that is dropped does not block the next one.
    assert!(timeout(Duration::from_millis(10), ask()).await.is_err());
    let _stream = client.clone().get("/faststate/sse?states=counter").await;
    assert_eq!(ask().await["followers"], json!(1));
    assert_eq!(pings(), 3);
    sleep(Duration::from_millis(900)).await;
    ask().await;
    assert_eq!(pings(), 3);
    sleep(Duration::from_millis(100)).await;
    ask().await;
    assert_eq!(pings(), 4);
}
