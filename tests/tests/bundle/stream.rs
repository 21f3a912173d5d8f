//! Opening, end and reconnection of streams.

use std::sync::LazyLock;

use faststate::Action;
use faststate_tests::{Answer, Page, Session, Site};
use serde_json::json;

use crate::{LISTEN, site, visit};

/// The follow action, as a page's `data-init` carries it.
static FOLLOW: LazyLock<String> = LazyLock::new(|| Action::follow("/stream"));

const SIGNALS: &str =
    "{counter: {count: 1, _v: 'first'}, chat: {_v: 'c', messages: {_v: 'm'}}, private: 'p'}";

fn follows(init: &str, answers: impl Into<Vec<Answer>>) -> Site {
    let body = format!(
        r#"<body data-signals="{SIGNALS}" data-init="{init}"><p id="count" data-text="$counter.count"></p>"#
    );
    site(&body).on("/stream", answers.into())
}

/// The value of the request's query parameter `datastar`.
fn sent_signals(page: &Page, query: &str) -> serde_json::Value {
    page.eval(&format!("JSON.parse(new URLSearchParams({}).get('datastar'))", json!(query)))
}

#[test]
fn the_follow_action_sends_cursors_and_nothing_else() {
    let site = follows(&FOLLOW, [Answer::Stream("")]);
    let page = visit(&site);
    let request = &site.requested("/stream", 1)[0];
    assert_eq!(request.method, "GET");
    assert_eq!(request.header("datastar-request"), Some("true"));
    let cursors = json!({ "counter": { "_v": "first" }, "chat": { "_v": "c", "messages": { "_v": "m" } } });
    assert_eq!(sent_signals(&page, &request.query), cursors);
}

