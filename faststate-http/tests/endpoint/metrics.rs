//! The metrics: their access, format and values.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use faststate_core::MemoryStore;
use faststate_http::endpoint::{Endpoint, Limits, OperatorAccess};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use http::{Method, Request};
use http_body_util::Full;

use super::app::{Client, Doorman, Increment, endpoint, persisted, registry};

const METRICS: &str = "/faststate/metrics";

fn open(endpoint: Endpoint) -> Client {
    Client::of(endpoint.metrics(OperatorAccess::anybody()))
}

/// Requests the metrics; returns each sample by its name and labels.
async fn scraped(client: &Client) -> BTreeMap<String, f64> {
    let answer = client.clone().get(METRICS).await;
    assert_eq!(
        (answer.status(), answer.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    parsed(&answer.text().await)
}

/// Parses the text as strictly as `promtool check metrics`.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut families: HashSet<&str> = HashSet::new();
    let (mut family, mut kind) = ("", "");
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} comes twice");
            assert!(name.starts_with("faststate_") && !help.is_empty(), "{line}");
            (family, kind) = (name, "");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                kind.is_empty()
                    && samples.keys().all(|known: &String| !known.starts_with(&format!("{family}{{")))
            );
            kind = rest.strip_prefix(family).unwrap().trim();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| {
            (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))
        });
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        let mut names = HashSet::new();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').unwrap();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            assert!(
                names.insert(name) && value.len() >= 2 && value.starts_with('"') && value.ends_with('"'),
                "{line}"
            );
        }
        assert_eq!(names.contains("le"), suffix == "_bucket", "{line}");
        let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value >= 0.0 && samples.insert(series.to_owned(), value).is_none(), "{line} comes twice");
    }
    histograms_add_up(&samples);
    samples
}

fn histograms_add_up(samples: &BTreeMap<String, f64>) {
    let counts = samples.iter().filter(|(series, _)| series.contains("_count{"));
    for (series, count) in counts {
        let labels = series.split_once('{').unwrap().1.strip_suffix('}').unwrap();
        let base = series.split_once("_count{").unwrap().0;
        let buckets = samples.iter().filter_map(|(bucket, below)| {
            let rest = bucket.strip_prefix(&format!("{base}_bucket{{{labels},le=\""))?;
            let bound = rest.strip_suffix("\"}")?;
            Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, *below))
        });
        let mut buckets: Vec<(f64, f64)> = buckets.collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{series}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        assert!(samples.contains_key(&format!("{base}_sum{{{labels}}}")), "{series}");
    }
}

#[tokio::test]
async fn law_08_metrics_are_visible_only_to_admitted_viewers() {
    let endpoint = endpoint(&registry(), &Doorman::default());
    for (endpoint, status) in [
        (endpoint.clone(), 404),
        (endpoint.clone().metrics(OperatorAccess::loopback()), 404),
        (endpoint.clone().metrics(OperatorAccess::role("keeper")), 404),
        (endpoint.clone().metrics(OperatorAccess::anybody()), 200),
    ] {
        let mut client = Client::of(endpoint);
        let answer = client.get(METRICS).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("set-cookie"), "", "a scrape begins no session");
        let unknown = client.get("/faststate/nothing").await.text().await;
        assert_eq!(answer.text().await == unknown, status == 404);
    }
    let keeper = Client::of(endpoint.clone().metrics(OperatorAccess::role("keeper"))).with("x-user", "kim");
    assert_eq!(keeper.clone().get(METRICS).await.status(), 200);
    let local = endpoint.metrics(OperatorAccess::loopback().with_token("t0ken"));
    for (header, query, status) in
        [("accept", "?token=t0ken", 200), ("x-forwarded-for", "?token=t0ken", 404), ("accept", "", 404)]
    {
        let uri = format!("{METRICS}{query}");
        let request =
            Request::builder().uri(uri).header("host", "localhost:5000").header(header, "127.0.0.1");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = local.respond(request, Some("127.0.0.1:9".parse().unwrap())).await;
        assert_eq!(response.status(), status, "{header}");
    }
    assert_eq!(keeper.clone().send(Method::POST, METRICS, "").await.status(), 405);
}

