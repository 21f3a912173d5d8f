//! Opens a store by its URL.

use std::{sync::Arc, time::Duration};

use faststate_core::{Store, store::WriteBehind};
use faststate_store_diesel::DieselStore;
use faststate_store_redis::RedisStore;

/// Opens the store at a URL; panics with the reason on failure.
pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    if let Some(url) = url.strip_prefix("hasty+") {
        // A mutant: it responds before it saves.
        return WriteBehind::new(Box::pin(open(url)).await, Duration::from_millis(20));
    }
    let opened = match url.split_once(':') {
        Some(("sqlite", _)) => DieselStore::sqlite(url).await.map(shared),
        Some(("postgres", _)) => DieselStore::postgres(url).await.map(shared),
        Some(("mysql", _)) => DieselStore::mysql(url).await.map(shared),
        Some(("redis", _)) => RedisStore::builder(url).prefix("test").connect().await.map(shared),
        _ => panic!("no store for {url}"),
    };
    opened.unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

fn shared(store: impl Store) -> Arc<dyn Store> {
    Arc::new(store)
}
