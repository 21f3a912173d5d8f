//! Opens a store by its URL.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Store,
    store::{StoreError, WriteBehind},
};
use faststate_store_diesel::DieselStore;
use faststate_store_redis::RedisStore;

/// Opens the store at a URL; panics with the reason on failure.
pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    if let Some(url) = url.strip_prefix("hasty+") {
        // A mutant: it responds before it saves.
        return WriteBehind::new(Box::pin(open(url)).await, Duration::from_millis(20));
    }
    try_open(url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

/// Opens the store at a URL.
pub(crate) async fn try_open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => DieselStore::sqlite(url).await.map(shared),
        Some(("postgres", _)) => DieselStore::postgres(url).await.map(shared),
        Some(("mysql", _)) => DieselStore::mysql(url).await.map(shared),
        Some((scheme, _)) if scheme.starts_with("redis") => {
            RedisStore::builder(url).prefix("test").connect().await.map(shared)
        }
        _ => panic!("no store for {url}"),
    }
}

fn shared(store: impl Store) -> Arc<dyn Store> {
    Arc::new(store)
}