#[tokio::test]
async fn metrics_count_events_frames_and_streams() {
    let client = open(endpoint(&registry(), &Doorman::default()));
    let before = scraped(&client).await;
    let mut page = client.clone().datastar();
    let mut stream = page.get("/faststate/sse?states=counter,counter.shown").await;
    stream.until("shown").await;
    for amount in [1, 2, 0, 101, 13] {
        page.increment(amount).await;
    }
    page.clone().with("faststate-event", "x1").increment(1).await;
    page.clone().with("faststate-event", "x1").increment(1).await;
    page.post("/faststate/counter/increment", "{\"amount\":\"some\"}").await;
    page.post("/faststate/counter/no_such_event", "{}").await;
    stream.until("\"count\":4").await;
    let after = scraped(&client).await;
    let grown = |series: &str| after[series] - before[series];
    let events = |outcome: &str| {
        grown(&format!(
            "faststate_events_total{{state=\"counter\",event=\"increment\",outcome=\"{outcome}\"}}"
        ))
    };
    for (outcome, count) in [
        ("changed", 3.0),
        ("unchanged", 1.0),
        ("repeated", 1.0),
        ("rejected", 1.0),
        ("internal", 1.0),
        ("input", 1.0),
        ("unknown", 0.0),
    ] {
        assert!((events(outcome) - count).abs() < 0.1, "{outcome}: {}", events(outcome));
    }
    assert_eq!(grown("faststate_event_duration_seconds_count{state=\"counter\",event=\"increment\"}"), 8.0);
    assert_eq!(
        grown("faststate_frames_total{state=\"counter\"}"),
        6.0,
        "three changes for each of two topics"
    );
    assert!(grown("faststate_frame_bytes_total{state=\"counter\"}") > 300.0);
    // Three changes and the repeated event, whose receipt is in the store.
    assert_eq!(grown("faststate_store_call_duration_seconds_count{store=\"memory\",call=\"save\"}"), 4.0);
    assert_eq!((after["faststate_streams"], grown("faststate_streams_opened_total")), (1.0, 1.0));
    assert!(grown("faststate_stream_writes_total") >= 2.0);
    assert!(grown("faststate_stream_bytes_total") > 500.0);
    assert_eq!((after["faststate_topics"], after["faststate_followers"]), (2.0, 2.0));
    assert_eq!(after["faststate_store_up{store=\"memory\"}"], 1.0);
}

#[tokio::test]
async fn metrics_show_store_failures_and_reached_limits() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = persisted(&store);
    registry
        .global::<super::app::Counter>()
        .unwrap()
        .send(Increment { amount: 1, user: String::new() })
        .await
        .unwrap();
    let limits = Limits { streams_per_session: 1, ..Limits::default() };
    let mut client = open(endpoint(&registry, &Doorman::default()).limits(limits));
    client.increment(1).await;
    let first =
        client.clone().with("sec-fetch-site", "same-origin").get("/faststate/sse?states=counter").await;
    let second =
        client.clone().with("sec-fetch-site", "same-origin").get("/faststate/sse?states=counter").await;
    assert_eq!((first.status(), second.status()), (200, 429));
    store.set(StoreFault::Fail);
    client.clone().with("sec-fetch-site", "same-origin").increment(1).await;
    let seen = scraped(&client).await;
    assert_eq!(seen["faststate_store_up{store=\"default\"}"], 0.0);
    assert!(seen["faststate_store_failures_total{store=\"default\",call=\"save\"}"] >= 1.0, "{seen:?}");
    assert_eq!(seen["faststate_streams_refused_total{limit=\"session\"}"], 1.0);
    let own = "faststate_events_total{state=\"counter\",event=\"(application)\",outcome=\"changed\"}";
    assert_eq!(seen[own], 1.0);
}

#[tokio::test]
async fn law_06_labels_contain_no_text_from_browsers() {
    let client = open(endpoint(&registry(), &Doorman::default()));
    let before: BTreeSet<_> = scraped(&client).await.into_keys().collect();
    let mut page = client.clone().datastar().with("x-user", "mallory");
    for id in ["mallory1", "mallory2"] {
        page.post(&format!("/faststate/vault/{id}/deposit"), "{\"gold\":1}").await;
        page.post(&format!("/faststate/{id}/{id}"), "{}").await;
        page.clone().with("faststate-event", id).increment(1).await;
        page.get(&format!("/faststate/sse?states=vault:{id},{id}")).await;
    }
    assert_eq!(scraped(&client).await.into_keys().collect::<BTreeSet<_>>(), before);
}

#[tokio::test]
async fn metrics_are_read_through_a_maintenance_gate() {
    let gate = faststate_core::registry::MaintenanceGate::new(registry(), "closed");
    let client = open(Endpoint::new(Arc::new(gate)));
    assert!(scraped(&client).await.keys().any(|series| series.contains("state=\"counter\"")));
}
