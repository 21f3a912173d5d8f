//! Requests of actions, and the effects of their responses.

use std::collections::BTreeSet;

use faststate::{Context, Event, ReactiveState, Rejection};
use faststate_tests::{Answer, Page, Request, Session, Site};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{site, visit};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

/// The event of the tested action.
#[derive(Default, Serialize, Deserialize)]
struct Act {
    amount: i64,
    note: String,
}

impl Event for Act {
    type State = Counter;
    const NAME: &'static str = "act";
    const PATH: Option<&'static str> = Some("/act");

    fn apply(&self, _: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        Ok(())
    }
}

const SIGNALS: &str = "{counter: {count: 1, _v: 'v'}, _private: 'p', note: ''}";

/// A page with a button that runs this action, and the responses of `/act`.
fn button(action: &str, answers: impl Into<Vec<Answer>>) -> Site {
    let body = format!(
        r#"<body data-signals="{SIGNALS}"><button data-on:click="{action}">Go</button>
        <p id="count" data-text="$counter.count"></p><p id="note" data-text="$note"></p><p id="target">old</p>"#
    );
    site(&body).on("/act", answers.into())
}

/// The action's text in a template.
fn act() -> String {
    Act { amount: 1, note: String::new() }.action().to_string()
}

fn done() -> Answer {
    Answer::Whole(204, "", String::new())
}

fn event_id(request: &Request) -> &str {
    request.header("faststate-event").expect("an action names its event")
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&request.body).expect("an action's body is JSON")
}

/// Clicks once on such a page; returns all resulting requests.
fn clicked(action: &str, answers: impl Into<Vec<Answer>>, requests: usize) -> (Site, Page, Vec<Request>) {
    let site = button(action, answers);
    let page = visit(&site);
    page.click("button");
    let requests = site.requested("/act", requests);
    (site, page, requests)
}

#[test]
fn a_payload_goes_out_alone_with_the_event_id() {
    let (_site, _page, requests) = clicked(&act(), [done()], 1);
    let request = &requests[0];
    assert_eq!((&*request.method, body(request)), ("POST", json!({ "amount": 1, "note": "" })));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("datastar-request"), Some("true"));
    assert_eq!(request.header("faststate-follows"), Some("counter"));
    let id = event_id(request);
    assert!(id.len() <= 64 && id.split('-').count() == 4, "{id}");
}

#[test]
fn without_a_payload_every_signal_but_underscores_goes_out() {
    let (_site, _page, requests) = clicked("@post('/act')", [done()], 1);
    assert_eq!(body(&requests[0]), json!({ "counter": { "count": 1 }, "note": "" }));
}

