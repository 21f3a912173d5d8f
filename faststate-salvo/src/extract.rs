//! The arguments that a handler can take.

use std::{fmt, ops::Deref};

use faststate_core::{ReactiveState, Snapshot};
use faststate_http::endpoint::{self, RequestPage};
use salvo::{Depot, Extractible, Request, extract::Metadata};

use crate::{PageError, routes::parts};

/// The page of a request, with all methods of [`endpoint::Page`].
///
/// Any `#[handler]` below [`FastState::pages`](crate::FastState::pages) can take it as an argument. All handlers of one
/// request get the same page.
#[derive(Clone, Debug)]
pub struct Page(endpoint::Page);

impl Deref for Page {
    type Target = endpoint::Page;

    fn deref(&self) -> &endpoint::Page {
        &self.0
    }
}

/// The viewer's current state. A `#[handler]` that takes it as an argument makes the page follow that state.
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

impl<'ex> Extractible<'ex> for Page {
    fn metadata() -> &'static Metadata {
        static METADATA: Metadata = Metadata::new("");
        &METADATA
    }

    #[allow(refining_impl_trait)]
    async fn extract(request: &'ex mut Request, depot: &'ex mut Depot) -> Result<Self, PageError> {
        page(request, depot).await
    }
}

impl<'ex, S: ReactiveState> Extractible<'ex> for Current<S> {
    fn metadata() -> &'static Metadata {
        static METADATA: Metadata = Metadata::new("");
        &METADATA
    }

    #[allow(refining_impl_trait)]
    async fn extract(request: &'ex mut Request, depot: &'ex mut Depot) -> Result<Self, PageError> {
        let page = page(request, depot).await?;
        Ok(Self(page.follow::<S>().await?))
    }
}

async fn page(request: &Request, depot: &Depot) -> Result<Page, PageError> {
    let Ok(request_page) = depot.get_typed::<RequestPage>() else {
        return Err(
            "no page here: add the hoop `FastState::pages()` to this route, or use `FastState::serve`".into(),
        );
    };
    Ok(Page(request_page.page(&parts(request)).await?))
}
