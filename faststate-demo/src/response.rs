//! HTTP responses of the demo's pages.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The response to a request for a page or a file, independent of the web framework.
#[derive(Debug)]
pub(crate) struct PageResponse(Response<Bytes>);

impl PageResponse {
    /// An HTML page with an error status.
    pub(crate) fn refused(status: StatusCode, html: String) -> Self {
        let mut response = Self::from(html);
        *response.0.status_mut() = status;
        response
    }

    /// A `303 See Other` to another page of this site.
    pub(crate) fn see_other(path: &str) -> Self {
        let mut response = Self(Response::default());
        *response.0.status_mut() = StatusCode::SEE_OTHER;
        // Every path is one of this program's own, so it is always a valid header value.
        response.0.headers_mut().extend(HeaderValue::from_str(path).map(|path| (header::LOCATION, path)));
        response
    }

    /// A static file that browsers cache for a year: its address changes with its content.
    pub(crate) fn file(kind: &'static str, content: &'static str) -> Self {
        let mut response = Self(Response::new(Bytes::from_static(content.as_bytes())));
        response.set(header::CONTENT_TYPE, kind);
        response.set(header::CACHE_CONTROL, "public, max-age=31536000, immutable");
        response
    }

    pub(crate) fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.0.headers_mut().append(header::SET_COOKIE, cookie);
        self
    }

    pub(crate) fn into_inner(self) -> Response<Bytes> {
        self.0
    }

    fn set(&mut self, name: header::HeaderName, value: &'static str) {
        self.0.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

impl From<String> for PageResponse {
    fn from(html: String) -> Self {
        let mut response = Self(Response::new(html.into()));
        response.set(header::CONTENT_TYPE, "text/html; charset=utf-8");
        response
    }
}
