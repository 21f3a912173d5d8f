//! Streams: cursors, refusals, access while they are open, limits, and their end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::Error;
use faststate_http::endpoint::{Endpoint, Identity, Limits};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::app::{
    Client, Counter, Doorman, Increment, cursors, endpoint, last_signals, registry, start, viewer_of,
};

const COUNTER: &str = "/faststate/sse?states=counter";

#[tokio::test]
async fn stream_sends_a_snapshot_and_then_changes() {
    let (_, mut client) = start();
    let mut stream = client.get(COUNTER).await;
    assert_eq!((stream.status(), stream.header("content-type")), (200, "text/event-stream"));
    assert_eq!(stream.header("cache-control"), "no-cache, no-transform");
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let first = stream.until("\nid: ").await;
    let retry: u64 = first.strip_prefix("retry: ").unwrap().lines().next().unwrap().parse().unwrap();
    assert!((800..=2400).contains(&retry));
    assert_eq!(last_signals(&first)["counter"]["count"], 0);
    client.datastar().increment(3).await;
    assert_eq!(last_signals(&stream.until("_v").await)["counter"]["count"], 3);
}

#[tokio::test]
async fn law_04_stream_resumes_from_cursors() {
    let (_, client) = start();
    let mut page = client.datastar();
    // A topic keeps its frames as long as it has a follower.
    let mut other = page.get(COUNTER).await;
    other.until("_v").await;
    page.increment(7).await;
    let first = last_signals(&other.until("\"count\":7").await);
    page.increment(1).await;
    page.increment(1).await;
    let resumed = |cursors: Value| {
        let uri = format!("{COUNTER}&datastar={}", self::cursors(&cursors));
        let mut page = page.clone();
        async move { page.get(&uri).await }
    };
    let version = first["counter"]["_v"].clone();
    let behind = resumed(json!({"counter": {"_v": version}})).await.until("\"count\":9").await;
    assert!(!behind.contains("\"count\":8"), "one patch with all missed changes: {behind}");
    let current = last_signals(&behind)["counter"]["_v"].clone();
    let mut current = resumed(json!({"counter": {"_v": current}})).await;
    let retry = current.piece().await.unwrap();
    assert!(retry.starts_with("retry: ") && !retry.contains("counter"), "no change was missed: {retry}");
    let mut writer = page.clone();
    let mut notes = writer.get("/faststate/sse?states=note").await;
    assert!(notes.until("_v").await.contains("title"));
    writer.post("/faststate/note/write", "{\"text\":\"a\"}").await;
    let first = last_signals(&notes.until("\"text\":\"a\"").await);
    for text in ["b", "c"] {
        writer.post("/faststate/note/write", format!("{{\"text\":\"{text}\"}}")).await;
    }
    let cursor = cursors(&json!({"note": {"_v": first["note"]["_v"]}}));
    let uri = format!("/faststate/sse?states=note&datastar={cursor}");
    let behind = writer.clone().get(&uri).await.until("\"text\":\"c\"").await;
    assert!(!behind.contains("title") && !behind.contains("\"text\":\"b\""), "no snapshot: {behind}");
    for garbage in [json!({"counter": {"_v": "garbage"}}), json!({"counter": "x"}), json!([1])] {
        let snapshot = resumed(garbage).await.until("_v").await;
        assert_eq!(last_signals(&snapshot)["counter"]["count"], 9);
    }
}

#[tokio::test]
async fn law_04_stream_resumes_from_last_event_id() {
    let (_, mut client) = start();
    let mut other = client.get(COUNTER).await;
    other.until("\nid: ").await;
    client.clone().datastar().increment(7).await;
    let first = other.until("\nid: ").await;
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    client = client.with("sec-fetch-site", "same-origin");
    client.increment(4).await;
    client.increment(5).await;
    let mut resumed = client.clone().with("last-event-id", &*id).get(COUNTER).await;
    let text = resumed.until("\nid: ").await;
    assert!(text.contains("\"count\":16") && !text.contains("\"count\":11"), "in one patch: {text}");
    let newest = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let mut current = client.clone().with("last-event-id", &*newest).get(COUNTER).await;
    assert!(!current.piece().await.unwrap().contains("counter"), "no change was missed");
    let two =
        client.with("last-event-id", id).get("/faststate/sse?states=counter,note").await.until("note").await;
    assert!(!two.contains("\nid: "), "an id cannot stand for two topics: {two}");
}

