//! Two components of one kind on one page.

use faststate_tests::{Demo, Page, Session, until};

use super::ADAPTER;

fn time(page: &Page, id: &str) -> String {
    page.text(&format!("#timer-{id} output")).unwrap_or_default()
}

#[test]
fn two_timers_run_independently_in_every_window_of_a_session() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (Session::new(), Session::new());
    let pages = [&ada, &ada, &ben].map(|session| session.open(&demo.url("/")));
    let [first, second, other] = &pages;
    first.click("#timer-tea .run");
    for page in [first, second] {
        until("tea to run", || time(page, "tea"), |time| time != "00:00");
        page.shows("#timer-tea .run", "Pause");
        assert_eq!(time(page, "eggs"), "00:00");
    }
    second.click("#timer-eggs .run");
    until("eggs to run", || time(first, "eggs"), |time| time != "00:00");
    second.click("#timer-tea .run");
    first.shows("#timer-tea .run", "Start");
    let stopped = time(first, "tea");
    let eggs = time(first, "eggs");
    until("eggs to run on", || time(first, "eggs"), |time| *time != eggs);
    assert_eq!(time(first, "tea"), stopped);
    // A new window shows the same without any script.
    until("the same time", || time(&ada.open(&demo.url("/")), "tea"), |time| *time == stopped);
    first.click("#timer-tea .quiet");
    second.shows("#timer-tea output", "00:00");
    assert_eq!((time(other, "tea"), time(other, "eggs")), ("00:00".to_owned(), "00:00".to_owned()));
}

#[test]
fn law_08_there_are_no_other_timers() {
    let demo = Demo::over(ADAPTER);
    let answer = faststate_tests::http::post(demo.address(), "/faststate/timer/third/start", "{}");
    assert_eq!(answer.expect("the demo answers").status, 404);
}

#[test]
fn law_14_a_timer_that_runs_sends_nothing() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/"));
    page.click("#timer-tea .run");
    page.shows("#timer-tea .run", "Pause");
    let patches = "fetches.filter(type => type == 'datastar-patch-signals').length";
    // The request that starts it has arrived by then.
    until("a second", || time(&page, "tea"), |time| time.as_str() >= "00:01");
    let before = page.eval(patches);
    until("some seconds", || time(&page, "tea"), |time| time.as_str() >= "00:04");
    assert_eq!(page.eval(patches), before);
}
