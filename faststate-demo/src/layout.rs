//! What every page has around its content.

/// The page's signals, what it follows, and where it is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) signals: String,
    pub(crate) follow: String,
    /// The `<script>` that loads Datastar, as HTML.
    pub(crate) datastar: String,
    pub(crate) path: &'static str,
}

impl Layout {
    pub(crate) const PAGES: &'static [(&'static str, &'static str)] =
        &[("/", "Home"), ("/counter", "Counter"), ("/chat", "Chat")];
    /// The stylesheet's address, which changes with its content.
    pub(crate) const STYLE: &'static str = concat!("/style.css?v=", env!("FASTSTATE_STYLE_HASH"));
}
