//! One request's page, for as many as ask.

use std::{fmt, sync::Arc};

use faststate_core::Error;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use tokio::sync::OnceCell;

use super::{Endpoint, Page};

/// One request for a page: an adapter keeps it with the request, so that everything that handles the request
/// shares one [`Page`].
///
/// Cheap to clone; clones are the same visit.
#[derive(Clone)]
pub struct RequestPage {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    page: OnceCell<Page>,
}

impl RequestPage {
    /// A request that has just arrived.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { inner: Arc::new(Inner { endpoint, page: OnceCell::new() }) }
    }

    /// The page: made when somebody first asks for it, the same one from then on.
    ///
    /// # Errors
    /// As [`Endpoint::page`]; the next one who asks tries again.
    pub async fn page(&self, parts: &Parts) -> Result<Page, Error> {
        let Inner { endpoint, page } = &*self.inner;
        page.get_or_try_init(|| endpoint.page(parts)).await.cloned()
    }

    /// Puts on the answer what a page needs there: the cookie of a new session, and that no cache shares it.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let Some(page) = self.inner.page.get() else { return };
        page.mark(headers);
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    }
}

impl fmt::Debug for RequestPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("page", &self.inner.page.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use faststate_core::StateRegistry;
    use http::Request;

    use super::*;

    #[tokio::test]
    async fn everybody_who_handles_a_request_shares_its_page() {
        let visit = RequestPage::new(Endpoint::new(StateRegistry::builder().build().unwrap()));
        let mut headers = HeaderMap::new();
        visit.mark(&mut headers);
        assert!(headers.is_empty(), "nobody has asked for a page");
        let (parts, ()) = Request::new(()).into_parts();
        let (page, again) = (visit.page(&parts).await.unwrap(), visit.clone().page(&parts).await.unwrap());
        page.signal("step", 2);
        assert_eq!(page.signals(), again.signals());
        visit.mark(&mut headers);
        assert_eq!(headers[header::SET_COOKIE], page.set_cookie().unwrap());
        assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
        let mut shared =
            HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        visit.mark(&mut shared);
        assert_eq!(shared[header::CACHE_CONTROL], "no-store", "the handler knows better");
    }
}
