//! What the stories that run in more than one browser do with a window.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    browser, firefox,
    page::{Page, is_truthy},
    wait::{until, until_within},
};

/// A window with one page, of any browser.
///
/// Dropping it closes the window, and fails the test if the console had a complaint that was not
/// [expected](Window::expect_complaints).
pub trait Window: Send {
    /// Evaluates JavaScript, promises included.
    ///
    /// # Errors
    /// What the script threw, or why it could not run.
    fn run(&self, script: &str) -> Result<Value, String>;

    /// Goes to a page and waits until it has loaded.
    fn load(&self, url: &str);

    /// Presses and releases the mouse in the middle of the element, once it is there and can be seen.
    fn click(&self, selector: &str);

    /// Types into the element that has the focus, key by key.
    fn type_keys(&self, text: &str);

    /// Presses a key that has a name: `Enter`, `Backspace`.
    fn press(&self, key: Key);

    /// Complaints of the console that contain one of these do not fail the test.
    fn expect_complaints(&self, containing: &[&'static str]);

    /// Evaluates JavaScript that must not fail.
    fn eval(&self, script: &str) -> Value {
        self.run(script).unwrap_or_else(|problem| panic!("{script}\n{problem}"))
    }

    /// Waits until this JavaScript is truthy, and gives its value.
    fn until(&self, script: &str) -> Value {
        let look = || self.run(script).unwrap_or_else(|problem| json!({ "problem": problem }));
        until(script, look, |value| is_truthy(value) && value.get("problem").is_none())
    }

    /// Waits at most this long until this JavaScript is truthy.
    fn until_within(&self, deadline: Duration, script: &str) {
        let look = || self.run(script).unwrap_or_else(|problem| json!({ "problem": problem }));
        until_within(deadline, script, look, |value| is_truthy(value) && value.get("problem").is_none());
    }

    /// Waits until the element shows exactly this text, white space around it aside.
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

    /// The value of the field.
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

/// A cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The host that gets it.
    pub domain: String,
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// When the browser removes it, in seconds since 1970.
    pub expires: i64,
}

/// A browser that a story runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrowserKind {
    /// Chromium, over its DevTools pipe.
    Chromium,
    /// Firefox, over WebDriver BiDi.
    Firefox,
}

/// Windows that share cookies.
#[derive(Debug)]
pub enum Visitor {
    /// In Chromium.
    Chromium(browser::Session),
    /// In Firefox.
    Firefox(firefox::Session),
}

impl BrowserKind {
    /// A visitor without cookies.
    #[must_use]
    pub fn visitor(self) -> Visitor {
        match self {
            Self::Chromium => Visitor::Chromium(browser::Session::new()),
            Self::Firefox => Visitor::Firefox(firefox::Session::new()),
        }
    }
}

impl Visitor {
    /// Opens a page with Datastar, and waits until Datastar has read it.
    #[must_use]
    pub fn open(&self, url: &str) -> Box<dyn Window> {
        let window = self.window();
        window.load(url);
        window.until("window.datastarReady");
        window
    }

    /// A window of its own, still empty.
    #[must_use]
    pub fn window(&self) -> Box<dyn Window> {
        match self {
            Self::Chromium(session) => Box::new(session.window()),
            Self::Firefox(session) => Box::new(session.window()),
        }
    }

    /// Every cookie that the windows share.
    #[must_use]
    pub fn cookies(&self) -> Vec<Cookie> {
        match self {
            Self::Chromium(session) => session.cookies(),
            Self::Firefox(session) => session.cookies(),
        }
    }

    /// Replaces a cookie of a server, for all its paths.
    pub fn set_cookie(&self, cookie: &Cookie) {
        match self {
            Self::Chromium(session) => session.set_cookie(cookie),
            Self::Firefox(session) => session.set_cookie(cookie),
        }
    }
}

impl Window for Page {
    fn run(&self, script: &str) -> Result<Value, String> {
        self.try_eval(script)
    }

    fn load(&self, url: &str) {
        self.navigate(url);
    }

    fn click(&self, selector: &str) {
        Self::click(self, selector);
    }

    fn type_keys(&self, text: &str) {
        for letter in text.chars() {
            self.type_text(&letter.to_string());
        }
    }

    fn press(&self, key: Key) {
        match key {
            Key::Enter => self.enter(),
            Key::Backspace => self.backspace(),
        }
    }

    fn expect_complaints(&self, containing: &[&'static str]) {
        Self::expect_complaints(self, containing);
    }
}

/// Where the middle of the element is in the window, once it can be clicked.
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

/// Runs in each document before its own scripts.
pub(crate) const WITNESS: &str = "
    document.addEventListener('datastar-ready', () => { window.datastarReady = true });
    window.fetches = [];
    document.addEventListener('datastar-fetch', event => window.fetches.push(event.detail.type));
";

/// Fails the test if the console had complaints other than the expected ones.
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
