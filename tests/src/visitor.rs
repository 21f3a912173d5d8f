//! Clients of a server, each in a browser of either kind.

use crate::{
    browser, firefox,
    window::{Cookie, Window},
};

/// A kind of browser.
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
    /// Creates a client without cookies.
    #[must_use]
    pub fn visitor(self) -> Visitor {
        match self {
            Self::Chromium => Visitor::Chromium(browser::Session::new()),
            Self::Firefox => Visitor::Firefox(firefox::Session::new()),
        }
    }
}

impl Visitor {
    /// Opens a page with Datastar, and waits until Datastar has processed it.
    #[must_use]
    pub fn open(&self, url: &str) -> Box<dyn Window> {
        let window = self.window();
        window.load(url);
        window.until("window.datastarReady");
        window
    }

    /// Opens an empty window.
    #[must_use]
    pub fn window(&self) -> Box<dyn Window> {
        match self {
            Self::Chromium(session) => Box::new(session.window()),
            Self::Firefox(session) => Box::new(session.window()),
        }
    }

    /// All cookies of the client.
    #[must_use]
    pub fn cookies(&self) -> Vec<Cookie> {
        match self {
            Self::Chromium(session) => session.cookies(),
            Self::Firefox(session) => session.cookies(),
        }
    }

    /// Replaces a server's cookie for all paths.
    pub fn set_cookie(&self, cookie: &Cookie) {
        match self {
            Self::Chromium(session) => session.set_cookie(cookie),
            Self::Firefox(session) => session.set_cookie(cookie),
        }
    }
}
