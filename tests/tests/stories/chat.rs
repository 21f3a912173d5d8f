//! The chat, whose messages are elements.

use faststate_tests::{Demo, Page, Random, Session, http, until};
use serde_json::{Value, json};

use super::ADAPTER;
use crate::sign_in;

fn visit(demo: &Demo) -> Page {
    Session::new().open(&demo.url("/chat"))
}

fn say(page: &Page, name: &str, message: &str) {
    // The previous message's response may still be in flight; until it arrives, the form is disabled.
    page.until("!document.querySelector('#send').ariaBusy");
    page.fill("#username", name);
    page.fill("#message", message);
    page.enter();
}

fn said(page: &Page) -> Vec<String> {
    let said = page.eval("[...document.querySelectorAll('#messages .said')].map(said => said.textContent)");
    serde_json::from_value(said).expect("a list of texts")
}

/// Waits until the page shows exactly these messages.
fn reads(page: &Page, messages: &[&str]) {
    until(&format!("{messages:?}"), || said(page), |seen| seen == messages);
}

#[test]
fn windows_and_sessions_see_each_others_messages_at_once() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (visit(&demo), visit(&demo));
    say(&ada, "Ada", "hello");
    reads(&ben, &["hello"]);
    reads(&ada, &["hello"]);
    say(&ben, "Ben", "hi, Ada");
    reads(&ada, &["hello", "hi, Ada"]);
    ada.shows("#messages li:last-child .by bdi", "Ben");
    // A later client sees all messages in order.
    reads(&visit(&demo), &["hello", "hi, Ada"]);
}

#[test]
fn sending_empties_the_senders_field_and_nobody_elses() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (visit(&demo), visit(&demo));
    ben.fill("#message", "I am still typ");
    say(&ada, "Ada", "hello");
    reads(&ben, &["hello"]);
    ada.until("document.querySelector('#message').value == ''");
    assert_eq!(ben.eval("document.querySelector('#message').value"), "I am still typ");
    assert_eq!(ben.eval("document.activeElement.id"), "message");
}

#[test]
fn an_empty_message_is_refused_beside_its_field() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&demo);
    say(&page, "Ada", "   ");
    page.until("document.querySelector('#message-error').textContent.trim()");
    assert_eq!(page.text("#username-error").as_deref(), Some(""));
    say(&page, "", "hello");
    page.until("document.querySelector('#username-error').textContent.trim()");
    reads(&page, &[]);
    assert_eq!(page.eval("document.querySelector('#message').value"), "hello", "the draft is kept");
}

#[test]
fn a_script_in_a_message_shows_as_text() {
    let demo = Demo::over(ADAPTER);
    let (ada, ben) = (visit(&demo), visit(&demo));
    let messages = [
        "<script>window.ran = 1</script>",
        "<img src=x onerror='window.ran = 2'>",
        "<p data-init=\"window.ran = 3\" data-text=\"$chat.sent\">",
        "</p></li></ol><b id=\"message-0\">&quot; &amp;",
        "${window.ran = 4} $chat.sent @post('/faststate/counter/reset')",
    ];
    for message in messages {
        say(&ada, "<i>Ada</i>", message);
        ada.until("document.querySelector('#message').value == ''");
    }
    reads(&ada, &messages);
    reads(&ben, &messages);
    ben.navigate(&demo.url("/chat"));
    for page in [&ada, &ben] {
        reads(page, &messages);
        assert_eq!(page.eval("typeof window.ran"), "undefined");
        assert_eq!(page.count("#messages li"), 5);
        page.shows("#messages li .by bdi", "<i>Ada</i>");
    }
}

#[test]
fn law_12_any_text_arrives_as_it_was_said() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&demo);
    let texts = Random::new(12).texts(120);
    let texts: Vec<_> =
        texts.iter().map(|text| format!("[{text}]")).filter(|text| text.len() < 400).collect();
    for text in &texts {
        let message = json!({ "username": "Ada", "message": text }).to_string();
        let answer =
            http::post(demo.address(), "/faststate/chat/send_message", &message).expect("the demo answers");
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.text());
    }
    // HTML normalizes CR and drops NUL; the room keeps the last 100 messages.
    let clean = |text: &String| text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "");
    let expected: Vec<_> = texts.iter().skip(texts.len().saturating_sub(100)).map(clean).collect();
    let settled = |page: &Page| {
        let show = || said(page).iter().map(|text| text.replace(['\0', '\u{fffd}'], "")).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|text| text.replace('\u{fffd}', "")).collect();
        until("every text", show, |seen| *seen == expected);
    };
    settled(&page);
    page.goto(&demo.url("/chat"));
    settled(&page);
}

#[test]
fn the_room_says_how_many_people_are_here() {
    let demo = Demo::over(ADAPTER);
    let ada = visit(&demo);
    ada.shows("#present", "1 person here");
    let ben = visit(&demo);
    ada.shows("#present", "2 people here");
    ben.shows("#present", "2 people here");
    drop(ben);
    ada.shows("#present", "1 person here");
}

#[test]
fn the_messages_travel_as_elements_and_not_as_signals() {
    let demo = Demo::over(ADAPTER);
    let page = visit(&demo);
    say(&page, "Ada", "hello");
    reads(&page, &["hello"]);
    let signals: Value = page.signal("chat");
    assert!(!signals.to_string().contains("hello"), "{signals}");
}

#[test]
fn the_room_says_who_is_here_and_whose_name_is_theirs() {
    let demo = Demo::over(ADAPTER);
    let guest = visit(&demo);
    let alice = sign_in(&Session::new(), &demo, "alice");
    alice.goto(&demo.url("/chat"));
    for page in [&guest, &alice] {
        page.shows("#names", "alice, 1 guest");
        page.shows("#present", "2 people here");
    }
    // A signed-in user writes under the account's name; no other client can use that name.
    alice.fill("#message", "it is me");
    alice.enter();
    guest.shows("#messages li:last-child .by bdi", "alice");
    guest.shows("#messages li:last-child .member", "signed in");
    say(&guest, "Alice", "it is me, too");
    guest.mentions("#username-error", "belongs to a user");
    reads(&alice, &["it is me"]);
    drop(alice);
    guest.shows("#names", "1 guest");
}
