//! Redis.

use std::sync::Arc;

use faststate_core::{Store, conformance};
use faststate_store_redis::RedisStore;
use faststate_tests::RedisServer;

async fn connect(server: &RedisServer) -> Arc<dyn Store> {
    Arc::new(RedisStore::builder(server.url()).prefix("test").connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises() {
    let server = RedisServer::start();
    let (a, b) = (connect(&server).await, connect(&server).await);
    conformance::store::all(&a, &b).await.unwrap();
}
