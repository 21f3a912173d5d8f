//! Windows of any browser, for tests that run in several browsers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    value::is_truthy,
    wait::{until, until_within},
};

/// A window with one page, in any browser.
///
/// Dropping it closes the window, and fails the test if the console showed a message that was not
/// [expected](Window::expect_complaints).
pub trait Window: Send {
    /// Evaluates JavaScript, promises included.
    ///
    /// # Errors
    /// Returns the exception that the script threw, or the reason why it could not run.
    fn run(&self, script: &str) -> Result<Value, String>;

    /// Navigates to a page and waits for its load event.
    fn load(&self, url: &str);

    /// Clicks the center of the element with the mouse, once it can be clicked.
    fn click(&self, selector: &str);

    /// Types into the focused element, key by key.
    fn type_keys(&self, text: &str);

    /// Presses a key that has a name: `Enter`, `Backspace`.
    fn press(&self, key: Key);

    /// Declares that console messages that contain one of these texts do not fail the test.
    fn expect_complaints(&self, containing: &[&'static str]);

    /// Evaluates JavaScript; panics if it fails.
    fn eval(&self, script: &str) -> Value {
        self.run(script).unwrap_or_else(|problem| panic!("{script}\n{problem}"))
    }

    /// Waits until this JavaScript evaluates to a truthy value, and returns the value.
    fn until(&self, script: &str) -> Value {
        let look = || self.run(script).unwrap_or_else(|problem| json!({ "problem": problem }));
        until(script, look, |value| is_truthy(value) && value.get("problem").is_none())
    }

    /// Waits until this JavaScript evaluates to a truthy value, for at most `deadline`.
    fn until_within(&self, deadline: Duration, script: &str) {
        let look = || self.run(script).unwrap_or_else(|problem| json!({ "problem": problem }));
        until_within(deadline, script, look, |value| is_truthy(value) && value.get("problem").is_none());
    }

    /// Waits until the trimmed text of the element equals `text`.
    fn shows(&self, selector: &str, text: &str) {
        let shown = format!("document.querySelector({})?.textContent.trim()", json!(selector));
        until(
            &format!("{selector} to show {text:?}"),
            || self.run(&shown).unwrap_or_default(),
            |seen| seen == text,
        );
    }

    /// Replaces the text of the field, key by key.
    fn fill(&self, selector: &str, text: &str) {
        let select = "document.querySelector(SELECTOR)?.focus(), document.querySelector(SELECTOR)?.select(),
            document.activeElement === document.querySelector(SELECTOR)";
        self.until(&select.replace("SELECTOR", &json!(selector).to_string()));
        if text.is_empty() { self.press(Key::Backspace) } else { self.type_keys(text) }
    }

    /// Returns the value of the field.
    fn value(&self, selector: &str) -> String {
        let value = self.eval(&format!("document.querySelector({}).value", json!(selector)));
        value.as_str().unwrap_or_default().to_owned()
    }
}

/// A key that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key that sends a form and presses a button.
    Enter,
    /// The key that deletes the selected text.
    Backspace,
}

/// A cookie in the browser's jar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The host to which it is sent.
    pub domain: String,
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The expiry, in seconds since 1970.
    pub expires: i64,
}

/// Returns JavaScript for the center of the element in the window: `null` until the element can be clicked.
pub(crate) fn middle(selector: &str) -> String {
    format!(
        "(element => {{
            if (!element) return null;
            element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
            const box = element.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const top = document.elementFromPoint(x, y);
            return top && (element.contains(top) || top.contains(element)) ? {{ x, y }} : null;
        }})(document.querySelector({}))",
        json!(selector)
    )
}

/// A script that runs in each document before its own scripts, and records what Datastar reports.
pub(crate) const WITNESS: &str = "
    document.addEventListener('datastar-ready', () => { window.datastarReady = true });
    window.fetches = [];
    document.addEventListener('datastar-fetch', event => window.fetches.push(event.detail.type));
";

/// Fails the test if the console showed unexpected messages.
pub(crate) fn check_complaints(seen: &[String], expected: &[&'static str]) {
    let unexpected: Vec<_> =
        seen.iter().filter(|seen| !expected.iter().any(|expected| seen.contains(expected))).collect();
    if !unexpected.is_empty() {
        let first: Vec<_> = unexpected.iter().take(3).collect();
        let complaints = format!("the console complained {} times: {first:#?}", unexpected.len());
        assert!(std::thread::panicking(), "{complaints}");
        eprintln!("{complaints}");
    }
}
