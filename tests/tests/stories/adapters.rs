//! One page on three adapters: Salvo, axum and the hand-written one.

use faststate_tests::{Example, Listening, Page, Proxy, Session, http, until};

const ADD: &str = "form button";
const RESET: &str = "button[type=button]";
const AMOUNT: &str = "input";
const COUNT: &str = "h1";
const MESSAGE: &str = "[role=alert]";

fn open(session: &Session, url: &str) -> Page {
    let page = session.window();
    page.goto_without_cdn(url);
    page
}

fn streams(example: &Example) -> u64 {
    let health = http::get(example.address(), "/faststate/health").expect("the example answers").text();
    let health: serde_json::Value = serde_json::from_str(&health).expect("health is JSON");
    health["connections"].as_u64().expect("health counts connections")
}

/// The page behaves the same on every adapter.
fn it_counts_for_everybody(name: &str) {
    let example = Example::start(name);
    let html = http::get(example.address(), "/").expect("the example answers");
    assert_eq!(html.header("cache-control"), Some("private, no-cache"));
    assert!(html.header("set-cookie").is_some() && html.text().contains(">0</h1>"), "{}", html.text());

    let (ada, ben) = (Session::new(), Session::new());
    let pages = [&ada, &ada, &ben].map(|person| open(person, &example.url("/")));
    let all = |count: &str| pages.iter().for_each(|page| page.shows(COUNT, count));
    let [first, second, third] = &pages;
    first.fill(AMOUNT, "5");
    first.click(ADD);
    all("5");

    third.fill(AMOUNT, "1001");
    third.click(ADD);
    third.shows(MESSAGE, "from 1 to 1000");
    assert_eq!(first.text(MESSAGE).as_deref(), Some(""), "the message is the sender's alone");
    third.fill(AMOUNT, "2");
    third.click(ADD);
    all("7");
    third.shows(MESSAGE, "");

    second.double_click(ADD);
    all("9");
    let answer = http::exchange(example.address(), "POST", "/faststate/counter/increment?amount=2", "", b"");
    assert_eq!(answer.expect("the example answers").status, 200);
    all("11");

    until("a stream for each window", || streams(&example), |streams| *streams == 3);
    third.hide();
    until("a hidden window's stream to end", || streams(&example), |streams| *streams == 2);
    first.click(RESET);
    second.shows(COUNT, "0");
    first.click(ADD);
    third.show();
    all("5");
    drop(pages);
    until("no open stream", || streams(&example), |streams| *streams == 0);
}

/// A request with a lost response is repeated and counts once (law 3); a cut stream continues (law 4).
fn it_survives_the_network(name: &str) {
    let example = Example::start(name);
    let proxy = Proxy::to(example.address());
    let page = open(&Session::new(), &proxy.url("/"));
    page.expect_complaints(&[
        "ERR_EMPTY_RESPONSE",
        "ERR_CONNECTION",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_ABORTED",
    ]);
    page.fill(AMOUNT, "7");
    proxy.lose_answers(1);
    page.click(ADD);
    page.shows(COUNT, "7");
    until("a second try", || proxy.event_ids().len(), |tries| *tries >= 2);
    page.fill(AMOUNT, "1");
    page.click(ADD);
    page.shows(COUNT, "8");
    proxy.cut_after(10);
    let _ = until(
        "the cut",
        || http::post(example.address(), "/faststate/counter/increment", r#"{"amount":1}"#),
        |_| proxy.has_cut(),
    );
    let answer = http::post(example.address(), "/faststate/counter/increment", r#"{"amount":1}"#);
    let state: serde_json::Value =
        serde_json::from_str(&answer.expect("the example answers").text()).expect("JSON");
    page.shows(COUNT, &state["counter"]["count"].to_string());
}

/// On SIGTERM, the server ends its streams cleanly and exits (law 15).
fn it_ends_as_it_is_asked_to(name: &str) {
    let mut example = Example::start(name);
    let streams = [(); 5].map(|()| Listening::to(example.address(), "/faststate/sse?states=counter", ""));
    streams.iter().for_each(|stream| stream.until("\nid: "));
    assert!(example.interrupt().success());
    for stream in &streams {
        until("the stream to end", || stream.has_ended(), |ended| *ended);
        assert!(stream.text().ends_with("\r\n0\r\n\r\n"), "{}", stream.text());
    }
}

macro_rules! told_over {
    ($($module:ident: $name:literal),+) => {$(
        mod $module {
            #[test]
            fn it_counts_for_everybody() {
                super::it_counts_for_everybody($name);
            }

            #[test]
            fn law_03_and_04_it_survives_the_network() {
                super::it_survives_the_network($name);
            }

            #[test]
            fn law_15_it_ends_as_it_is_asked_to() {
                super::it_ends_as_it_is_asked_to($name);
            }
        }
    )+};
}

told_over!(on_salvo: "counter", on_axum: "counter_axum", on_bare_hyper: "custom_adapter");
