//! Signing in and out.

use std::time::{Duration, Instant};

use faststate_tests::{Demo, Listening, Page, Session, http, until};

use super::ADAPTER;
use crate::{cookie, fill_in, send, sign_in, streaming};

fn session_cookie(page: &Page) -> String {
    let cookies = page.call("Network.getCookies", &serde_json::json!({}));
    let mut cookies = cookies["cookies"].as_array().expect("cookies").iter();
    let session =
        cookies.find(|cookie| cookie["name"].as_str().is_some_and(|name| name.starts_with("faststate")));
    session.and_then(|cookie| cookie["value"].as_str()).expect("a session cookie").to_owned()
}

#[test]
fn a_login_has_a_new_session_and_leads_back_to_where_one_wanted_to_go() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/profile"));
    page.until("location.pathname == '/login'");
    let before = session_cookie(&page);
    fill_in(&page, "alice");
    page.until("location.pathname == '/profile'");
    assert_ne!(session_cookie(&page), before, "an id that was known before is worth nothing");
    page.mentions("main", "alice");
}

#[test]
fn a_wrong_password_is_refused_beside_the_form() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/login"));
    page.expect_complaints(&["422"]);
    page.fill("#name", "alice");
    page.fill("#password", "guess");
    page.enter();
    page.mentions("#refused", "name or the password is wrong");
    assert_eq!(page.eval("document.querySelector('#name').value"), "alice");
    assert_eq!(page.eval("document.querySelector('#password').value"), "");
    page.shows("#who", "Sign in");
}

#[test]
fn law_08_another_site_signs_nobody_in() {
    let demo = Demo::over(ADAPTER);
    for evidence in ["Sec-Fetch-Site: cross-site\r\n", "Origin: https://evil.example\r\n"] {
        let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{evidence}");
        let form = b"name=alice&password=faststate";
        let reply =
            http::exchange(demo.address(), "POST", "/login", &headers, form).expect("the demo answers");
        assert_eq!(reply.status, 403, "{evidence}");
    }
}

#[test]
fn the_playground_and_the_other_windows_come_along() {
    let demo = Demo::over(ADAPTER);
    let session = Session::new();
    let other = session.open(&demo.url("/"));
    other.click("button[aria-label=Increment]");
    other.shows("#number", "1");
    let page = sign_in(&session, &demo, "bob");
    // The open window switches to the new session.
    other.shows("#who", "bob");
    other.shows("#number", "1");
    other.click("button[aria-label=Increment]");
    other.shows("#number", "2");
    page.goto(&demo.url("/"));
    page.shows("#number", "2");
}

#[test]
fn logging_out_shows_in_every_window_of_this_browser_and_in_no_other() {
    let demo = Demo::over(ADAPTER);
    let (here, there) = (Session::new(), Session::new());
    let (page, elsewhere) = (sign_in(&here, &demo, "alice"), sign_in(&there, &demo, "alice"));
    let second = here.open(&demo.url("/profile"));
    page.shows("#browsers", "2 browsers");
    page.click("#log-out");
    page.until("document.querySelector('#sign-in')");
    page.shows("#who", "Sign in");
    second.until("location.pathname == '/login'");
    elsewhere.shows("#browsers", "1 browser");
    elsewhere.shows("#who", "alice");
}

