//! The shared counter.

use std::collections::BTreeSet;

use faststate_tests::{Demo, Proxy, Session, http};

use super::ADAPTER;
use crate::{ADD, sign_in};

#[test]
fn windows_and_sessions_see_each_others_counts_at_once() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (Session::new(), Session::new());
    let pages = [&ada, &ada, &ben].map(|person| person.open(&demo.url("/counter")));
    let [first, second, third] = &pages;
    first.fill("#user", "Ada");
    first.fill("#amount", "5");
    first.click(ADD);
    for page in &pages {
        page.shows("#count", "5");
        page.shows("#last-updated-by", "Ada");
        page.shows("#update-count", "1");
    }
    third.click("#decrement");
    second.shows("#count", "4");
    second.shows("#last-updated-by", "Anonymous");
    second.click("#reset");
    pages.iter().for_each(|page| page.shows("#count", "0"));
    // The other client's event has not changed the text in a form.
    assert_eq!(first.eval("document.querySelector('#amount').value"), "5");
}

#[test]
fn a_page_follows_what_is_done_from_a_terminal() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    let answer = http::exchange(demo.address(), "POST", "/faststate/counter/increment?amount=2", "", b"");
    assert_eq!(answer.expect("the demo answers").status, 200);
    page.shows("#count", "2");
    page.shows("#last-updated-by", "Anonymous");
}

#[test]
fn a_page_shows_the_truth_before_any_script_has_run() {
    let demo = Demo::over(ADAPTER);
    let _ = http::post(demo.address(), "/faststate/counter/increment", r#"{"amount":41,"user":"<b>&'\""}"#);
    let html = http::get(demo.address(), "/counter").expect("the demo answers").text();
    let shown = |text: &str| html.contains(text);
    assert!(shown(">41</output>") && shown("&#60;b&#62;") && !shown("<b>&'"), "{html}");
}

#[test]
fn a_rejected_input_shows_its_message_beside_its_field_and_changes_nothing() {
    let demo = Demo::over(ADAPTER);
    let (page, other) =
        (Session::new().open(&demo.url("/counter")), Session::new().open(&demo.url("/counter")));
    page.fill("#amount", "3");
    page.click(ADD);
    other.shows("#count", "3");

    page.fill("#amount", "1001");
    page.click(ADD);
    page.mentions("#amount-error", "1000");
    page.until("document.querySelector('#amount').getAttribute('aria-invalid') == 'true'");
    assert_eq!(page.text("#user-error").as_deref(), Some(""));
    assert_eq!(other.text("#amount-error").as_deref(), Some(""), "the message is the sender's alone");

    page.fill("#amount", "2");
    page.click(ADD);
    page.shows("#count", "5");
    page.shows("#amount-error", "");
    page.until("!document.querySelector('#amount').hasAttribute('aria-invalid')");
    for page in [&page, &other] {
        page.shows("#count", "5");
        page.shows("#update-count", "2");
    }
}

#[test]
fn input_of_the_wrong_type_shows_its_message_too() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    // A submit button would validate in the browser; this button sends the event without validation.
    page.fill("#amount", "1.5");
    page.click("#decrement");
    page.until("document.querySelector('#amount-error').textContent.trim()");
    assert_eq!(page.text("#count").as_deref(), Some("0"));
}

#[test]
fn a_double_click_counts_twice() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    page.double_click(ADD);
    page.shows("#count", "2");
    page.shows("#update-count", "2");
}

#[test]
fn many_quick_clicks_all_count() {
    let demo = Demo::over(ADAPTER);
    let pages = [(); 2].map(|()| Session::new().open(&demo.url("/counter")));
    for _ in 0..20 {
        pages.iter().for_each(|page| page.click(ADD));
    }
    for page in &pages {
        page.shows("#count", "40");
        page.shows("#update-count", "40");
    }
}

#[test]
fn law_03_a_request_whose_answer_was_lost_counts_once() {
    let demo = Demo::over(ADAPTER);
    let proxy = Proxy::to(demo.address());
    let page = Session::new().open(&proxy.url("/counter"));
    page.expect_complaints(&["ERR_EMPTY_RESPONSE", "ERR_CONNECTION"]);
    proxy.lose_answers(2);
    page.fill("#amount", "7");
    page.click(ADD);
    page.until("fetches.filter(type => type == 'retrying').length >= 1");
    page.shows("#count", "7");
    faststate_tests::until("a third try", || proxy.event_ids().len(), |tries| *tries >= 3);
    let tries: BTreeSet<_> = proxy.event_ids().into_iter().collect();
    assert_eq!(tries.len(), 1);

    // One more event shows that all earlier events have been counted.
    page.fill("#amount", "1");
    page.click(ADD);
    page.shows("#count", "8");
    page.shows("#update-count", "2");
}

#[test]
fn signals_are_what_the_page_shows() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    page.click(ADD);
    page.shows("#count", "1");
    assert_eq!(page.signal("counter.count"), 1);
    assert_eq!(page.signal("counter.last_updated_by"), "Anonymous");
}

#[test]
fn the_chart_follows_and_who_is_signed_in_needs_no_name() {
    let demo = Demo::over(ADAPTER);
    let guest = Session::new().open(&demo.url("/counter"));
    guest.mentions("#chart", "will be drawn here");
    let bob = sign_in(&Session::new(), &demo, "bob");
    bob.goto(&demo.url("/counter"));
    bob.fill("#amount", "5");
    bob.click(ADD);
    for page in [&guest, &bob] {
        page.shows("#last-updated-by", "bob");
        page.until("document.querySelector('#chart svg').ariaLabel.endsWith('from 0 to 5')");
        page.until("document.querySelector('#chart polyline').points.length == 2");
    }
    guest.click("#decrement");
    bob.until("document.querySelector('#chart polyline').points.length == 3");
    // The server renders the chart and sends it as elements.
    assert!(!guest.signal("counter").to_string().contains("history"));
}
