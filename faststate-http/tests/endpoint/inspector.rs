//! The inspector: its content and its access.

use std::sync::Arc;

use bytes::Bytes;
use faststate_core::{
    Access, Context, Event, Job, JobContext, MemoryStore, ReactiveState, Rejection, Retry, StateConfig,
    StateRegistry,
};
use faststate_http::endpoint::{Bundle, Endpoint, OperatorAccess};
use faststate_testkit::{App, Browser};
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::app::{Counter, Increment, Write, count, registry};

const INSPECTOR: &str = "/faststate/inspector";

/// Returns the inspected application, and the browser of a developer on the same machine.
fn inspected(access: OperatorAccess) -> (App, Browser) {
    let app = App::of(Endpoint::new(registry()).inspector(access));
    let developer =
        Browser::new(&app).header("host", "localhost:5000").header("authorization", "Bearer t0ken");
    (app, developer)
}

fn increment(amount: i64) -> Increment {
    Increment { amount, user: "<Ada>".into() }
}

#[tokio::test]
async fn events_appear_live_with_difference_and_recipients() {
    let (app, mut developer) = inspected(OperatorAccess::loopback().with_token("t0ken"));
    developer.visit(INSPECTOR).await;
    assert_eq!(developer.status(), 200);
    developer.assert_reads("Nothing yet");
    let mut alice = Browser::new(&app).user("alice");
    alice.follow("counter,counter.shown").await;
    let sent = alice.send(&increment(5)).await.assert_changed();
    developer.reads("1 events").await;
    developer.assert_reads_not("Nothing yet");
    developer.assert_text("li b", "counter.increment");
    developer.assert_text("li .outcome", "changed");
    developer.assert_text("li dl", "count 0 5");
    developer.assert_text("li .who span", "to signals \u{d7} 1, shown \u{d7} 1");
    developer.assert_text("li .version", &format!("version {}", sent.version().unwrap().seq));
    developer.assert_text("li .id", sent.click().event_id().unwrap());
    developer.assert_reads("by alice");

    alice.send(&increment(101)).await.assert_rejected("amount");
    developer.reads("2 events").await;
    developer.assert_text("li .outcome", "rejected");
    developer.assert_text("li .reason", "at most <100>");
    alice.send(&increment(0)).await.assert_unchanged();
    alice.repeat(sent.click()).await.assert_repeated();
    developer.reads("4 events").await;
    developer.assert_text("li .outcome", "repeated");
    assert_eq!(developer.console(), [""; 0]);

    developer.click("Clear").await.assert_changed();
    developer.reads("Nothing yet").await;
    developer.assert_reads_not("rejected");
    alice.send(&Write { text: "x".into() }).await.assert_changed();
    developer.reads("note.write").await;
    let html = developer.html();
    assert!(html.contains("<code>note/s/..</code>"), "the session's id is hidden: {html}");
}

#[tokio::test]
async fn law_06_inspector_keeps_the_latest_200_events() {
    let (app, mut developer) = inspected(OperatorAccess::loopback().with_token("t0ken"));
    developer.visit(INSPECTOR).await;
    let mut alice = Browser::new(&app);
    for amount in 1..=250 {
        alice.send(&increment(amount % 10 + 1)).await.assert_changed();
        if amount % 50 == 0 {
            developer.sees("log.seen", amount).await;
        }
    }
    developer.assert_signal("log.kept", 200);
    assert_eq!(developer.html().matches("<li ").count(), 200);
    let mut late = developer.window();
    late.visit(INSPECTOR).await;
    assert_eq!(late.html().matches("<li ").count(), 200, "a page that opens later shows the same");
    late.assert_text("li b", "counter.increment");
}

#[tokio::test]
async fn law_08_inspector_is_visible_only_to_admitted_viewers() {
    let (app, mut developer) = inspected(OperatorAccess::loopback().with_token("t0ken"));
    let mut stranger = Browser::new(&app);
    let proxied = developer.window().header("host", "localhost").header("x-forwarded-for", "127.0.0.1");
    let plain = App::new(registry());
    let mut nowhere = Browser::new(&plain).header("host", "localhost");
    for browser in [&mut stranger, &mut { proxied }, &mut nowhere] {
        browser.visit(INSPECTOR).await;
        assert_eq!(browser.status(), 404);
        browser.visit("/faststate/inspector/sse?states=log.events").await;
        assert_eq!(browser.status(), 404);
        browser.send("@post('/faststate/inspector/clear')").await.assert_problem("not_found");
    }
    developer.visit(INSPECTOR).await;
    assert_eq!(developer.status(), 200);
    let (_, mut anybody) = inspected(OperatorAccess::role("developer"));
    anybody.visit(INSPECTOR).await;
    assert_eq!(anybody.status(), 404);
    let mut known = anybody.role("developer");
    known.visit(INSPECTOR).await;
    assert_eq!(known.status(), 200);
}

