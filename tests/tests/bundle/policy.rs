//! Content security policies of pages.

use faststate_tests::{Answer, Demo, Page, Session, Site};
use serde_json::json;

/// A page that forbids `eval`, with or without a nonce for Datastar.
fn strict(html: &str) -> (Site, Page) {
    let page = format!(
        r#"<!doctype html>{html}<head><meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="default-src 'self'; script-src 'nonce-abc'">
        <script type="module" src="/datastar.js" nonce="abc"></script></head>
        <body data-signals="{{count: 1}}"><p id="count" data-text="$count"></p>
        <button data-on:click="@post('/act')">Go</button></html>"#
    );
    let answer = Answer::Whole(200, "Content-Type: application/json\r\n", r#"{"count":2}"#.to_owned());
    let site = Site::whole(Demo::bundle(), &page).on("/act", [answer]);
    let page = Session::new().window();
    (site, page)
}

#[test]
fn datastar_runs_without_unsafe_eval_when_it_is_told_the_nonce() {
    let (site, page) = strict("<html lang=\"en\" data-nonce=\"abc\">");
    page.goto(&site.url());
    page.shows("#count", "1");
    page.click("button");
    page.shows("#count", "2");
    assert_eq!(page.eval("document.documentElement.dataset.nonce ?? null"), json!(null));
}

#[test]
fn datastar_needs_eval_when_it_is_not() {
    let (site, page) = strict("<html lang=\"en\">");
    page.expect_complaints(&["eval", "GenerateExpression", "EvalError"]);
    page.navigate(&site.url());
    page.until("document.readyState == 'complete'");
    assert_eq!(page.text("#count").as_deref(), Some(""));
}
