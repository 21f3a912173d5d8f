//! The Chromium that the tests of one program share, and its sessions.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::{context::Context, devtools::Devtools, page::Page, value::text_of, window::Cookie};

/// A headless Chromium.
///
/// Starting it takes half a second, so the tests of one program share it. It ends with the program.
#[derive(Clone, Debug)]
pub struct Browser {
    devtools: Arc<Devtools>,
}

/// Windows with their own cookies, caches and connections: a separate client, as servers see it.
#[derive(Clone, Debug)]
pub struct Session {
    context: Arc<Context>,
}

impl Browser {
    /// The browser of this program.
    #[must_use]
    pub fn shared() -> Self {
        static SHARED: LazyLock<Browser> = LazyLock::new(Browser::launch);
        SHARED.clone()
    }

    /// Starts a separate browser.
    #[must_use]
    pub fn launch() -> Self {
        Self { devtools: Arc::new(Devtools::launch()) }
    }

    /// Opens a new session.
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
    /// Opens a new session in this program's browser.
    #[must_use]
    pub fn new() -> Self {
        Browser::shared().session()
    }

    /// Opens a page with Datastar in a new window, and waits until Datastar has processed it.
    #[must_use]
    pub fn open(&self, url: &str) -> Page {
        let page = self.window();
        page.goto(url);
        page
    }

    /// Opens an empty window.
    #[must_use]
    pub fn window(&self) -> Page {
        Page::create(&self.context)
    }

    pub(crate) fn cookies(&self) -> Vec<Cookie> {
        let cookies = self.storage("Storage.getCookies", json!({}));
        let cookie = |cookie: &Value| Cookie {
            domain: text_of(&cookie["domain"]),
            name: text_of(&cookie["name"]),
            value: text_of(&cookie["value"]),
            expires: cookie["expires"].as_f64().unwrap_or_default() as i64,
        };
        cookies["cookies"].as_array().into_iter().flatten().map(cookie).collect()
    }

    pub(crate) fn set_cookie(&self, cookie: &Cookie) {
        let Cookie { domain, name, value, expires } = cookie;
        let cookie = json!({
            "domain": domain, "path": "/", "name": name, "value": value, "expires": expires, "httpOnly": true,
            "sameSite": "Lax",
        });
        self.storage("Storage.setCookies", json!({ "cookies": [cookie] }));
    }

    fn storage(&self, method: &str, mut params: Value) -> Value {
        params["browserContextId"] = json!(self.context.id);
        self.context.devtools.call(None, method, &params).expect("the browser has cookies")
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}
