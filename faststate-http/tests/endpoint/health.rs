//! Health probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{MemoryStore, Store, store::StoreError};
use faststate_testkit::faults::{Overridden, StoreOverride};
use futures::future::join_all;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::app::{Client, Doorman, endpoint, persisted};

const HEALTH: &str = "/faststate/health";

/// A store that counts its pings.
#[derive(Debug, Default)]
struct Pinged {
    inner: MemoryStore,
    pings: AtomicUsize,
}

#[async_trait]
impl StoreOverride for Pinged {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.pings.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(100)).await;
        self.inner.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_health_pings_each_store_once_per_second() {
    let store = Arc::new(Overridden(Pinged::default()));
    let pings = || store.pings.load(Ordering::SeqCst);
    let registry = persisted(&store);
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
