//! Stories in which Chromium and Firefox may behave differently.
#![allow(clippy::duplicate_mod, reason = "every story runs in both browsers")]

#[path = "."]
mod in_chromium {
    use faststate_tests::BrowserKind;

    const BROWSER: BrowserKind = BrowserKind::Chromium;

    mod cookies;
    mod cross_site;
    mod focus;
    mod numbers;
    mod overtaking;
    mod proxies;
    mod silence;
    mod windows;
}

#[path = "."]
mod in_firefox {
    use faststate_tests::BrowserKind;

    const BROWSER: BrowserKind = BrowserKind::Firefox;

    mod cookies;
    mod cross_site;
    mod focus;
    mod numbers;
    mod overtaking;
    mod proxies;
    mod silence;
    mod windows;
}

use faststate_tests::{Demo, http};

/// Increments the counter without a browser.
fn increment(demo: &Demo, amount: u32) {
    let json = format!(r#"{{"amount":{amount}}}"#);
    let answer = http::post(demo.address(), "/faststate/counter/increment", &json);
    assert_eq!(answer.expect("the demo answers").status, 200);
}
