//! SQLite.

use std::sync::Arc;

use faststate_core::{Store, conformance};
use faststate_store_diesel::DieselStore;
use faststate_tests::servers::Folder;

async fn open(folder: &Folder) -> Arc<dyn Store> {
    Arc::new(DieselStore::sqlite(folder.join("test.db")).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_its_promises() {
    let folder = Folder::new();
    let (a, b) = (open(&folder).await, open(&folder).await);
    conformance::store::all(&a, &a).await.unwrap();
    conformance::store::all(&a, &b).await.unwrap();
}

#[tokio::test]
async fn sqlite_needs_no_threads_of_the_runtime() {
    let folder = Folder::new();
    let store = open(&folder).await;
    conformance::store::all(&store, &store).await.unwrap();
}
