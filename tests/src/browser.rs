//! The browser that a test binary's tests share, and the sessions in it.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::{Page, devtools::Devtools};

/// A headless Chromium.
///
/// Starting one takes half a second, so the tests of one program share it; it ends with the program.
#[derive(Clone, Debug)]
pub struct Browser {
    devtools: Arc<Devtools>,
}

/// Windows with cookies, caches and connections of their own: another person, as servers see it.
#[derive(Clone, Debug)]
pub struct Session {
    context: Arc<Context>,
}

/// What the browser calls a browser context; gone with its last page.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) devtools: Arc<Devtools>,
    pub(crate) id: String,
}

impl Browser {
    /// This program's browser.
    #[must_use]
    pub fn shared() -> Self {
        static SHARED: LazyLock<Browser> = LazyLock::new(Browser::launch);
        SHARED.clone()
    }

    /// A browser of its own.
    #[must_use]
    pub fn launch() -> Self {
        Self { devtools: Arc::new(Devtools::launch()) }
    }

    /// A new session.
    #[must_use]
    pub fn session(&self) -> Session {
        let answer = self.devtools.call(None, "Target.createBrowserContext", &json!({}));
        let id = match &answer.expect("the browser answers")["browserContextId"] {
            Value::String(id) => id.clone(),
            other => panic!("a browser context without an id: {other}"),
        };
        Session { context: Arc::new(Context { devtools: Arc::clone(&self.devtools), id }) }
    }
}

impl Session {
    /// A new session in this program's browser.
    #[must_use]
    pub fn new() -> Self {
        Browser::shared().session()
    }

    /// Opens a page with Datastar in a window of its own, and waits until Datastar has read it.
    #[must_use]
    pub fn open(&self, url: &str) -> Page {
        let page = self.window();
        page.goto(url);
        page
    }

    /// A window of its own, still empty.
    #[must_use]
    pub fn window(&self) -> Page {
        Page::create(&self.context)
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ =
            self.devtools.call(None, "Target.disposeBrowserContext", &json!({ "browserContextId": self.id }));
    }
}
