//! Events of one key are applied in order of arrival.

use std::{sync::Arc, task::Poll, time::Duration};

use faststate_core::{MemoryStore, Registry, Rejection, Store, Viewer};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use futures::future::join_all;
use parking_lot::Mutex;

use crate::board::{add, board, poll_once, with};

#[tokio::test(start_paused = true)]
async fn events_of_one_key_are_applied_in_order_of_arrival() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(memory);
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    store.set(StoreFault::Slow(Duration::from_millis(1)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let updates: Vec<_> = (0..500)
        .map(|n| {
            let (board, order) = (board.clone(), Arc::clone(&order));
            async move {
                board
                    .update(move |board| {
                        order.lock().push(n);
                        board.count += 1;
                        Ok(())
                    })
                    .await
            }
        })
        .collect();
    // They are polled in this order, so they arrive in this order.
    for outcome in join_all(updates).await {
        outcome.unwrap();
    }
    assert_eq!(*order.lock(), (0..500).collect::<Vec<_>>());
    assert_eq!(board.read().await.unwrap().count, 500);
}

#[test]
fn call_has_no_effect_before_its_first_poll() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registry = runtime.block_on(async { crate::board::registry() });
    let key = registry.key("board", &Viewer::application(), None).unwrap();
    // Called outside a runtime, as in `block_on(registry.dispatch(call))`.
    let (first, second) = (registry.dispatch(add(&key, 1, None)), registry.dispatch(add(&key, 2, None)));
    drop(first);
    runtime.block_on(second).unwrap();
    let count = runtime.block_on(async { board(&registry).read().await.unwrap().count });
    assert_eq!(count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_poll_takes_a_place_in_the_queue() {
    let registry = crate::board::registry();
    let board = board(&registry);
    for _ in 0..200 {
        let before = board.read().await.unwrap().count;
        let slow = board.update(|board| {
            std::thread::sleep(Duration::from_micros(50));
            board.count += 1;
            Ok(())
        });
        let running = tokio::spawn({
            let board = board.clone();
            async move { board.update(|_| Ok(())).await.map(drop) }
        });
        let mut first = Box::pin(slow);
        let at_once = poll_once(&mut first);
        let second = board.update(move |board| {
            if board.count == before + 1 {
                Ok(())
            } else {
                Err(Rejection::conflict("the first event is not applied"))
            }
        });
        second.await.unwrap();
        match at_once {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => first.await,
        }
        .unwrap();
        running.await.unwrap().unwrap();
    }
    registry.settle().await;
}