#[tokio::test]
async fn topics_of_a_list_share_a_stream() {
    let (_, client) = start();
    let mut page = client.datastar();
    let mut stream = page.get("/faststate/sse?states=counter,note,counter.shown,counter").await;
    let first = stream.until("note").await;
    assert!(first.contains("<p id=\"shown\">0</p>"), "{first}");
    assert_eq!(first.matches("\"count\":0").count(), 1, "each topic once: {first}");
    page.increment(2).await;
    let news = stream.piece().await.unwrap();
    assert!(news.contains("\"count\":2") && news.contains("<p id=\"shown\">2</p>"), "one piece: {news}");
    assert!(news.contains("\"_shown\":{\"_v\""), "{news}");
}

#[tokio::test]
async fn bad_topic_lists_are_refused() {
    let (_, client) = start();
    let many = (0..33).map(|at| format!("vault:v{at}")).collect::<Vec<_>>().join(",");
    for query in [
        "",
        "?states=",
        "?states=,",
        "?states=counter&states=note",
        "?states=Counter",
        "?states=counter.",
        "?states=a__b",
        "?states=constructor",
        "?states=counter:%25ff",
        &format!("?states={many}"),
    ] {
        let uri = format!("/faststate/sse{query}");
        let (status, problem) = client.clone().get(&uri).await.problem().await;
        assert_eq!(status, 400, "{query}: {problem}");
        let mut page = client.clone().datastar();
        let text = page.get(&uri).await.text().await;
        assert!(text.contains("{\"_stream\":{\"_v\":\"gone\"}}"), "{query}: {text}");
        let mark = cursors(&json!({"_stream": {"_v": "gone"}}));
        let again = format!("{uri}{}datastar={mark}", if query.is_empty() { '?' } else { '&' });
        assert_eq!(page.get(&again).await.status(), 204, "{query}");
    }
}

#[tokio::test]
async fn law_08_topics_of_other_viewers_are_refused() {
    let (_, client) = start();
    let topics = ["vault:v1", "vault:none", "nothing", "note:1", "vault", "counter.nothing", "counter:1"];
    for topic in topics {
        let uri = format!("/faststate/sse?states={topic}");
        let (status, problem) = client.clone().get(&uri).await.problem().await;
        assert_eq!((status, &problem["kind"]), (404, &Value::Null), "{topic}");
        // A page gets the notice once, and then a 204.
        let mut page = client.clone().datastar();
        let text = page.get(&uri).await.text().await;
        assert!(
            text.contains("\"_v\":\"gone\"") && text.contains("not found, or not yours"),
            "{topic}: {text}"
        );
        let line = text.lines().find(|line| line.contains("gone")).unwrap();
        let mark: Value = serde_json::from_str(line.strip_prefix("data: signals ").unwrap()).unwrap();
        let again = page.get(&format!("{uri}&datastar={}", cursors(&mark))).await;
        assert_eq!(again.status(), 204, "{topic}");
    }
    assert_eq!(client.clone().get("/faststate/sse?states=profile").await.status(), 401);
}

#[tokio::test]
async fn law_08_forbidden_topic_does_not_stop_the_others() {
    let (_, client) = start();
    let mut page = client.datastar();
    let mut stream = page.get("/faststate/sse?states=vault:v1,counter").await;
    let text = stream.until("\"count\":0").await;
    assert!(text.contains("{\"vault\":{\"v1\":{\"_gone\":true,\"_v\":\"gone\"}}}"), "{text}");
    page.increment(1).await;
    stream.until("\"count\":1").await;
}

