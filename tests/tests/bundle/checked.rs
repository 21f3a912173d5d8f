//! Reaction of the follow action to missing responses and to responses that are not from FastState.

use faststate::{Action, Context, Event, ReactiveState, Rejection};
use faststate_tests::{Answer, Page, Site};
use serde::{Deserialize, Serialize};

use crate::{site, visit};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

#[derive(Serialize, Deserialize)]
struct Act {}

impl Event for Act {
    type State = Counter;
    const NAME: &'static str = "act";
    const PATH: Option<&'static str> = Some("/act");

    fn apply(&self, _: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        Ok(())
    }
}

/// The action's deadlines for a stream's head and for silence, in milliseconds.
const TIMES: &str = "(fetch,8000,37500)";

/// A page that follows `/stream` and can act, with short deadlines.
fn page(stream: impl Into<Vec<Answer>>, act: impl Into<Vec<Answer>>) -> Site {
    let follow = Action::follow("/stream");
    assert!(follow.contains(TIMES), "{follow}");
    let (follow, act_now) = (follow.replace(TIMES, "(fetch,600,900)"), Act {}.action());
    let body = format!(
        r#"<body data-signals="{{counter: {{count: 1, _v: 'first'}}}}" data-init="{follow}">
        <p id="count" data-text="$counter.count"></p><button data-on:click="{act_now}">Go</button>"#
    );
    site(&body).on("/stream", stream.into()).on("/act", act.into())
}

/// Responses that a proxy may send instead of the application.
fn foreign() -> Vec<Answer> {
    let html = "Content-Type: text/html\r\n";
    vec![
        Answer::Whole(200, html, "<html><body><p id=\"count\">Sign in</p></body></html>".to_owned()),
        Answer::Whole(200, html, "<p id=\"count\">Sign in</p>".to_owned()),
        Answer::Whole(200, "Content-Type: application/json\r\n", r#"{"counter":{"count":7}}"#.to_owned()),
        Answer::Whole(200, "Content-Type: text/javascript\r\n", "window.foreign = true".to_owned()),
        Answer::Whole(200, "", "Sign in".to_owned()),
        Answer::Whole(201, html, "Sign in".to_owned()),
        Answer::Whole(204, "", String::new()),
        Answer::Whole(302, "Location: /login\r\n", String::new()),
        Answer::Whole(307, "Location: /login\r\n", String::new()),
    ]
}

fn is_untouched(page: &Page) {
    assert_eq!((page.text("#count").as_deref(), page.signal("counter.count")), (Some("1"), 1.into()));
    assert_eq!(page.eval("window.foreign"), serde_json::Value::Null);
}

#[test]
fn law_04_silent_stream_is_cut_and_followed_again() {
    let site = page([Answer::Stream("retry: 10\n\n"), Answer::Stream("")], []);
    let page = visit(&site);
    page.until("fetches.includes('retrying')");
    assert!(site.requested("/stream", 2)[1].query.contains("first"));
    site.streaming("/stream", 1);
    site.patch("/stream", r#"{"counter":{"count":2}}"#);
    page.shows("#count", "2");
}

#[test]
fn law_04_comments_keep_a_stream_from_being_cut() {
    let site = page([Answer::Stream("")], []);
    let page = visit(&site);
    for _ in 0..8 {
        site.push("/stream", ": ping\n\n");
        page.eval("new Promise(done => setTimeout(done, 250))");
    }
    assert_eq!(site.requests("/stream").len(), 1);
}

#[test]
fn law_04_stream_without_a_head_is_cut_and_sent_again() {
    let site = page([Answer::Brief("retry: 10\n\n"), Answer::Silence, Answer::Stream("")], []);
    let _page = visit(&site);
    site.streaming("/stream", 1);
    assert_eq!(site.requests("/stream").len(), 3);
}

#[test]
fn event_without_an_answer_is_sent_again_as_the_same() {
    let done = Answer::Whole(200, "Content-Type: text/event-stream\r\n", String::new());
    let site = page([Answer::Stream(": open\n\n")], [Answer::Silence, done]);
    let page = visit(&site);
    page.click("button");
    let requests = site.requested("/act", 2);
    assert_eq!(requests[0].header("faststate-event"), requests[1].header("faststate-event"));
    page.until("fetches.includes('finished')");
    assert_eq!(site.requests("/act").len(), 2);
}

#[test]
fn foreign_answer_to_a_stream_changes_nothing_and_is_retried() {
    for answer in foreign() {
        let site = page([Answer::Brief("retry: 10\n\n"), answer.clone(), Answer::Stream("")], []);
        let page = visit(&site);
        site.streaming("/stream", 1);
        is_untouched(&page);
        assert!(site.requests("/login").is_empty(), "{answer:?}");
        assert_eq!(site.requests("/stream").len(), 3, "{answer:?}");
        site.patch("/stream", r#"{"counter":{"count":2}}"#);
        page.shows("#count", "2");
    }
}

#[test]
fn foreign_answer_to_an_event_changes_nothing_and_is_retried() {
    let json = "Content-Type: application/json\r\nFaststate-Version: 1-2-3\r\n";
    for answer in foreign() {
        let done = Answer::Whole(200, json, r#"{"counter":{"count":2}}"#.to_owned());
        let site = page([Answer::Stream(": open\n\n")], [answer.clone(), done]);
        let page = visit(&site);
        page.click("button");
        page.until("fetches.includes('retrying')");
        is_untouched(&page);
        let requests = site.requested("/act", 2);
        assert_eq!(requests[0].header("faststate-event"), requests[1].header("faststate-event"));
        assert!(site.requests("/login").is_empty(), "{answer:?}");
        page.shows("#count", "2");
    }
}

#[test]
fn other_requests_of_the_page_are_left_alone() {
    let html = Answer::Whole(200, "Content-Type: text/html\r\n", "<p id=\"count\">new</p>".to_owned());
    let own = format!(
        r#"<body data-init="{}"><p id="count">old</p><button data-on:click="@get('/own')">Go</button>"#,
        Action::follow("/stream")
    );
    let site = site(&own).on("/stream", [Answer::Stream("")]).on("/own", [html]);
    let page = visit(&site);
    page.click("button");
    page.shows("#count", "new");
}
