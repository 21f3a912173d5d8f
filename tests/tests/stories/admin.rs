//! The site-wide settings.

use faststate_tests::{Demo, Page, Session, http};

use super::ADAPTER;
use crate::{cookie, send, sign_in};

fn admin(demo: &Demo) -> Page {
    let page = sign_in(&Session::new(), demo, "admin");
    page.goto(&demo.url("/admin"));
    page
}

fn accent(page: &Page) -> String {
    page.eval("getComputedStyle(document.body).getPropertyValue('--accent')")
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_theme_changes_every_open_page_at_once() {
    let demo = Demo::over(ADAPTER);
    let (admin, visitor) = (admin(&demo), Session::new().open(&demo.url("/counter")));
    let before = accent(&visitor);
    admin.click("#theme-ember");
    for page in [&admin, &visitor] {
        page.until("document.body.dataset.theme == 'ember'");
    }
    assert_ne!(accent(&visitor), before);
    admin.until("document.querySelector('#theme-ember').ariaPressed == 'true' && document.querySelector('#theme-indigo').ariaPressed == 'false'");
    // Later pages have it from the start.
    let html = http::get(demo.address(), "/").expect("the demo answers").text();
    assert!(html.contains("data-theme=\"ember\""));
}

#[test]
fn maintenance_shows_on_another_users_open_page_and_keeps_it_from_changing_anything() {
    let demo = Demo::over(ADAPTER);
    let admin = admin(&demo);
    let bob = sign_in(&Session::new(), &demo, "bob");
    bob.goto(&demo.url("/counter"));
    bob.click("#increment");
    bob.shows("#count", "1");
    assert_eq!(bob.eval("document.querySelector('#maintenance').checkVisibility()"), false);

    admin.click("#maintenance-switch");
    bob.until("document.querySelector('#maintenance').checkVisibility()");
    bob.click("#increment");
    bob.mentions("#problem", "maintenance is going on");
    bob.shows("#count", "1");
    // During maintenance an administrator can act and end it, and every user can sign out.
    admin.click("#theme-forest");
    bob.until("document.body.dataset.theme == 'forest'");
    let leaving = sign_in(&Session::new(), &demo, "alice");
    leaving.click("#log-out");
    leaving.shows("#who", "Sign in");
    admin.click("#maintenance-switch");
    bob.until("!document.querySelector('#maintenance').checkVisibility()");
    bob.click("#increment");
    bob.shows("#count", "2");
}

#[test]
fn an_announcement_is_text_on_every_page_until_it_is_taken_away() {
    let demo = Demo::over(ADAPTER);
    let (admin, visitor) = (admin(&demo), Session::new().open(&demo.url("/")));
    admin.fill("#text", "Back at <b>noon</b>");
    admin.click("#announce");
    visitor.shows("#announcement", "Back at <b>noon</b>");
    visitor.until("document.querySelector('#announcement').checkVisibility()");
    admin.fill("#text", &"x".repeat(201));
    admin.click("#announce");
    admin.mentions("#text-error", "200");
    visitor.shows("#announcement", "Back at <b>noon</b>");
    admin.click("#silence");
    visitor.until("!document.querySelector('#announcement').checkVisibility()");
}

#[test]
fn law_08_only_administrators_change_settings() {
    let demo = Demo::over(ADAPTER);
    let alice = sign_in(&Session::new(), &demo, "alice");
    alice.expect_complaints(&["403"]);
    alice.goto(&demo.url("/admin"));
    alice.mentions("h1", "for administrators");
    assert_eq!(alice.count("#maintenance-switch"), 0);
    let answer =
        send(&demo, &cookie(&demo, "alice"), "/faststate/settings/set_maintenance", r#"{"on":true}"#);
    assert!(answer.contains("only administrators may do this"), "{answer}");
    let answer = http::post(demo.address(), "/faststate/settings/set_theme", r#"{"theme":"ember"}"#);
    assert_eq!(answer.expect("the demo answers").status, 403);
    assert_eq!(alice.eval("document.body.dataset.theme"), "indigo");
    let guest = Session::new().open(&demo.url("/admin"));
    guest.until("location.pathname == '/login'");
}
