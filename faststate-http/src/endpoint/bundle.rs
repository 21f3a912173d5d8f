//! The Datastar bundle, from the CDN or served by this node.

use std::{fmt, fmt::Write as _, io, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    reply::{ReplyBody, answer},
    route::BUNDLE,
};

/// The source from which browsers load Datastar.
///
/// Only the pinned bundle, Datastar 1.0.4, is accepted: the browser checks its integrity, and this crate checks the
/// SHA-256 of a bundle that it serves.
#[derive(Clone)]
pub struct Bundle(Option<Bytes>);

/// A bundle that cannot be read, or that is not the pinned one.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BundleError(#[from] BundleMistake);

#[derive(Debug, thiserror::Error)]
enum BundleMistake {
    /// The file cannot be read.
    #[error("the Datastar bundle cannot be read: check the path and the permissions of the file")]
    Read(#[source] io::Error),
    /// The file is another one, or another version of the bundle.
    #[error(
        "this is not Datastar 1.0.4: its SHA-256 is {found}, not {}; get it from {}",
        Bundle::SHA256,
        Bundle::CDN
    )]
    Hash {
        /// The SHA-256 of the file.
        found: String,
    },
}

impl Bundle {
    /// The SHA-256 of the pinned bundle, Datastar 1.0.4.
    pub const SHA256: &str = "727844adfc825ee651fb93c544a2a739986f9a21820a94524b35f0cac470cf91";
    /// The subresource integrity of the pinned bundle.
    pub const INTEGRITY: &str = "sha384-twbOvafhSBQ0rJDNPzJdUw6DRvthVgAVfSIG1BQVmCiNO7Qh2zeVn7T5qstgjJ9q";
    /// The address of the pinned bundle on the CDN.
    pub const CDN: &str = "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.4/bundles/datastar.js";

    /// Loads the bundle from the CDN; the browser checks it.
    #[must_use]
    pub const fn cdn() -> Self {
        Self(None)
    }

    /// Serves these bytes at `/faststate/datastar.js`, for example the bytes of `include_bytes!(..).as_slice()`.
    ///
    /// # Errors
    /// An error for anything but the pinned bundle.
    pub fn bytes(bytes: impl Into<Bytes>) -> Result<Self, BundleError> {
        let bytes = bytes.into();
        let mut found = String::with_capacity(64);
        for byte in Sha256::digest(&bytes) {
            let _ = write!(found, "{byte:02x}");
        }
        if found == Self::SHA256 { Ok(Self(Some(bytes))) } else { Err(BundleMistake::Hash { found }.into()) }
    }

    /// Serves the content of a file, which is read once, by this call.
    ///
    /// # Errors
    /// An error if the file cannot be read or is not the pinned bundle.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, BundleError> {
        Self::bytes(std::fs::read(path).map_err(BundleMistake::Read)?)
    }

    /// Returns the `<script>` for the page's head.
    #[must_use]
    pub fn script(&self) -> String {
        let source = match self.0 {
            None => Self::CDN.to_owned(),
            Some(_) => format!("{BUNDLE}?v={}", version()),
        };
        let integrity = Self::INTEGRITY;
        format!(
            "<script type=\"module\" src=\"{source}\" integrity=\"{integrity}\" \
             crossorigin=\"anonymous\"></script>"
        )
    }

    /// Returns the source expression for a content security policy: the one file on the CDN, or this site.
    #[cfg(feature = "inspector")]
    pub(super) const fn source(&self) -> &'static str {
        if self.0.is_some() { "'self'" } else { Self::CDN }
    }

    /// Returns the response with the bundle, if this node serves it.
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

/// Returns a prefix of the hash that distinguishes versions.
fn version() -> &'static str {
    &Bundle::SHA256[..16]
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
    fn other_bundles_are_refused() {
        let error = Bundle::bytes("alert(1)").unwrap_err().to_string();
        assert!(error.contains("not Datastar 1.0.4") && error.contains(Bundle::SHA256), "{error}");
        assert!(matches!(Bundle::file("/nowhere/datastar.js"), Err(BundleError(BundleMistake::Read(_)))));
    }

    #[test]
    fn served_bundle_is_cached_by_its_hash() {
        let bundle = Bundle(Some(Bytes::from_static(b"js")));
        let get = |uri: &str, known: &str| {
            let request = http::Request::builder().uri(uri).header("if-none-match", known).body(());
            bundle.respond(&request.unwrap().into_parts().0).unwrap()
        };
        let source = bundle.script().split('"').find(|part| part.starts_with(BUNDLE)).unwrap().to_owned();
        let first = get(&source, "");
        assert_eq!(first.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(first.headers()["content-type"], "text/javascript; charset=utf-8");
        let again = get(BUNDLE, first.headers()["etag"].to_str().unwrap());
        assert_eq!(
            (again.status().as_u16(), &again.headers()["cache-control"]),
            (304, &"no-cache".parse().unwrap())
        );
    }

    #[test]
    fn script_of_the_cdn_has_an_integrity() {
        let script = Bundle::cdn().script();
        assert!(script.contains("cdn.jsdelivr.net") && script.contains(Bundle::INTEGRITY));
        assert!(script.contains("crossorigin=\"anonymous\""));
    }
}