#[tokio::test]
async fn law_08_cross_site_stream_is_refused() {
    let (_, mut client) = start();
    client.increment(0).await;
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")]
    {
        assert_eq!(client.clone().with(name, value).get(COUNTER).await.status(), 403, "{value}");
    }
    assert_eq!(client.clone().get(COUNTER).await.status(), 403, "a cookie and neither header");
    assert_eq!(client.clone().with("sec-fetch-site", "none").get(COUNTER).await.status(), 200, "typed");
    assert_eq!(client.datastar().get(COUNTER).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn law_08_access_is_rechecked_while_a_stream_is_open() {
    let (registry, doorman) = (registry(), Doorman::default());
    let mut keeper = Client::of(endpoint(&registry, &doorman)).datastar().with("x-user", "ann");
    let uri = "/faststate/sse?states=vault:v1,counter";
    let mut stream = keeper.get(uri).await.patient();
    stream.until("\"count\":0").await;
    doorman.close();
    let start = tokio::time::Instant::now();
    let text = stream.until("gone").await;
    assert!(start.elapsed() <= Duration::from_secs(300), "{:?}", start.elapsed());
    assert!(text.contains("{\"vault\":{\"v1\":{\"_gone\":true,\"_v\":\"gone\"}}}"), "{text}");
    registry.global::<Counter>().unwrap().send(Increment { amount: 1, user: String::new() }).await.unwrap();
    stream.until("\"count\":1").await;
}

#[tokio::test]
async fn law_08_closing_streams_ends_them_at_once() {
    let (registry, doorman) = (registry(), Doorman::default());
    let client = Client::of(endpoint(&registry, &doorman)).datastar();
    let (mut ann, mut bob) = (client.clone().with("x-user", "ann"), client.with("x-user", "bob"));
    let uri = "/faststate/sse?states=vault:v1";
    let (mut anns, mut bobs) = (ann.get(uri).await, bob.get(uri).await);
    anns.until("gold").await;
    bobs.until("gold").await;
    doorman.close();
    assert_eq!(ann.endpoint.close_streams(viewer_of("ann")), 1);
    let rest = anns.text().await;
    assert!(
        rest.contains("retry: ") && !rest.contains("faststate-problem"),
        "the closed stream has no notice: {rest}"
    );
    // The page reconnects with its current identity and gets the notice once.
    let text = ann.get(uri).await.text().await;
    assert!(text.contains("\"_v\":\"gone\"") && text.contains("faststate-problem"), "{text}");
    let mark = cursors(&json!({"vault": {"v1": {"_v": "gone"}}}));
    assert_eq!(ann.get(&format!("{uri}&datastar={mark}")).await.status(), 204);
    assert_eq!(bob.endpoint.connections(), 1, "bob's stream stays open");
}

#[tokio::test]
async fn law_08_closing_streams_affects_an_opening_stream() {
    let registry = registry();
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asks, may_answer, signed_out) =
        (Arc::clone(&asked), Arc::clone(&answer), Arc::new(AtomicBool::new(false)));
    let logout = Arc::clone(&signed_out);
    let endpoint = Endpoint::new(Arc::clone(&registry) as _).identity(move |_| {
        let identity = match signed_out.load(Ordering::SeqCst) {
            false => Identity::user("ann").with_role("keeper"),
            true => Identity::nobody(),
        };
        asks.notify_one();
        let may_answer = Arc::clone(&may_answer);
        async move {
            may_answer.notified().await;
            identity
        }
    });
    let mut client = Client::of(endpoint.clone()).datastar();
    let opening = tokio::spawn(async move { client.get("/faststate/sse?states=vault:v1").await });
    asked.notified().await;
    logout.store(true, Ordering::SeqCst);
    assert_eq!(endpoint.close_streams(|_| true), 0, "it is not open yet");
    answer.notify_one();
    let mut stream = opening.await.unwrap();
    answer.notify_one();
    let text = stream.until("gone").await;
    assert!(!text.contains("gold"), "{text}");
}

#[tokio::test]
async fn identity_error_does_not_sign_the_user_out() {
    let registry = registry();
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let endpoint = Endpoint::new(Arc::clone(&registry) as _).identity(move |_| {
        let identity = match is_away.load(Ordering::SeqCst) {
            false => Ok(Identity::user("ann").with_role("keeper")),
            true => Err(Error::TimedOut),
        };
        std::future::ready(identity)
    });
    let mut client = Client::of(endpoint).datastar();
    let uri = "/faststate/sse?states=vault:v1";
    assert_eq!(client.get(uri).await.status(), 503);
    away.store(false, Ordering::SeqCst);
    client.get(uri).await.until("gold").await;
}

#[tokio::test]
async fn closed_stream_resumes_when_still_allowed() {
    let (_, client) = start();
    let mut page = client.datastar();
    let mut stream = page.get(COUNTER).await;
    stream.until("_v").await;
    page.endpoint.close_streams(|_| true);
    assert!(!stream.text().await.contains("gone"));
    let text = page.get(COUNTER).await.until("_v").await;
    assert!(text.contains("\"count\":0") && !text.contains("faststate-problem"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn law_14_idle_stream_sends_a_ping_every_15_seconds() {
    let (_, mut client) = start();
    let mut stream = client.get(COUNTER).await.patient();
    stream.until("\nid: ").await;
    for _ in 0..50 {
        let start = tokio::time::Instant::now();
        assert_eq!(stream.piece().await.unwrap(), ": ping\n\n");
        let silence = start.elapsed();
        assert!(
            silence > Duration::from_millis(14_900) && silence < Duration::from_millis(15_100),
            "{silence:?}"
        );
    }
    client.datastar().increment(1).await;
    stream.until("\"count\":1").await;
    assert_eq!(stream.piece().await.unwrap(), ": ping\n\n");
}

#[tokio::test]
async fn law_06_stream_caps_refuse_and_never_evict() {
    let registry = registry();
    let limits = Limits { streams: 2, streams_per_session: 1, ..Limits::default() };
    let endpoint = endpoint(&registry, &Doorman::default()).limits(limits);
    let mut ann = Client::of(endpoint.clone()).with("sec-fetch-site", "same-origin");
    let mut stream = ann.get(COUNTER).await;
    let answer = ann.get(COUNTER).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, "5"));
    let second = Client::of(endpoint.clone()).get(COUNTER).await;
    let answer = Client::of(endpoint.clone()).datastar().get(COUNTER).await;
    assert_eq!(answer.status(), 503, "Datastar tries again later");
    stream.until("\"count\":0").await;
    drop(second);
    assert_eq!(Client::of(endpoint).get(COUNTER).await.status(), 200);
}

#[tokio::test]
async fn law_06_ended_streams_leave_no_followers() {
    let (registry, client) = start();
    for at in 0..1_000 {
        let mut stream = client.clone().get("/faststate/sse?states=counter,counter.shown,note").await;
        if at % 2 == 0 {
            stream.until("_v").await;
        }
    }
    assert_eq!(client.endpoint.connections(), 0);
    let health = client.clone().get("/faststate/health").await.json().await;
    assert_eq!((&health["followers"], &health["topics"]), (&json!(0), &json!(0)), "{health}");
    drop(registry);
}

#[tokio::test(start_paused = true)]
async fn law_15_drain_ends_streams_over_its_window() {
    let (_, client) = start();
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = client.clone().get(COUNTER).await.patient();
        stream.until("\nid: ").await;
        streams.push(stream);
    }
    let start = tokio::time::Instant::now();
    let ends = streams.into_iter().map(|stream| {
        tokio::spawn(async move {
            let rest = stream.text().await;
            assert_eq!(rest, "", "nothing but the end");
            start.elapsed()
        })
    });
    let ends: Vec<_> = ends.collect();
    client.endpoint.drain(Duration::from_secs(10)).await;
    assert!(start.elapsed() < Duration::from_millis(10_500));
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.unwrap());
    }
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(
        *first < Duration::from_secs(3) && *last > Duration::from_secs(7),
        "spread: {first:?} to {last:?}"
    );
    let late = client.clone().get(COUNTER).await;
    assert_eq!(late.status(), 200, "an `EventSource` never retries after an error status");
    let text = late.text().await;
    assert!(text.starts_with("retry: ") && text.lines().count() == 2, "only the reconnection delay: {text}");
    assert_eq!(client.clone().get("/faststate/health").await.status(), 503);
    let answer = client.clone().send(Method::POST, "/faststate/counter/increment?amount=1", "").await;
    assert_eq!(answer.status(), 200, "late events are answered");
}

