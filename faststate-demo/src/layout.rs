//! What every page has around its content, and follows besides it: the settings, and who is signed in.

use std::fmt::Write as _;

use faststate::{Error, ReactiveState, endpoint::Page};

use crate::{account::Login, settings::Settings};

/// The page's signals, what it follows, and where it is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) signals: String,
    /// The action that follows what the page shows.
    pub(crate) follow: String,
    /// The `<script>` that loads Datastar, as HTML.
    pub(crate) datastar: String,
    pub(crate) settings: Settings,
    pub(crate) login: Login,
    /// The place in the navigation.
    pub(crate) path: &'static str,
    /// The file that the page is written in.
    pub(crate) file: &'static str,
}

/// A state that every page shows, and no page is refused for: while the store is away, what a page begins
/// with is its default.
async fn known<S: ReactiveState>(page: &Page) -> Result<S, Error> {
    match page.follow::<S>().await {
        Ok(snapshot) => Ok(S::clone(&snapshot)),
        Err(Error::Unavailable(_) | Error::TimedOut) => Ok(S::default()),
        Err(error) => Err(error),
    }
}

/// An element's id for the item of a list that this text names. Without ids, a list is morphed by position, and the
/// focus moves to another item when one is removed.
pub(crate) fn element_id(kind: &str, text: &str) -> String {
    let mut id = format!("{kind}-");
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            id.push(letter);
        } else {
            // Different texts have different ids.
            let _ = write!(id, "_{:x}_", u32::from(letter));
        }
    }
    id
}

impl Layout {
    /// The layout of a page that has collected everything it shows.
    pub(crate) async fn of(page: &Page, path: &'static str, file: &'static str) -> Result<Self, Error> {
        let (settings, login) = (known(page).await?, known(page).await?);
        let (signals, follow, datastar) = (page.signals(), page.follow_action(), page.datastar_script());
        Ok(Self { signals, follow, datastar, settings, login, path, file })
    }

    pub(crate) const PAGES: &'static [(&'static str, &'static str)] = &[
        ("/", "Home"),
        ("/products", "Products"),
        ("/profile", "Profile"),
        ("/chat", "Chat"),
        ("/counter", "Counter"),
        ("/status", "Status"),
        ("/admin", "Admin"),
    ];
    /// The stylesheet's address, which changes with its content.
    pub(crate) const STYLE: &'static str = concat!("/style.css?v=", env!("FASTSTATE_STYLE_HASH"));
}