#[test]
fn get_and_delete_send_a_query_and_the_rest_a_body() {
    for (action, method) in [("get", "GET"), ("delete", "DELETE")] {
        let (_site, page, requests) =
            clicked(&format!("@{action}('/act?a=1',{{payload:{{'x':'é&='}}}})"), [done()], 1);
        assert_eq!((&*requests[0].method, &*requests[0].body), (method, ""));
        let query = json!(requests[0].query);
        assert_eq!(page.eval(&format!("new URLSearchParams({query}).get('datastar')")), r#"{"x":"é&="}"#);
        assert_eq!(page.eval(&format!("new URLSearchParams({query}).get('a')")), "1");
    }
    for (action, method) in [("post", "POST"), ("put", "PUT"), ("patch", "PATCH")] {
        let (_site, _page, requests) =
            clicked(&format!("@{action}('/act',{{payload:{{'x':1}}}})"), [done()], 1);
        assert_eq!((&*requests[0].method, &*requests[0].query), (method, ""));
        assert_eq!(body(&requests[0]), json!({ "x": 1 }));
    }
}

#[test]
fn a_double_click_sends_two_events() {
    let site = button(&act(), [done()]);
    let page = visit(&site);
    page.double_click("button");
    let requests = site.requested("/act", 2);
    let ids: BTreeSet<_> = requests.iter().map(event_id).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn an_event_does_not_cut_off_the_answer_to_the_one_before() {
    let site = button(&act(), [Answer::Stream("")]);
    let page = visit(&site);
    page.click("button");
    site.streaming("/act", 1);
    page.click("button");
    site.streaming("/act", 2);
    site.patch("/act", r#"{"counter":{"count":2}}"#);
    page.shows("#count", "2");
    assert_eq!(
        page.eval("fetches"),
        json!(["started", "started", "datastar-patch-signals", "datastar-patch-signals"])
    );
}

#[test]
fn the_default_cancellation_would_cut_it_off() {
    let site = button("@post('/act')", [Answer::Stream("")]);
    let page = visit(&site);
    page.click("button");
    site.streaming("/act", 1);
    page.click("button");
    let _ = site.requested("/act", 2);
    site.streaming("/act", 1);
}

#[test]
fn a_network_error_is_retried_as_the_same_event() {
    let (_site, page, requests) = clicked(&act(), [Answer::Nothing, Answer::Nothing, done()], 3);
    page.expect_complaints(&["ERR_EMPTY_RESPONSE"]);
    let ids: BTreeSet<_> = requests.iter().map(event_id).collect();
    assert_eq!(ids.len(), 1);
    assert!(requests.iter().all(|request| body(request) == json!({ "amount": 1, "note": "" })));
}

#[test]
fn an_answer_cut_off_is_retried_as_the_same_event() {
    let cut = Answer::Cut("text/event-stream", "retry: 10\n\n");
    let (_site, page, requests) = clicked(&act(), [cut.clone(), cut, done()], 3);
    page.expect_complaints(&["ERR_CONTENT_LENGTH_MISMATCH"]);
    let ids: BTreeSet<_> = requests.iter().map(event_id).collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn a_retry_sends_the_same_payload_but_collects_signals_again() {
    // This is the reason why an action sends its input as payload.
    let change = "$note = 'changed'";
    for (action, first, second) in [
        (Act::default().action().bind("note", "note").to_string(), "", ""),
        ("@post('/act')".to_owned(), "", "changed"),
    ] {
        let (_site, page, requests) = clicked(&format!("{action}; {change}"), [Answer::Nothing, done()], 2);
        page.expect_complaints(&["ERR_EMPTY_RESPONSE"]);
        let notes: Vec<_> = requests.iter().map(|request| body(request)["note"].clone()).collect();
        assert_eq!(notes, [first, second], "{action}");
    }
}

/// Only a 200 patches the page.
fn patch(status: u16) -> Answer {
    Answer::Whole(status, "Content-Type: application/json\r\n", r#"{"counter":{"count":9}}"#.to_owned())
}

#[test]
fn an_answer_that_is_no_200_changes_nothing_but_can_be_noticed() {
    for status in [201, 400, 404, 422, 500, 503] {
        let (site, page, _) = clicked("@post('/act')", [patch(status)], 1);
        page.expect_complaints(&["Failed to load resource"]);
        page.until("fetches.includes('finished')");
        assert_eq!(page.eval("fetches.includes('error')"), status >= 400, "{status}");
        assert_eq!(page.signal("counter.count"), 1, "{status}");
        assert_eq!(site.requests("/act").len(), 1, "{status}");
    }
}

#[test]
fn what_a_proxy_refused_is_retried_as_the_same_event() {
    // Responses of a proxy without a node, and of a proxy that sheds load.
    for status in [429, 502, 503, 504] {
        let (_site, page, requests) = clicked(&act(), [patch(status), patch(200)], 2);
        page.expect_complaints(&["Failed to load resource"]);
        page.shows("#count", "9");
        assert_eq!(event_id(&requests[0]), event_id(&requests[1]), "{status}");
        assert_eq!(body(&requests[0]), body(&requests[1]), "{status}");
    }
}

#[test]
fn json_merges_into_the_root() {
    let answer =
        Answer::Whole(200, "Content-Type: application/json\r\n", r#"{"counter":{"count":2}}"#.to_owned());
    let (_site, page, _) = clicked(&act(), [answer], 1);
    page.shows("#count", "2");
    assert_eq!(page.signal("counter._v"), "v");
}

#[test]
fn html_patches_elements() {
    let answer = Answer::Whole(200, "Content-Type: text/html\r\n", "<p id=\"target\">new</p>".to_owned());
    let (_site, page, _) = clicked(&act(), [answer], 1);
    page.shows("#target", "new");
}

#[test]
fn a_stream_answers_bit_by_bit_and_ends() {
    let (site, page, _) = clicked(&act(), [Answer::Stream("")], 1);
    for count in 2..5 {
        site.patch("/act", &format!(r#"{{"counter":{{"count":{count}}}}}"#));
        page.shows("#count", &count.to_string());
    }
    site.end("/act");
    page.until("fetches.includes('finished')");
    assert_eq!(site.requests("/act").len(), 1);
}

#[test]
fn a_plain_http_host_has_no_random_uuid_and_actions_work_there() {
    let site = button(&act(), [done()]);
    let page = Session::new().open(&site.url_by_name());
    assert_eq!(page.eval("[isSecureContext, typeof crypto.randomUUID]"), json!([false, "undefined"]));
    page.click("button");
    assert!(!event_id(&site.requested("/act", 1)[0]).is_empty());
}

#[test]
fn an_indicator_shows_that_an_action_is_under_way() {
    let action = act();
    let body = format!(
        r#"<body data-signals="{SIGNALS}"><button data-indicator="busy" data-on:click="{action}">Go</button>
        <p id="busy" data-text="$busy"></p>"#
    );
    let site = site(&body).on("/act", [Answer::Stream("")]);
    let page = visit(&site);
    page.shows("#busy", "false");
    page.click("button");
    page.shows("#busy", "true");
    site.end("/act");
    page.shows("#busy", "false");
}
