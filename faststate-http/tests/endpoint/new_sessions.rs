//! New sessions whose clients send no cookie back.

use std::sync::Arc;

use faststate_core::{Registry as _, StateRegistry, store::MemoryStore};
use faststate_http::endpoint::{Endpoint, Limits, Secret};
use http::Request;

use super::app::{Client, Note, persisted};

const WRITE: &str = "/faststate/note/write";

/// Starts an application over a store for 20 records, with at most 30 new sessions, 10 per address.
fn start() -> (Arc<MemoryStore>, Arc<StateRegistry>, Client) {
    let store = Arc::new(MemoryStore::with_limits(20, 1_000));
    let (registry, client) = over(&store);
    (store, registry, client)
}

fn over(store: &Arc<MemoryStore>) -> (Arc<StateRegistry>, Client) {
    let registry = persisted(store);
    let endpoint = Endpoint::new(Arc::clone(&registry) as _)
        .secret(Secret::from_bytes(&[7; 32]).unwrap())
        .limits(Limits { new_sessions: 30, new_sessions_per_address: 10, ..Limits::default() })
        .trusted_proxy_header("x-forwarded-for".parse().unwrap());
    (registry, Client::of(endpoint).datastar())
}

fn text(text: &str) -> String {
    format!("{{\"text\":\"{text}\"}}")
}

/// Returns the text of the client's note on a page.
async fn shown(client: &Client) -> String {
    let request = Request::builder().header("cookie", client.cookie.as_deref().unwrap());
    let (head, ()) = request.body(()).unwrap().into_parts();
    client.endpoint.page(&head).await.unwrap().follow::<Note>().await.unwrap().text.clone()
}

#[tokio::test]
async fn law_06_events_without_cookies_use_bounded_memory() {
    let (_store, registry, client) = start();
    let mut bob = client.clone().with("x-forwarded-for", "2.2.2.2");
    bob.post(WRITE, text("bob's")).await;
    for _ in 0..200 {
        let mut stranger = client.clone().with("x-forwarded-for", "1.1.1.1");
        assert_eq!(stranger.post(WRITE, text("spam")).await.status(), 200);
    }
    let instances = registry.health().await.instances;
    assert!(instances <= 11, "{instances} instances: ten of the first address, one of the other");
    assert_eq!(shown(&bob).await, "bob's", "another address is not affected");
    for at in 0..19 {
        let mut visitor = client.clone().with("x-forwarded-for", "3.3.3.3");
        visitor.post(WRITE, text("first")).await;
        assert_eq!(
            visitor.post(WRITE, text("second")).await.status(),
            200,
            "the store has room for visitor {at}"
        );
    }
}

#[tokio::test]
async fn law_06_pages_without_cookies_use_bounded_memory() {
    let (_store, registry, client) = start();
    let mut pages = Vec::new();
    for _ in 0..200 {
        let (head, ()) = Request::new(()).into_parts();
        match client.endpoint.page(&head).await {
            Ok(page) => {
                page.follow::<Note>().await.unwrap();
                pages.push(page);
                if pages.len() > 5 {
                    pages.remove(0);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    let instances = registry.health().await.instances;
    assert!(instances <= 10, "{instances}");
    // Pages in use keep their sessions registered, so further requests are refused.
    while let Ok(page) = client.endpoint.page(&Request::new(()).into_parts().0).await {
        pages.push(page);
        assert!(pages.len() <= 10);
    }
    assert_eq!(pages.len(), 10);
    pages.clear();
    assert!(client.endpoint.page(&Request::new(()).into_parts().0).await.is_ok());
}

#[tokio::test]
async fn law_06_returned_sessions_leave_room_for_new_ones() {
    // 33 MiB in total, more than all new sessions together may use.
    const SESSIONS: usize = 580;
    let (_registry, client) = over(&Arc::new(MemoryStore::with_limits(SESSIONS + 10, 10_000)));
    let large = text(&"x".repeat(60_000));
    for _ in 0..SESSIONS {
        let mut client = client.clone();
        assert_eq!(client.post(WRITE, large.clone()).await.status(), 200);
        shown(&client).await;
    }
    let (mut ada, mut bob) = (client.clone(), client);
    ada.post(WRITE, text("ada's")).await;
    bob.post(WRITE, text("bob's")).await;
    assert_eq!(shown(&ada).await, "ada's", "a new session must not displace another one");
}

#[cfg(all(feature = "metrics", feature = "inspector"))]
#[tokio::test]
async fn law_06_probes_and_scrapes_start_no_session() {
    use faststate_http::endpoint::OperatorAccess;

    for access in [OperatorAccess::anybody(), OperatorAccess::when(|_| false)] {
        let (_store, _registry, client) = start();
        let mut client = client.with("x-forwarded-for", "1.1.1.1");
        client.endpoint = client.endpoint.metrics(access.clone()).inspector(access);
        let mut ada = client.clone();
        ada.post(WRITE, text("ada's")).await;
        for _ in 0..20 {
            for path in ["metrics", "health", "live", "inspector", "datastar.js"] {
                client.clone().get(&format!("/faststate/{path}")).await;
            }
        }
        assert_eq!(shown(&ada).await, "ada's", "20 requests without a cookie must not displace a session");
    }
}

#[tokio::test]
async fn law_01_session_is_saved_once_its_cookie_is_returned() {
    let (store, _registry, mut client) = start();
    client.post(WRITE, text("kept")).await;
    assert_eq!(shown(&client).await, "kept");
    let (_restarted, mut later) = over(&store);
    later.cookie = client.cookie.clone();
    assert_eq!(shown(&later).await, "kept");
    client.post(WRITE, text("changed")).await;
    assert_eq!(shown(&client).await, "changed", "it continues from the saved version");
}

#[tokio::test]
async fn law_03_event_that_begins_a_session_is_applied_once() {
    let (_store, _registry, client) = start();
    let mut client = client.with("faststate-event", "first");
    let first = client.post(WRITE, text("x")).await;
    let again = client.post(WRITE, text("x")).await;
    assert_eq!(
        first.header("faststate-version"),
        again.header("faststate-version"),
        "repeated with the cookie"
    );
    let mut other = client.with("faststate-event", "second");
    let next = other.post(WRITE, text("y")).await;
    assert_ne!(first.header("faststate-version"), next.header("faststate-version"));
}
