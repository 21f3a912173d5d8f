//! A user's own state, in several browsers.

use faststate_tests::{Demo, Listening, Page, Session, until};

use super::ADAPTER;
use crate::{cookie, send, sign_in};

fn profile(demo: &Demo, user: &str) -> Page {
    let page = sign_in(&Session::new(), demo, user);
    page.goto(&demo.url("/profile"));
    page
}

fn value(page: &Page, field: &str) -> String {
    page.eval(&format!("document.querySelector('{field}').value")).as_str().unwrap_or_default().to_owned()
}

fn has(page: &Page, field: &str, text: &str) {
    until(&format!("{field} to have {text:?}"), || value(page, field), |seen| seen == text);
}

fn prefer(page: &Page, name: &str, preferred: &str) {
    page.fill("#preference", name);
    page.fill("#value", preferred);
    page.enter();
}

#[test]
fn two_browsers_of_a_user_follow_each_other_and_nobody_else_does() {
    let demo = Demo::over(ADAPTER);
    let (here, there, bob) = (profile(&demo, "alice"), profile(&demo, "alice"), profile(&demo, "bob"));
    here.fill("#display_name", "  Alice Liddell ");
    here.fill("#email", "alice@example.org");
    here.shows("#touched", "Not saved yet");
    here.click("#save");
    has(&there, "#display_name", "Alice Liddell");
    has(&there, "#email", "alice@example.org");
    here.shows("#touched", "Everything is saved");
    assert_eq!(value(&bob, "#display_name"), "");
    bob.goto(&demo.url("/profile"));
    assert_eq!(value(&bob, "#display_name"), "");
}

#[test]
fn a_mistake_shows_beside_its_field_and_nothing_is_saved() {
    let demo = Demo::over(ADAPTER);
    let page = profile(&demo, "alice");
    page.fill("#display_name", "A");
    page.fill("#email", "nowhere");
    page.click("#save");
    page.mentions("#display_name-error", "2 to 40");
    page.mentions("#email-error", "like ada@example.org");
    page.until("document.querySelector('#email').ariaInvalid == 'true'");
    assert_eq!(value(&page, "#email"), "nowhere", "what was typed stays");
    page.fill("#display_name", "Alice");
    page.fill("#email", "");
    page.click("#save");
    page.shows("#touched", "Everything is saved");
    page.shows("#email-error", "");
    page.goto(&demo.url("/profile"));
    assert_eq!((&*value(&page, "#display_name"), &*value(&page, "#email")), ("Alice", ""));
}

#[test]
fn a_removed_preference_vanishes_in_the_other_window() {
    let demo = Demo::over(ADAPTER);
    let (here, there) = (profile(&demo, "alice"), profile(&demo, "alice"));
    there.mentions("#preferences", "None yet");
    prefer(&here, "Colour", "green");
    there.mentions("#preferences", "Colour green");
    has(&here, "#preference", "");
    prefer(&here, "__proto__", "<i>odd</i>");
    there.mentions("#preferences", "__proto__ <i>odd</i>");
    prefer(&there, "Colour", "blue");
    here.mentions("#preferences", "Colour blue");
    assert_eq!(here.count("#preferences li"), 2);
    here.click("button[aria-label='Remove Colour']");
    for page in [&there, &here] {
        until("one preference", || page.count("#preferences li"), |count| *count == 1);
        page.mentions("#preferences", "__proto__");
    }
    there.click("button[aria-label='Remove __proto__']");
    here.mentions("#preferences", "None yet");
    prefer(&here, "", "");
    here.mentions("#preference-error", "1 to 30");
}

#[test]
fn law_08_bob_never_receives_alices_profile_in_any_frame() {
    let demo = Demo::over(ADAPTER);
    let (alice, bob) = (cookie(&demo, "alice"), cookie(&demo, "bob"));
    let everything =
        "/faststate/sse?states=profile,profile.preferences,account,login,settings,chat,chat.messages";
    let (hers, his) =
        (Listening::to(demo.address(), everything, &alice), Listening::to(demo.address(), everything, &bob));
    let guest = Listening::to(
        demo.address(),
        "/faststate/sse?states=profile,profile.preferences,login",
        "Datastar-Request: true\r\n",
    );
    for turn in 0..20 {
        let json = format!(r#"{{"display_name":"wonderland {turn}","about":"wonderland"}}"#);
        send(&demo, &alice, "/faststate/profile/save", &json);
        let json = format!(r#"{{"preference":"wonderland {turn}","value":"wonderland"}}"#);
        send(&demo, &alice, "/faststate/profile/prefer", &json);
    }
    hers.until("wonderland 19");
    // Bob's change arrives last, so all earlier changes would have arrived.
    send(&demo, &bob, "/faststate/profile/save", r#"{"display_name":"plain bob"}"#);
    send(&demo, &bob, "/faststate/profile/prefer", r#"{"preference":"plain","value":"bob"}"#);
    his.until("plain bob");
    his.until("Remove plain");
    assert!(!his.text().contains("wonderland"), "{}", his.text());
    assert!(!guest.text().contains("wonderland") && guest.text().contains("gone"), "{}", guest.text());
    let page = profile(&demo, "bob");
    assert!(!page.signals().to_string().contains("wonderland"));
    assert!(!page.eval("document.documentElement.outerHTML").to_string().contains("wonderland"));
}