#[tokio::test]
async fn inspector_does_not_change_the_application() {
    let registry = registry();
    let endpoint = Endpoint::new(std::sync::Arc::clone(&registry) as _).inspector(OperatorAccess::anybody());
    let app = App::of(endpoint);
    let mut alice = Browser::new(&app);
    alice.follow("counter").await;
    alice.send(&increment(1)).await.assert_changed();
    alice.settle().await;
    alice.assert_state(&Counter { count: 1 });
    assert_eq!(count(&registry).await, 1);
    let mut developer = Browser::new(&app);
    developer.visit(INSPECTOR).await;
    developer.reads("1 events").await;
    let health = app.registry().health().await;
    assert_eq!(
        (health.events, health.topics, health.instances),
        (1, 1, 1),
        "the inspector's own are not counted"
    );
    assert!(developer.try_follow("log.events").await.is_err());
}

#[tokio::test]
async fn law_08_browser_keeps_the_token_from_the_log_in_a_cookie() {
    let endpoint = Endpoint::new(registry()).inspector(OperatorAccess::loopback().with_token("t0ken"));
    let ask = async |uri: &str, cookie: &str| {
        let request = Request::builder().uri(uri).header("host", "localhost:5000").header("cookie", cookie);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        endpoint.respond(request, Some("127.0.0.1:9".parse().unwrap())).await
    };
    for uri in ["/faststate/inspector", "/faststate/inspector?token=", "/faststate/inspector?token=t0ke"] {
        assert_eq!(ask(uri, "a=b").await.status(), 404, "{uri}");
    }
    let opened = ask("/faststate/inspector?token=t0ken", "").await;
    assert_eq!(
        (opened.status().as_u16(), &opened.headers()["location"]),
        (303, &"/faststate/inspector".parse().unwrap())
    );
    let set = opened.headers()["set-cookie"].to_str().unwrap();
    assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
    let page = ask("/faststate/inspector", set.split(';').next().unwrap()).await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains(&format!("script-src {} 'unsafe-eval';", Bundle::CDN)),
        "the one file, not the whole CDN: {policy}"
    );
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Office {}

impl ReactiveState for Office {
    const NAME: &'static str = "office";
}

#[derive(Serialize, Deserialize)]
struct SendLetter {}

impl Event for SendLetter {
    type State = Office;
    const NAME: &'static str = "send_letter";

    fn apply(&self, _: &mut Office, context: &mut Context<Office>) -> Result<(), Rejection> {
        context.run(Letter {});
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Letter {}

/// The number of attempts to send a letter.
#[derive(Default)]
struct Attempts(Mutex<u32>);

impl Job for Letter {
    const NAME: &'static str = "letter";

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        let attempts = job.resource::<Attempts>().unwrap();
        *attempts.0.lock() += 1;
        Err(Retry::give_up("no <address>"))
    }
}

#[tokio::test]
async fn parked_job_is_shown_and_retried_and_dropped() {
    let config = StateConfig::global().access(Access::public()).persist().sends_messages();
    let registry = StateRegistry::builder()
        .store(Arc::new(MemoryStore::new()))
        .resource(Attempts::default())
        .job::<Letter>()
        .state::<Office>(config, |state| state.event::<SendLetter>())
        .build()
        .unwrap();
    let office = registry.global::<Office>().unwrap();
    let attempts = || *office.resource::<Attempts>().unwrap().0.lock();
    let app = App::of(
        Endpoint::new(Arc::clone(&registry) as _).inspector(OperatorAccess::loopback().with_token("t0ken")),
    );
    let mut developer =
        Browser::new(&app).header("host", "localhost:5000").header("authorization", "Bearer t0ken");
    office.send(SendLetter {}).await.unwrap();
    faststate_core::Registry::settle(&*registry).await;
    assert_eq!(attempts(), 1);
    developer.visit(INSPECTOR).await;
    developer.reads("no <address>").await;
    developer.assert_text("#unfinished .outcome", "parked");
    developer.click("Retry").await.assert_unchanged();
    while attempts() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    developer.reads("no <address>").await;
    developer.click("Drop").await.assert_unchanged();
    developer.sees("messages.count", 0).await;
    developer.assert_reads_not("no <address>");
    assert_eq!(registry.unfinished_messages(9).await.unwrap(), []);
}