#[test]
fn law_08_logging_out_everywhere_closes_that_users_streams_at_once() {
    let demo = Demo::over(ADAPTER);
    let alice = cookie(&demo, "alice");
    let stream = Listening::to(demo.address(), "/faststate/sse?states=profile,login", &alice);
    stream.until("display_name");
    let bobs = Listening::to(demo.address(), "/faststate/sse?states=profile", &cookie(&demo, "bob"));
    bobs.until("display_name");
    let (page, other) = (sign_in(&Session::new(), &demo, "alice"), sign_in(&Session::new(), &demo, "alice"));
    other.goto(&demo.url("/profile"));
    let bob = sign_in(&Session::new(), &demo, "bob");
    bob.goto(&demo.url("/profile"));
    streaming(&demo, 5);

    page.shows("#browsers", "3 browsers");
    let asked = Instant::now();
    page.click("#log-out-everywhere");
    until("the stream to end", || stream.has_ended(), |ended| *ended);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    page.until("document.querySelector('#sign-in')");
    other.until("location.pathname == '/login'");
    other.shows("#who", "Sign in");

    // Their sessions have ended, and bob's is unaffected.
    let refused = http::exchange(
        demo.address(),
        "GET",
        "/faststate/sse?states=profile",
        alice.split_at(alice.find("Datastar").unwrap_or(0)).0,
        b"",
    );
    assert_eq!(
        refused.expect("the demo answers").status,
        403,
        "a cookie alone gives no evidence of this site"
    );
    let answer = send(&demo, &alice, "/faststate/profile/save", r#"{"display_name":"Mallory"}"#);
    assert!(answer.contains("sign in"), "{answer}");
    assert!(!bobs.has_ended());
    bob.shows("#who", "bob");
    assert_eq!(bob.eval("fetches.filter(type => type != 'datastar-patch-signals' && type != 'datastar-patch-elements').join()"), "started");
}

#[test]
fn who_signs_in_as_somebody_else_is_nobody_but_them() {
    let demo = Demo::over(ADAPTER);
    let session = Session::new();
    let page = sign_in(&session, &demo, "alice");
    let elsewhere = sign_in(&Session::new(), &demo, "alice");
    elsewhere.shows("#browsers", "2 browsers");
    // From a form that is still open in another window.
    let other = Session::new().open(&demo.url("/login"));
    fill_in(&other, "bob");
    page.eval("document.body.insertAdjacentHTML('beforeend', '<form id=again method=post action=/login><input name=name value=bob><input name=password value=faststate></form>')");
    page.eval("window.before = true, document.querySelector('#again').submit()");
    page.until("window.datastarReady && !window.before");
    page.shows("#who", "bob");
    page.shows("#browsers", "2 browsers");
    elsewhere.shows("#browsers", "1 browser");
}

#[test]
fn what_a_form_leads_to_is_a_page_of_ours() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/login?next=//evil.example/"));
    fill_in(&page, "alice");
    assert_eq!(page.eval("location.pathname"), "/login");
}

/// The response to the login form with this password.
fn post_login(demo: &Demo, name: &str, password: &str) -> http::Reply {
    let form = format!("name={name}&password={password}");
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    http::exchange(demo.address(), "POST", "/login", headers, form.as_bytes()).expect("the demo answers")
}

#[test]
fn guessed_passwords_are_limited_by_name() {
    let demo = Demo::over(ADAPTER);
    let statuses: Vec<_> =
        (0..15).map(|guess| post_login(&demo, "alice", &guess.to_string()).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 422).count(), 10, "{statuses:?}");
    assert!(statuses[10..].iter().all(|status| *status == 429), "{statuses:?}");
    let refused = post_login(&demo, "alice", "faststate");
    assert!(refused.status == 429 && refused.text().contains("Try again in a minute"), "{}", refused.text());
    // Other users can still sign in.
    assert_eq!(post_login(&demo, "bob", "faststate").status, 303);
}

#[test]
fn guessed_passwords_are_limited_by_address() {
    let demo = Demo::over(ADAPTER);
    let statuses: Vec<_> = (0..40).map(|name| post_login(&demo, &name.to_string(), "x").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 422).count(), 30, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
}

#[test]
fn hint_cookie_is_secure_where_the_sessions_cookie_is() {
    for (options, is_secure) in [(&["--secure-cookies"][..], true), (&[], false)] {
        let demo = Demo::with(&[&["--adapter", ADAPTER], options].concat());
        let answer = post_login(&demo, "alice", "faststate");
        assert_eq!(answer.status, 303);
        let cookies: Vec<_> =
            answer.head.lines().filter(|line| line.to_lowercase().starts_with("set-cookie")).collect();
        assert_eq!(cookies.len(), 2, "{cookies:?}");
        assert!(cookies.iter().all(|cookie| cookie.contains("; Secure") == is_secure), "{cookies:?}");
    }
}