#[test]
fn a_reconnect_sends_the_cursors_merged_last() {
    let site = follows(&FOLLOW, [Answer::Stream("retry: 10\n\n")]);
    let page = visit(&site);
    site.patch("/stream", r#"{"counter":{"count":2,"_v":"second"}}"#);
    page.shows("#count", "2");
    site.end("/stream");
    let requests = site.requested("/stream", 2);
    assert_eq!(sent_signals(&page, &requests[1].query)["counter"]["_v"], "second");
    site.streaming("/stream", 1);
}

#[test]
fn a_frame_cut_in_the_middle_changes_nothing() {
    let cut = "retry: 10\nevent: datastar-patch-signals\ndata: signals {\"counter\":{\"count\":9,\"_v\":\"cut\"}}\n";
    let site = follows(&FOLLOW, [Answer::Brief(cut), Answer::Stream("")]);
    let page = visit(&site);
    let requests = site.requested("/stream", 2);
    assert_eq!(sent_signals(&page, &requests[1].query)["counter"]["_v"], "first");
    assert_eq!(page.signal("counter.count"), 1);
}

#[test]
fn an_id_counts_before_its_event_is_whole() {
    let cut =
        "retry: 10\nid: early\nevent: datastar-patch-signals\ndata: signals {\"counter\":{\"count\":9}}\n";
    let site = follows(&FOLLOW, [Answer::Brief(cut), Answer::Stream("")]);
    let page = visit(&site);
    let requests = site.requested("/stream", 2);
    assert_eq!(requests[1].header("last-event-id"), Some("early"));
    assert_eq!(page.signal("counter.count"), 1);
}

#[test]
fn a_block_with_only_an_id_changes_nothing_else() {
    let start = "retry: 10\n\nevent: datastar-patch-signals\ndata: signals {\"counter\":{\"count\":2}}\n\nid: two\n\n";
    let site = follows(&FOLLOW, [Answer::Brief(start), Answer::Stream("")]);
    let page = visit(&site);
    let requests = site.requested("/stream", 2);
    assert_eq!(requests[1].header("last-event-id"), Some("two"));
    page.shows("#count", "2");
}

#[test]
fn comments_and_unknown_events_are_ignored() {
    let site = follows(&FOLLOW, [Answer::Stream(": ping\n\nevent: other\ndata: signals {}\n\n: ping\n\n")]);
    let page = visit(&site);
    site.patch("/stream", r#"{"counter":{"count":2}}"#);
    page.shows("#count", "2");
    assert_eq!(site.requests("/stream").len(), 1);
}

#[test]
fn always_comes_back_after_a_clean_end_and_every_4xx_and_5xx() {
    let fail = |status| Answer::Whole(status, "", "gone".to_owned());
    let answers = [
        Answer::Brief("retry: 10\n\n"),
        fail(500),
        fail(503),
        fail(404),
        fail(403),
        Answer::Nothing,
        Answer::Stream(""),
    ];
    let site = follows(&FOLLOW, answers);
    let page = visit(&site);
    page.expect_complaints(&["500", "503", "404", "403", "ERR_EMPTY_RESPONSE"]);
    site.streaming("/stream", 1);
    assert_eq!(site.requests("/stream").len(), 7);
    site.patch("/stream", r#"{"counter":{"count":2}}"#);
    page.shows("#count", "2");
}

#[test]
fn a_204_of_faststate_stops_for_good() {
    let stop = Answer::Whole(204, "Faststate-Version: gone\r\n", String::new());
    let site = follows(&FOLLOW, [Answer::Brief("retry: 10\n\n"), stop, Answer::Stream("")]);
    let page = visit(&site);
    page.until("fetches.includes('finished')");
    assert_eq!((site.requests("/stream").len(), site.streams("/stream")), (2, 0));
}

#[test]
fn a_retry_line_says_how_long_to_wait() {
    // Datastar's own delays for four failures in a row, 1 s and doubling, are beyond the deadline.
    let fail = || Answer::Whole(503, "", String::new());
    let site = follows(
        &FOLLOW,
        [Answer::Brief("retry: 10\n\n"), fail(), fail(), fail(), fail(), Answer::Stream("")],
    );
    let page = visit(&site);
    page.expect_complaints(&["503"]);
    site.streaming("/stream", 1);
}

#[test]
fn hiding_and_showing_leaves_one_stream() {
    let site = follows(&FOLLOW, [Answer::Stream("")]);
    let page = visit(&site);
    site.streaming("/stream", 1);
    for round in 2..5 {
        page.hide();
        site.streaming("/stream", 0);
        page.show();
        site.streaming("/stream", 1);
        site.patch("/stream", &format!(r#"{{"counter":{{"count":{round}}}}}"#));
        page.shows("#count", &round.to_string());
    }
    assert_eq!(site.requests("/stream").len(), 4);
}

#[test]
fn hiding_while_it_waits_for_a_retry_leaves_one_stream() {
    let fail = || Answer::Whole(503, "", String::new());
    let site = follows(&FOLLOW, [fail(), fail(), Answer::Stream("")]);
    let page = visit(&site);
    page.expect_complaints(&["503"]);
    page.until("fetches.includes('retrying')");
    page.hide();
    page.show();
    page.hide();
    page.show();
    site.streaming("/stream", 1);
    let settled = site.requests("/stream").len();
    // The retry of the first attempt would come within a second; a second stream would show.
    page.eval("new Promise(done => setTimeout(done, 1500))");
    assert_eq!((site.streams("/stream"), site.requests("/stream").len()), (1, settled));
}

#[test]
fn a_page_opened_in_the_background_follows_once_it_is_seen() {
    let site = follows(&FOLLOW, [Answer::Stream("")]);
    let session = Session::new();
    let page = session.window();
    page.hide();
    page.goto(&site.url());
    assert_eq!(site.requests("/stream").len(), 0);
    page.show();
    site.streaming("/stream", 1);
}

#[test]
fn the_built_in_visibility_handling_doubles_streams() {
    // This is the reason why the follow action handles visibility itself: a shown page opens a stream at once, and the
    // pending retry opens a second one.
    let site =
        follows("@get('/stream', {retry: 'always'})", [Answer::Brief("retry: 1000\n\n"), Answer::Stream("")]);
    let page = visit(&site);
    page.until("fetches.includes('retrying')");
    page.hide();
    page.show();
    site.streaming("/stream", 2);
}

#[test]
fn only_always_comes_back_after_a_clean_end() {
    let site = follows(
        "@get('/stream', {openWhenHidden: true})",
        [Answer::Brief("retry: 10\n\n"), Answer::Stream("")],
    );
    let page = visit(&site);
    page.until("fetches.includes('finished')");
    assert_eq!(site.requests("/stream").len(), 1);
}

#[test]
fn a_listener_without_a_filter_sends_everything_but_underscores() {
    let site = follows(LISTEN, [Answer::Stream("")]);
    let page = visit(&site);
    let request = &site.requested("/stream", 1)[0];
    let sent = sent_signals(&page, &request.query);
    assert_eq!(sent, json!({ "counter": { "count": 1 }, "private": "p" }));
}