#[tokio::test(start_paused = true)]
async fn law_13_request_fails_when_identity_hangs() {
    let registry = registry();
    let endpoint = Endpoint::new(Arc::clone(&registry) as _).identity(|_| std::future::pending::<Identity>());
    let mut client = Client::of(endpoint);
    let start = tokio::time::Instant::now();
    assert_eq!(client.increment(1).await.status(), 503);
    assert_eq!(client.clone().get(COUNTER).await.status(), 503);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn law_08_stream_ends_when_identity_hangs_at_recheck() {
    let registry = registry();
    let hangs = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hangs);
    let endpoint = Endpoint::new(Arc::clone(&registry) as _).identity(move |_| {
        let hangs = asked.load(Ordering::SeqCst);
        async move { if hangs { std::future::pending().await } else { Identity::nobody() } }
    });
    let mut stream = Client::of(endpoint).datastar().get(COUNTER).await.patient();
    stream.until("_v").await;
    hangs.store(true, Ordering::SeqCst);
    let start = tokio::time::Instant::now();
    let rest = stream.text().await;
    assert!(
        start.elapsed() < Duration::from_secs(310) && !rest.contains("gone"),
        "the page may reconnect: {rest}"
    );
}

#[tokio::test]
async fn stream_signals_that_the_browser_blocks_cookies() {
    let (_, client) = start();
    let mut blocked = client.datastar();
    let first = blocked.get("/faststate/sse?states=note").await.until("\"title\"").await;
    assert!(first.contains("data: signals {\"_cookies_blocked\":true}"), "{first}");
    // The first response set a cookie, which this client sends back.
    let second = blocked.get("/faststate/sse?states=note").await.until("\"title\"").await;
    assert!(!second.contains("_cookies_blocked"), "{second}");
}
