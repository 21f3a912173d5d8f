//! The page of one request, shared by all handlers of the request.

use std::{fmt, sync::Arc};

use faststate_core::Error;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use tokio::sync::OnceCell;

use super::{Endpoint, page::Page};

/// Creates the [`Page`] of one request at its first use. An adapter stores it in the request, so that all handlers share
/// one page.
///
/// A clone is cheap and belongs to the same request.
#[derive(Clone)]
pub struct RequestPage {
    inner: Arc<RequestPageInner>,
}

struct RequestPageInner {
    endpoint: Endpoint,
    page: OnceCell<Page>,
}

impl RequestPage {
    /// Creates it for a new request.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { inner: Arc::new(RequestPageInner { endpoint, page: OnceCell::new() }) }
    }

    /// Returns the page. The first call creates it; later calls return the same page.
    ///
    /// # Errors
    /// As [`Endpoint::page`]. After an error, the next call tries again.
    pub async fn page(&self, parts: &Parts) -> Result<Page, Error> {
        let RequestPageInner { endpoint, page } = &*self.inner;
        page.get_or_try_init(|| endpoint.page(parts)).await.cloned()
    }

    /// Adds the page's cookies to the response's headers, and a `Cache-Control` that forbids shared caching if the
    /// handler has set none. Does nothing if no handler has used the page.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let Some(page) = self.inner.page.get() else { return };
        page.mark(headers);
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    }
}

impl fmt::Debug for RequestPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPage").field("page", &self.inner.page.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use faststate_core::StateRegistry;
    use http::Request;

    use super::*;

    #[tokio::test]
    async fn handlers_of_one_request_share_its_page() {
        let shared = RequestPage::new(Endpoint::new(StateRegistry::builder().build().unwrap()));
        let mut headers = HeaderMap::new();
        shared.mark(&mut headers);
        assert!(headers.is_empty(), "no handler has used the page");
        let (parts, ()) = Request::new(()).into_parts();
        let (page, again) = (shared.page(&parts).await.unwrap(), shared.clone().page(&parts).await.unwrap());
        page.signal("step", 2);
        assert_eq!(page.signals(), again.signals());
        shared.mark(&mut headers);
        assert_eq!(headers[header::SET_COOKIE], page.set_cookie().unwrap());
        assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
        let mut headers =
            HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        shared.mark(&mut headers);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "the handler's own value is kept");
    }
}
