//! A page in Chromium: its content, and input from a user.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, mpsc},
};

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use serde_json::{Value, json};

use crate::{
    console::{complaint, describe},
    context::Context,
    devtools::lock,
    value::{is_truthy, text_of},
    wait::until,
    window::{Key, WITNESS, Window, check_complaints, middle},
};

/// One window with one page.
///
/// Dropping it closes the window, and fails the test if the browser's console showed a message that
/// the test did not [expect](Page::expect_complaints).
#[derive(Debug)]
pub struct Page {
    context: Arc<Context>,
    target: String,
    session: String,
    events: Mutex<mpsc::Receiver<Value>>,
    complaints: Mutex<Complaints>,
    /// The tab that [`hide`](Page::hide) has opened in front of the page.
    cover: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Complaints {
    seen: Vec<String>,
    expected: Vec<&'static str>,
}

impl Page {
    pub(crate) fn create(context: &Arc<Context>) -> Self {
        let devtools = &context.devtools;
        let window = json!({ "url": "about:blank", "browserContextId": context.id, "newWindow": true });
        let created = devtools.call(None, "Target.createTarget", &window).expect("a window opens");
        let target = text_of(&created["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = devtools.call(None, "Target.attachToTarget", &attach).expect("its page is there");
        let session = text_of(&attached["sessionId"]);
        let events = Mutex::new(devtools.listen(&session));
        let page = Self {
            context: Arc::clone(context),
            target,
            session,
            events,
            complaints: Mutex::default(),
            cover: Mutex::default(),
        };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, &json!({}));
        }
        page.call("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": WITNESS }));
        page
    }

    /// Navigates to a page with Datastar and waits until Datastar has processed it.
    pub fn goto(&self, url: &str) {
        self.navigate(url);
        self.until("window.datastarReady");
    }

    /// Navigates to a page that loads Datastar from the CDN, and serves that request from the local bundle.
    pub fn goto_without_cdn(&self, url: &str) {
        let bundle = STANDARD.encode(crate::Demo::bundle());
        self.call("Fetch.enable", &json!({ "patterns": [{ "urlPattern": "https://cdn.jsdelivr.net/*" }] }));
        let answer = self.call("Page.navigate", &json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        let headers = json!([
            { "name": "Content-Type", "value": "text/javascript" },
            { "name": "Access-Control-Allow-Origin", "value": "*" },
            { "name": "Access-Control-Allow-Headers", "value": "authorization" },
        ]);
        let ready = || {
            for id in self.paused() {
                let answer = json!({ "requestId": id, "responseCode": 200, "responseHeaders": headers, "body": bundle });
                self.call("Fetch.fulfillRequest", &answer);
            }
            self.try_eval("window.datastarReady").is_ok_and(|ready| ready == true)
        };
        until("Datastar", ready, |ready| *ready);
    }

    /// Returns the ids of the requests that were intercepted since the last call.
    fn paused(&self) -> Vec<Value> {
        let mut complaints = lock(&self.complaints);
        let mut paused = Vec::new();
        for event in lock(&self.events).try_iter() {
            if event["method"] == "Fetch.requestPaused" {
                paused.push(event["params"]["requestId"].clone());
            }
            complaints.seen.extend(complaint(&event));
        }
        paused
    }

    /// Navigates to any page and waits for its load event.
    pub fn navigate(&self, url: &str) {
        let answer = self.call("Page.navigate", &json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.until("document.readyState == 'complete'");
    }

    /// Evaluates JavaScript, promises included.
    pub fn eval(&self, script: &str) -> Value {
        self.try_eval(script).unwrap_or_else(|problem| panic!("{script}\n{problem}"))
    }

    /// Waits until this JavaScript evaluates to a truthy value, and returns the value.
    pub fn until(&self, script: &str) -> Value {
        let look = || self.try_eval(script).unwrap_or_else(|problem| json!({ "problem": problem }));
        until(script, look, |value| is_truthy(value) && value.get("problem").is_none())
    }

    /// Waits until the trimmed text of the element equals `text`.
    pub fn shows(&self, selector: &str, text: &str) {
        until(
            &format!("{selector} to show {text:?}"),
            || self.text(selector),
            |seen| seen.as_deref() == Some(text),
        );
    }

    /// Waits until the element's text contains `text`.
    pub fn mentions(&self, selector: &str, text: &str) {
        let contains = |seen: &Option<String>| seen.as_ref().is_some_and(|seen| seen.contains(text));
        until(&format!("{selector} to mention {text:?}"), || self.text(selector), contains);
    }

    /// Returns the element's trimmed text; `None` if there is no such element, or while the browser is navigating.
    #[must_use]
    pub fn text(&self, selector: &str) -> Option<String> {
        let text = format!("document.querySelector({})?.textContent.trim()", json!(selector));
        self.try_eval(&text).ok()?.as_str().map(str::to_owned)
    }

    /// Returns the number of elements that match the selector.
    #[must_use]
    pub fn count(&self, selector: &str) -> u64 {
        self.eval(&format!("document.querySelectorAll({}).length", json!(selector))).as_u64().unwrap_or(0)
    }

    /// Returns the value of the signal at this path; null if it does not exist.
    #[must_use]
    pub fn signal(&self, path: &str) -> Value {
        self.datastar(&format!("datastar.getPath({})", json!(path)))
    }

    /// Returns all signals.
    #[must_use]
    pub fn signals(&self) -> Value {
        self.datastar("datastar.root")
    }

    /// Evaluates an expression that uses the page's own Datastar module, `datastar`.
    fn datastar(&self, expression: &str) -> Value {
        // An object-valued signal is a proxy; `JSON.stringify` reads its content.
        let read = format!(
            "import(document.querySelector('script[type=module]').src)
            .then(datastar => JSON.stringify({expression} ?? null))"
        );
        serde_json::from_str(self.eval(&read).as_str().unwrap_or_default()).expect("signals are JSON")
    }

    /// Clicks the center of the element with the mouse, once it can be clicked.
    pub fn click(&self, selector: &str) {
        self.press(selector, 1);
    }

    /// Double-clicks.
    pub fn double_click(&self, selector: &str) {
        self.press(selector, 2);
    }

    /// Focuses the element.
    pub fn focus(&self, selector: &str) {
        self.until(&format!("document.querySelector({})?.focus(), true", json!(selector)));
    }

    /// Types into the focused element.
    pub fn type_text(&self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Replaces the field's text by typing.
    pub fn fill(&self, selector: &str, text: &str) {
        self.until(&format!(
            "document.querySelector({0})?.select(), !!document.querySelector({0})",
            json!(selector)
        ));
        self.focus(selector);
        if text.is_empty() { self.backspace() } else { self.type_text(text) }
    }

    /// Presses Enter.
    pub fn enter(&self) {
        self.key("Enter", 13);
    }

    /// Presses Backspace.
    pub fn backspace(&self) {
        self.key("Backspace", 8);
    }

    /// Opens a tab in front of the page, which hides the page.
    pub fn hide(&self) {
        self.activate();
        let tab = json!({ "url": "about:blank", "browserContextId": self.context.id });
        let created = self.context.devtools.call(None, "Target.createTarget", &tab).expect("a tab opens");
        lock(&self.cover).replace(text_of(&created["targetId"]));
        self.until("document.hidden");
    }

    /// Closes the tab in front of the page, which shows the page again.
    pub fn show(&self) {
        if let Some(target) = lock(&self.cover).take() {
            self.close(&target);
        }
        self.activate();
        self.until("!document.hidden");
    }

    /// Writes a screenshot of the whole page to `file`, with the width and color scheme of [`look`](Self::look).
    pub fn picture(&self, width: u32, scheme: &str, file: &Path) {
        self.look(width, scheme);
        self.eval("window.scrollTo(0, 0)");
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = STANDARD.decode(text_of(&self.call("Page.captureScreenshot", &whole)["data"]));
        fs::write(file, picture.expect("a picture in base64")).expect("the picture is written");
    }

    /// Returns the violations that axe-core finds on the page now: each rule with up to three elements that break it.
    #[must_use]
    pub fn barriers(&self) -> Vec<String> {
        self.eval(&format!("window.axe || ({{}}, eval({})), !!window.axe", json!(crate::axe::script())));
        let found = self.eval(
            "axe.run().then(found => found.violations.map(rule => rule.id + ': ' + rule.help + ': '
                + rule.nodes.slice(0, 3).map(node => node.html.slice(0, 160) + ' ' + node.failureSummary).join(' | ')))",
        );
        serde_json::from_value(found).expect("a list of texts")
    }

    /// Sets the width of the window and the color scheme.
    pub fn look(&self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        self.call("Emulation.setScrollbarsHidden", &json!({ "hidden": true }));
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Declares that console messages that contain one of these texts do not fail the test.
    pub fn expect_complaints(&self, containing: &[&'static str]) {
        lock(&self.complaints).expected.extend(containing);
    }

    /// Returns the console's messages so far: errors, warnings, exceptions, failed requests.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = lock(&self.complaints);
        let events = lock(&self.events);
        complaints.seen.extend(events.try_iter().filter_map(|event| complaint(&event)));
        complaints.seen.clone()
    }

    /// Sends a DevTools command to this page.
    pub fn call(&self, method: &str, params: &Value) -> Value {
        let answer = self.context.devtools.call(Some(&self.session), method, params);
        answer.unwrap_or_else(|problem| panic!("{problem}"))
    }

    pub(crate) fn try_eval(&self, script: &str) -> Result<Value, String> {
        let params =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let mut answer = self.context.devtools.call(Some(&self.session), "Runtime.evaluate", &params)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(describe(details)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    fn press(&self, selector: &str, times: u32) {
        let place = self.until(&middle(selector));
        for click in 1..=times {
            for kind in ["mousePressed", "mouseReleased"] {
                let mouse = json!({
                    "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": click,
                });
                self.call("Input.dispatchMouseEvent", &mouse);
            }
        }
    }

    fn key(&self, name: &str, code: u32) {
        let text = if name == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", &key);
        }
    }

    fn activate(&self) {
        let target = json!({ "targetId": self.target });
        self.context
            .devtools
            .call(None, "Target.activateTarget", &target)
            .expect("the page comes to the front");
    }

    fn close(&self, target: &str) {
        let _ = self.context.devtools.call(None, "Target.closeTarget", &json!({ "targetId": target }));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let seen = self.complaints();
        self.context.devtools.forget(&self.session);
        if let Some(cover) = lock(&self.cover).take() {
            self.close(&cover);
        }
        self.close(&self.target);
        let expected = std::mem::take(&mut lock(&self.complaints).expected);
        check_complaints(&seen, &expected);
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
