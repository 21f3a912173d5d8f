//! Where the browser gets Datastar from.

use std::{fmt, fmt::Write as _, io, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    reply::{ReplyBody, answer},
    route::BUNDLE,
};

/// The SHA-256 of the pinned bundle, Datastar 1.0.4.
pub const DATASTAR_SHA256: &str = "727844adfc825ee651fb93c544a2a739986f9a21820a94524b35f0cac470cf91";
/// The pinned bundle's subresource integrity.
pub const DATASTAR_INTEGRITY: &str =
    "sha384-twbOvafhSBQ0rJDNPzJdUw6DRvthVgAVfSIG1BQVmCiNO7Qh2zeVn7T5qstgjJ9q";
/// Where the pinned bundle is published.
pub const DATASTAR_CDN: &str =
    "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.4/bundles/datastar.js";

/// Where the browser gets Datastar from. Whatever the source, only the pinned bundle is accepted: by the
/// browser through its integrity, and here by its SHA-256.
#[derive(Clone)]
pub struct Bundle(Option<Bytes>);

/// This is not the pinned bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file cannot be read.
    #[error("the Datastar bundle cannot be read")]
    Read(#[source] io::Error),
    /// It is another file or version.
    #[error(
        "this is not Datastar 1.0.4: its SHA-256 is {found}, not {DATASTAR_SHA256}; get it from {DATASTAR_CDN}"
    )]
    Hash {
        /// What it is instead.
        found: String,
    },
}

impl Bundle {
    /// From the CDN, checked by the browser.
    #[must_use]
    pub const fn cdn() -> Self {
        Self(None)
    }

    /// From these bytes, served at `/faststate/datastar.js`.
    ///
    /// # Errors
    /// [`BundleError::Hash`] for anything but the pinned bundle.
    pub fn bytes(bytes: impl Into<Bytes>) -> Result<Self, BundleError> {
        let bytes = bytes.into();
        let mut found = String::with_capacity(64);
        for byte in Sha256::digest(&bytes) {
            let _ = write!(found, "{byte:02x}");
        }
        if found == DATASTAR_SHA256 { Ok(Self(Some(bytes))) } else { Err(BundleError::Hash { found }) }
    }

    /// From bytes that are part of the program, as [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// [`BundleError::Hash`] for anything but the pinned bundle.
    pub fn embedded(bytes: &'static [u8]) -> Result<Self, BundleError> {
        Self::bytes(Bytes::from_static(bytes))
    }

    /// From a file, read once, now.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the pinned bundle.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, BundleError> {
        Self::bytes(std::fs::read(path).map_err(BundleError::Read)?)
    }

    /// The `<script>` for the page's head.
    #[must_use]
    pub fn script(&self) -> String {
        let source = match self.0 {
            None => DATASTAR_CDN.to_owned(),
            Some(_) => format!("{BUNDLE}?v={}", version()),
        };
        format!(
            "<script type=\"module\" src=\"{source}\" integrity=\"{DATASTAR_INTEGRITY}\" \
             crossorigin=\"anonymous\"></script>"
        )
    }

    /// The script's source in a content security policy: this one file of the CDN, or this site.
    #[cfg(feature = "inspector")]
    pub(super) const fn source(&self) -> &'static str {
        if self.0.is_some() { "'self'" } else { DATASTAR_CDN }
    }

    /// The bundle, if this node serves it.
    pub(super) fn respond(&self, parts: &Parts) -> Option<Response<ReplyBody>> {
        let bytes = self.0.clone()?;
        let etag = format!("\"{}\"", version());
        let known = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == etag.as_str());
        let mut response = if known {
            let mut response = Response::new(ReplyBody::full(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            answer(StatusCode::OK, "text/javascript; charset=utf-8", ReplyBody::full(bytes))
        };
        let lasting = parts.uri.query().is_some_and(|query| query == format!("v={}", version()));
        let cache = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Ok(etag) = HeaderValue::try_from(etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        Some(response)
    }
}

/// Enough of the hash to tell versions apart.
fn version() -> &'static str {
    &DATASTAR_SHA256[..16]
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bundle::bytes(..)" } else { "Bundle::cdn()" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_bundle_is_refused() {
        let error = Bundle::bytes("alert(1)").unwrap_err().to_string();
        assert!(error.contains("not Datastar 1.0.4") && error.contains(DATASTAR_SHA256), "{error}");
        assert!(matches!(Bundle::file("/nowhere/datastar.js"), Err(BundleError::Read(_))));
    }

    #[test]
    fn a_served_bundle_is_cached_by_its_hash() {
        let bundle = Bundle(Some(Bytes::from_static(b"js")));
        let ask = |uri: &str, known: &str| {
            let request = http::Request::builder().uri(uri).header("if-none-match", known).body(());
            bundle.respond(&request.unwrap().into_parts().0).unwrap()
        };
        let source = bundle.script().split('"').find(|part| part.starts_with(BUNDLE)).unwrap().to_owned();
        let first = ask(&source, "");
        assert_eq!(first.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(first.headers()["content-type"], "text/javascript; charset=utf-8");
        let again = ask(BUNDLE, first.headers()["etag"].to_str().unwrap());
        assert_eq!(
            (again.status().as_u16(), &again.headers()["cache-control"]),
            (304, &"no-cache".parse().unwrap())
        );
    }

    #[test]
    fn the_cdn_is_checked_by_the_browser() {
        let script = Bundle::cdn().script();
        assert!(script.contains("cdn.jsdelivr.net") && script.contains(DATASTAR_INTEGRITY));
        assert!(script.contains("crossorigin=\"anonymous\""));
    }
}
