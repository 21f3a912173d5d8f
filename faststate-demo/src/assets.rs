//! The stylesheet, the icon, and the Content-Security-Policy.

use faststate::endpoint::Bundle;
use http::{HeaderMap, HeaderValue, header};

use crate::response::PageResponse;

/// The stylesheet. Its address changes with its content, so that browsers can cache it for a year.
pub(crate) fn style() -> PageResponse {
    PageResponse::file("text/css; charset=utf-8", include_str!("../assets/style.css"))
}

/// The icon.
pub(crate) fn icon() -> PageResponse {
    PageResponse::file("image/svg+xml", include_str!("../assets/favicon.svg"))
}

/// The security headers of every response.
#[derive(Clone, Debug)]
pub(crate) struct ContentPolicy {
    content: HeaderValue,
}

impl ContentPolicy {
    /// Allows only content of this site. Datastar needs `unsafe-eval` because it compiles the expressions in `data-*`
    /// attributes. They all come from this program: text from visitors is escaped and never becomes an attribute.
    pub(crate) fn new(bundle: &Bundle) -> Self {
        let datastar = if bundle.script().contains(Bundle::CDN) { Bundle::CDN } else { "'self'" };
        let content = format!(
            "default-src 'none'; script-src {datastar} 'unsafe-eval'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
        let content = HeaderValue::try_from(content);
        Self { content: content.unwrap_or(HeaderValue::from_static("default-src 'none'")) }
    }

    /// Sets the headers on a response, and keeps a policy that it has already.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert_with(|| self.content.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
}
