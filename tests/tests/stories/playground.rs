//! The playground, a state of each session.

use faststate_tests::{Demo, Page, Session, until};

use super::ADAPTER;

const MORE: &str = "button[aria-label=Increment]";

fn visit(session: &Session, demo: &Demo) -> Page {
    session.open(&demo.url("/"))
}

fn field(page: &Page) -> String {
    page.eval("document.querySelector('#text').value").as_str().unwrap_or_default().to_owned()
}

#[test]
fn law_08_windows_of_a_session_share_a_playground_and_sessions_do_not() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (Session::new(), Session::new());
    let (first, second, other) = (visit(&ada, &demo), visit(&ada, &demo), visit(&ben, &demo));
    first.click(MORE);
    second.shows("#number", "1");
    second.click(MORE);
    first.shows("#number", "2");
    // An event in the other session shows that its stream is up to date.
    other.click(MORE);
    other.shows("#number", "1");
    first.click(MORE);
    first.shows("#number", "3");
    other.click("button[aria-label=Decrement]");
    other.shows("#number", "0");
    second.shows("#number", "3");
    // A new window of each session shows that session's state.
    visit(&ada, &demo).shows("#number", "3");
    visit(&ben, &demo).shows("#number", "0");
}

#[test]
fn text_is_bound_both_ways() {
    let demo = Demo::over(ADAPTER);
    let ada = Session::new();
    let (first, second) = (visit(&ada, &demo), visit(&ada, &demo));
    first.fill("#text", "from the first");
    for page in [&first, &second] {
        page.shows("#server-text", "from the first");
        until("the field to follow", || field(page), |seen| seen == "from the first");
    }
    second.fill("#text", "");
    first.shows("#server-text", "");
    until("the field to follow", || field(&first), |seen| seen.is_empty());
}

#[test]
fn what_is_being_typed_is_not_overwritten() {
    let demo = Demo::over(ADAPTER);
    let ada = Session::new();
    let (first, second) = (visit(&ada, &demo), visit(&ada, &demo));
    first.focus("#text");
    let mut typed = String::new();
    for (round, word) in ["one ", "two ", "three ", "four "].into_iter().enumerate() {
        // More letters than one pause collects, while echoes of earlier ones arrive.
        for letter in word.chars() {
            first.type_text(&letter.to_string());
            typed.push(letter);
            assert_eq!(field(&first), typed);
        }
        second.click(MORE);
        first.shows("#number", &(round + 1).to_string());
        assert_eq!(field(&first), typed);
        second.mentions("#server-text", typed.trim());
    }
    assert_eq!(field(&first), typed);
    until("the other window's field", || field(&second), |seen| *seen == typed);
}

#[test]
fn a_text_that_is_too_long_is_refused_beside_its_field() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&Session::new(), &demo);
    page.eval("document.querySelector('#text').maxLength = 1000");
    page.fill("#text", &"x".repeat(201));
    page.mentions("#text-error", "200");
    assert_eq!(page.text("#server-text").as_deref(), Some(""));
    page.fill("#text", "short");
    page.shows("#server-text", "short");
    page.shows("#text-error", "");
}

#[test]
fn the_ticker_runs_to_its_end_in_every_window_of_the_session() {
    let demo = Demo::over(ADAPTER);
    let ada = Session::new();
    let (first, second) = (visit(&ada, &demo), visit(&ada, &demo));
    let ticks =
        |page: &Page| page.eval("document.querySelector('#ticks').value").as_f64().unwrap_or_default();
    first.click("#start-ticking");
    let mut seen = Vec::new();
    let watch = || {
        seen.push(ticks(&second));
        *seen.last().unwrap_or(&0.0)
    };
    until("the last tick", watch, |ticks| *ticks >= 10.0);
    seen.dedup();
    assert!(seen.len() > 5 && seen.is_sorted(), "{seen:?}");
    until("the last tick", || ticks(&first), |ticks| *ticks >= 10.0);
}

#[test]
fn a_double_click_starts_one_ticker() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&Session::new(), &demo);
    page.double_click("#start-ticking");
    page.until("document.querySelector('#ticks').value >= 3");
    page.click(".aside button");
    page.until("document.querySelector('#ticks').value == 0");
}

#[test]
fn a_number_is_bound_both_ways() {
    let demo = Demo::over(ADAPTER);
    let ada = Session::new();
    let (first, second) = (visit(&ada, &demo), visit(&ada, &demo));
    let number = |page: &Page| page.eval("document.querySelector('#number-field').value");
    first.fill("#number-field", "41");
    second.shows("#number", "41");
    until("the field to follow", || number(&second), |seen| seen == "41");
    second.click(MORE);
    first.shows("#number", "42");
    until("the field to follow", || number(&first), |seen| seen == "42");
    first.fill("#number-field", "1000001");
    first.mentions("#number-error", "a million");
    assert_eq!(second.text("#number").as_deref(), Some("42"));
}

#[test]
fn a_ticker_is_cancelled_from_any_window() {
    let demo = Demo::over(ADAPTER);
    let ada = Session::new();
    let (first, second) = (visit(&ada, &demo), visit(&ada, &demo));
    first.click("#start-ticking");
    second.until("document.querySelector('#ticks').value >= 2");
    second.click("#cancel");
    for page in [&first, &second] {
        page.until("document.querySelector('#ticks').value == 0");
        page.shows("#start-ticking", "Start ticking");
        page.until("document.querySelector('#cancel').disabled");
    }
    // The process does not return: the next one starts with empty memory.
    first.click("#start-ticking");
    second.until("document.querySelector('#ticks').value >= 3");
}

#[test]
fn what_went_over_the_wire_is_what_changed() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&Session::new(), &demo);
    page.click(MORE);
    page.mentions("#wire", "\"number\":1");
    assert!(!page.text("#wire").unwrap_or_default().contains("text"));
    page.shows("#seq", "1");
    let version = page.signal("playground._v");
    page.shows("#version", version.as_str().unwrap_or_default());
    assert_eq!(page.text("#session").map(|text| text.chars().count()), Some(9));
}
