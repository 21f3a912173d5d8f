//! Staleness: the signals that clients receive during a store outage.

use std::{sync::Arc, time::Duration};

use faststate_core::MemoryStore;
use faststate_testkit::faults::{FaultyStore, StoreFault};
use http::Request;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::app::{Client, Counter, Doorman, endpoint, last_signals, persisted};

const COUNTER: &str = "/faststate/sse?states=counter";

#[tokio::test(start_paused = true)]
async fn law_13_followers_are_notified_of_store_outage_and_recovery() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let client = Client::of(endpoint(&persisted(&store), &Doorman::default()));
    let (mut page, mut tool) = (client.clone().datastar(), client);
    let mut streams = [page.get(COUNTER).await.patient(), tool.get(COUNTER).await.patient()];
    let first = streams[0].until("_v").await;
    assert!(first.contains(r#"{"_stale":false}"#), "{first}");
    let first = streams[1].until("_v").await;
    assert!(!first.contains("_stale"), "a tool is not sent the initial value: {first}");

    store.set(StoreFault::Hang);
    let asked = Instant::now();
    let (status, problem) = Client::of(tool.endpoint.clone()).increment(1).await.problem().await;
    assert!(matches!(status, 503 | 504) && asked.elapsed() <= Duration::from_secs(2), "{status}");
    assert!(problem["detail"].as_str().unwrap().contains("again"), "{problem}");
    let patched = page.increment(1).await;
    assert_eq!((patched.status(), patched.header("content-type")), (200, "text/event-stream"));
    let patched = patched.text().await;
    assert!(patched.contains("faststate-problem") && patched.contains("again"), "{patched}");
    for stream in &mut streams {
        assert_eq!(last_signals(&stream.until("_stale").await), json!({ "_stale": true }));
    }
    // A page that is rendered now contains the signal, and a stream that opens now sends it first.
    let parts = Request::new(()).into_parts().0;
    let rendered = page.endpoint.page(&parts).await.unwrap();
    assert_eq!(rendered.follow::<Counter>().await.unwrap().count, 0);
    assert!(rendered.signals().contains("_stale") && rendered.signals().contains("true"));
    let mut late = Client::of(tool.endpoint.clone()).get(COUNTER).await.patient();
    assert!(late.until("_v").await.contains(r#"{"_stale":true}"#));

    store.set(StoreFault::None);
    for stream in streams.iter_mut().chain([&mut late]) {
        assert_eq!(last_signals(&stream.until(r#""_stale":false"#).await), json!({ "_stale": false }));
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(Client::of(tool.endpoint.clone()).increment(1).await.status(), 200);
    let rendered = page.endpoint.page(&parts).await.unwrap();
    rendered.follow::<Counter>().await.unwrap();
    assert!(!rendered.signals().contains("true"), "{}", rendered.signals());
}
