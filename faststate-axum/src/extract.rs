//! The arguments that a handler can take.

use std::{fmt, ops::Deref};

use axum::extract::FromRequestParts;
use faststate_core::{ReactiveState, Snapshot};
use faststate_http::endpoint::{self, RequestPage};
use http::request::Parts;

use crate::PageError;

/// The page of a request, with all methods of [`endpoint::Page`].
///
/// Any handler below [`FastState::pages`](crate::FastState::pages) can take it as an argument. All handlers of one
/// request get the same page.
#[derive(Clone, Debug)]
pub struct Page(endpoint::Page);

impl Deref for Page {
    type Target = endpoint::Page;

    fn deref(&self) -> &endpoint::Page {
        &self.0
    }
}

/// The viewer's current state. A handler that takes it as an argument makes the page follow that state.
///
/// The scope of `S` must be session, user or global. For records and components, which have an id, use
/// [`endpoint::Page::follow_id`].
pub struct Current<S>(Snapshot<S>);

impl<S> Current<S> {
    /// Returns the snapshot, which also has the state's version and its `is_stale` flag.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot<S> {
        &self.0
    }
}

impl<S> Clone for Current<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: ReactiveState> Deref for Current<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> fmt::Debug for Current<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.0.version()).finish()
    }
}

impl<R: Send + Sync> FromRequestParts<R> for Page {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &R) -> Result<Self, PageError> {
        page(parts).await
    }
}

impl<S: ReactiveState, R: Send + Sync> FromRequestParts<R> for Current<S> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &R) -> Result<Self, PageError> {
        Ok(Self(page(parts).await?.follow::<S>().await?))
    }
}

async fn page(parts: &Parts) -> Result<Page, PageError> {
    let Some(request_page) = parts.extensions.get::<RequestPage>() else {
        return Err(
            "no page here: put the layer `FastState::pages()` around this route, or use `FastState::serve`"
                .into(),
        );
    };
    Ok(Page(request_page.page(parts).await?))
}
