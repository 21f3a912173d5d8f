//! Servers that stop and restart.

use faststate_tests::{Demo, Folder, Page, Session, http};

use super::ADAPTER;
use crate::{ADD, streaming};

/// Console messages about an unreachable server.
const DOWN: &[&str] =
    &["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_SOCKET"];

fn visit(demo: &Demo, path: &str) -> Page {
    let page = Session::new().open(&demo.url(path));
    page.expect_complaints(DOWN);
    page.eval("window.neverReloaded = true");
    page
}

fn was_not_reloaded(page: &Page) {
    assert_eq!(page.eval("window.neverReloaded"), true);
}

fn increment(demo: &Demo, amount: u32) {
    let answer =
        http::post(demo.address(), "/faststate/counter/increment", &format!(r#"{{"amount":{amount}}}"#));
    assert_eq!(answer.expect("the demo answers").status, 200);
}

#[test]
fn law_04_a_killed_server_is_followed_again_and_the_page_shows_the_truth() {
    let mut demo = Demo::over(ADAPTER);
    let pages = [(); 2].map(|()| visit(&demo, "/counter"));
    increment(&demo, 3);
    pages.iter().for_each(|page| page.shows("#count", "3"));
    for round in 1..=2 {
        demo.kill();
        pages.iter().for_each(|page| page.shows(".link [data-text]", "Reconnecting"));
        demo.restart();
        // The counter is kept in memory, so the new process starts at another value.
        pages.iter().for_each(|page| page.shows("#count", "0"));
        streaming(&demo, 2);
        increment(&demo, round * 10);
        pages.iter().for_each(|page| page.shows("#count", &(round * 10).to_string()));
        pages.iter().for_each(|page| page.shows(".link [data-text]", "Connected"));
        pages.iter().for_each(was_not_reloaded);
    }
}

#[test]
fn law_04_what_happened_before_a_page_came_back_shows() {
    let mut demo = Demo::over(ADAPTER);
    let page = visit(&demo, "/counter");
    increment(&demo, 3);
    page.shows("#count", "3");
    demo.kill();
    demo.restart();
    increment(&demo, 5);
    page.shows("#count", "5");
    page.shows("#update-count", "1");
    was_not_reloaded(&page);
}

#[test]
fn law_04_messages_of_a_lost_room_go_and_new_ones_come() {
    let mut demo = Demo::over(ADAPTER);
    let page = visit(&demo, "/chat");
    let say = |demo: &Demo, message: &str| {
        let json = format!(r#"{{"username":"Ada","message":"{message}"}}"#);
        assert_eq!(
            http::post(demo.address(), "/faststate/chat/send_message", &json).map(|reply| reply.status).ok(),
            Some(200)
        );
    };
    say(&demo, "before");
    page.shows("#messages .said", "before");
    demo.kill();
    demo.restart();
    page.until("document.querySelectorAll('#messages li').length == 0");
    say(&demo, "after");
    page.shows("#messages .said", "after");
    assert_eq!(page.count("#messages li"), 1);
    was_not_reloaded(&page);
}

#[test]
fn law_01_counter_and_chat_survive_a_kill() {
    let folder = Folder::new("demo");
    let store = format!("sqlite://{}", folder.join("demo.db").display());
    let mut demo = Demo::with(&["--adapter", ADAPTER, "--store", &store]);
    let pages = ["/counter", "/chat"].map(|path| visit(&demo, path));
    increment(&demo, 3);
    pages[0].shows("#count", "3");
    let said =
        http::post(demo.address(), "/faststate/chat/send_message", r#"{"username":"Ada","message":"kept"}"#);
    assert_eq!(said.expect("the demo answers").status, 200);
    demo.kill();
    pages[0].shows(".link [data-text]", "Reconnecting");
    demo.restart();
    increment(&demo, 4);
    pages[0].shows("#count", "7");
    pages[1].shows("#messages .said", "kept");
    assert_eq!(pages[1].count("#messages li"), 1);
    pages.iter().for_each(was_not_reloaded);
}

#[test]
fn a_session_lives_on_over_a_restart() {
    let mut demo = Demo::over(ADAPTER);
    let session = Session::new();
    let pages = [(); 2].map(|()| session.open(&demo.url("/")));
    pages.iter().for_each(|page| page.expect_complaints(DOWN));
    pages[0].click("button[aria-label=Increment]");
    pages[1].shows("#number", "1");
    demo.kill();
    demo.restart();
    pages.iter().for_each(|page| page.shows("#number", "0"));
    pages[0].click("button[aria-label=Increment]");
    pages.iter().for_each(|page| page.shows("#number", "1"));
}

#[test]
fn law_03_an_event_sent_while_the_server_was_down_is_told_and_counts_once() {
    let mut demo = Demo::over(ADAPTER);
    let page = visit(&demo, "/counter");
    demo.kill();
    page.fill("#amount", "4");
    page.click(ADD);
    page.shows("#unsent:not([hidden])", "A change has not reached the server yet. It is being sent again.");
    demo.restart();
    page.shows("#count", "4");
    page.shows("#update-count", "1");
    page.until("document.querySelector('#unsent').hidden");
    was_not_reloaded(&page);
}

/// Datastar's event for a failed stream, which would arrive three minutes later.
fn gives_up(page: &Page, form: &str) {
    page.eval(&format!(
        "['retries-failed', 'finished'].forEach(type =>
            document.dispatchEvent(new CustomEvent('datastar-fetch', {{ detail: {{ type, el: {form} }} }})))"
    ));
}

#[test]
fn a_change_that_never_arrived_is_told_and_stays_a_draft() {
    let demo = Demo::start();
    let page = visit(&demo, "/product/plant");
    page.fill("#name", "Another name");
    let form = "document.querySelector('#name').form";
    page.eval(&format!("{form}.sent = {{ name: 'Another name' }}"));
    gives_up(&page, form);
    page.shows("#unsent:not([hidden])", "A change did not reach the server. Please make it again.");
    // Confirmed input is taken over 300 ms later.
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(page.eval("document.querySelector('#name').value"), "Another name");
    page.click("#buy");
    page.until("document.querySelector('#unsent').hidden");
}

#[test]
fn law_15_a_server_that_is_asked_to_end_ends_its_streams_and_pages_come_back() {
    let mut demo = Demo::over(ADAPTER);
    let pages = [(); 3].map(|()| visit(&demo, "/counter"));
    streaming(&demo, 3);
    assert!(demo.terminate().success());
    demo.restart();
    streaming(&demo, 3);
    increment(&demo, 6);
    for page in &pages {
        page.shows("#count", "6");
        was_not_reloaded(page);
    }
}

#[test]
fn law_06_a_window_beyond_the_cap_follows_once_another_is_closed() {
    let demo = Demo::with(&["--adapter", ADAPTER, "--max-streams-per-session", "1"]);
    let session = Session::new();
    let first = session.open(&demo.url("/counter"));
    streaming(&demo, 1);
    let second = session.open(&demo.url("/counter"));
    second.expect_complaints(&["429"]);
    second.shows(".link [data-text]", "Reconnecting");
    let other = Session::new().open(&demo.url("/counter"));
    streaming(&demo, 2);
    // The page does not follow, but it can act.
    second.click(ADD);
    first.shows("#count", "1");
    other.shows("#count", "1");
    drop(first);
    second.shows(".link [data-text]", "Connected");
    second.shows("#count", "1");
    streaming(&demo, 2);
}
