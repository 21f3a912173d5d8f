//! Windows that are hidden and shown.

use faststate_tests::{Demo, Session, http};

use super::ADAPTER;
use crate::{streaming, streams};

fn increment(demo: &Demo) {
    let answer = http::post(demo.address(), "/faststate/counter/increment", "{}");
    assert_eq!(answer.expect("the demo answers").status, 200);
}

#[test]
fn law_04_hiding_and_showing_leaves_one_stream_and_the_truth() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    streaming(&demo, 1);
    for round in 1..=3 {
        page.hide();
        streaming(&demo, 0);
        increment(&demo);
        increment(&demo);
        page.show();
        page.shows("#count", &(round * 2).to_string());
        streaming(&demo, 1);
    }
    increment(&demo);
    page.shows("#count", "7");
    assert_eq!(streams(&demo), 1);
}

#[test]
fn hiding_and_showing_again_and_again_leaves_one_stream() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    // Faster than a connection opens: every second event arrives while the previous one is in progress.
    page.eval(
        "Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.away });
        for (let turn = 0; turn < 41; turn++) {
            window.away = turn % 2 == 0 && turn < 40;
            document.dispatchEvent(new Event('visibilitychange'));
        }",
    );
    increment(&demo);
    page.shows("#count", "1");
    streaming(&demo, 1);
}

#[test]
fn a_window_that_was_away_hears_what_was_said() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/chat"));
    streaming(&demo, 1);
    page.hide();
    streaming(&demo, 0);
    for message in ["one", "two", "three"] {
        let json = format!(r#"{{"username":"Ada","message":"{message}"}}"#);
        let answer = http::post(demo.address(), "/faststate/chat/send_message", &json);
        assert_eq!(answer.expect("the demo answers").status, 200);
    }
    page.show();
    page.until(
        "[...document.querySelectorAll('.said')].map(said => said.textContent).join(' ') == 'one two three'",
    );
}
