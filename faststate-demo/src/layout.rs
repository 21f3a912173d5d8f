//! What every page has around its content.

use faststate::endpoint::Page;

/// The page's signals, what it follows, and where it is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) signals: String,
    /// The action that follows what the page shows.
    pub(crate) follow: String,
    /// The `<script>` that loads Datastar, as HTML.
    pub(crate) datastar: String,
    pub(crate) path: &'static str,
}

impl Layout {
    /// The layout of a page that has collected everything it shows.
    pub(crate) fn of(page: &Page, path: &'static str) -> Self {
        Self { signals: page.signals(), follow: page.follow_action(), datastar: page.datastar_script(), path }
    }

    pub(crate) const PAGES: &'static [(&'static str, &'static str)] =
        &[("/", "Home"), ("/counter", "Counter"), ("/chat", "Chat")];
    /// The stylesheet's address, which changes with its content.
    pub(crate) const STYLE: &'static str = concat!("/style.css?v=", env!("FASTSTATE_STYLE_HASH"));

    /// Whether the page follows anything, so that there is a connection to show.
    pub(crate) fn follows(&self) -> bool {
        self.follow.contains("@get")
    }
}
