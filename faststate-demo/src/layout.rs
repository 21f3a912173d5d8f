//! The frame of every page, and the states that every page follows: the settings and the login.

use std::fmt::Write as _;

use faststate::{Error, ReactiveState, endpoint::Page};

use crate::{account::Login, settings::Settings};

/// The values that the base template needs.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) signals: String,
    /// The action that opens the page's stream.
    pub(crate) follow: String,
    /// The `<script>` that loads Datastar, as HTML.
    pub(crate) datastar: String,
    pub(crate) settings: Settings,
    pub(crate) login: Login,
    /// The page's path in the navigation.
    pub(crate) path: &'static str,
    /// The source file of the page.
    pub(crate) file: &'static str,
}

/// Follows a state that every page shows. While the store is unavailable, the page begins with the default
/// instead of failing.
async fn follow_or_default<S: ReactiveState>(page: &Page) -> Result<S, Error> {
    match page.follow::<S>().await {
        Ok(snapshot) => Ok(S::clone(&snapshot)),
        Err(Error::Unavailable(_) | Error::TimedOut) => Ok(S::default()),
        Err(error) => Err(error),
    }
}

/// Returns the element id of the list item that shows `text`. Without ids, Datastar morphs a list by position, and the
/// focus moves to another item when one is removed.
pub(crate) fn element_id(kind: &str, text: &str) -> String {
    let mut id = format!("{kind}-");
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            id.push(letter);
        } else {
            // Escaped, so that different texts have different ids.
            let _ = write!(id, "_{:x}_", u32::from(letter));
        }
    }
    id
}

impl Layout {
    /// Creates the layout. The page must follow its own states before, because the action `follow` covers only the states
    /// that are followed by then.
    pub(crate) async fn of(page: &Page, path: &'static str, file: &'static str) -> Result<Self, Error> {
        let (settings, login) = (follow_or_default(page).await?, follow_or_default(page).await?);
        let (signals, follow, datastar) = (page.signals(), page.follow_action(), page.datastar_script());
        Ok(Self { signals, follow, datastar, settings, login, path, file })
    }

    /// The pages of the navigation: path and title.
    pub(crate) const PAGES: &'static [(&'static str, &'static str)] = &[
        ("/", "Home"),
        ("/products", "Products"),
        ("/profile", "Profile"),
        ("/chat", "Chat"),
        ("/counter", "Counter"),
        ("/auction", "Auction"),
        ("/status", "Status"),
        ("/admin", "Admin"),
    ];
    /// The stylesheet's address, which changes with its content.
    pub(crate) const STYLE: &'static str = concat!("/style.css?v=", env!("FASTSTATE_STYLE_HASH"));
}
