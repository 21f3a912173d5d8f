//! The copy of a request's head that a stream keeps for its access checks.

use http::{Extensions, HeaderName, HeaderValue, Method, Uri, Version, request::Parts};

/// The longest head of a stream's request, in bytes. The server applies the same limit to every head.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A request's head, with its URI and headers in one allocation.
///
/// It takes as many bytes as the text of the head. [`Parts`] would keep the server's read buffer of at least 8 KiB
/// alive, because its values are slices of that buffer, and its header table takes 2.5 KB for a browser's 15 headers.
pub(super) struct HeadCopy {
    method: Method,
    version: Version,
    /// The URI, then each header as `name:value`. Each is followed by a line feed, which none of them can contain.
    text: Box<[u8]>,
    extensions: Extensions,
}

impl HeadCopy {
    /// Copies a head. Returns `None` if it is longer than [`MAX_HEAD_BYTES`].
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let uri = parts.uri.to_string();
        let lines = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2);
        let length = uri.len() + 1 + lines.sum::<usize>();
        if length > MAX_HEAD_BYTES {
            return None;
        }
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(uri.as_bytes());
        text.push(b'\n');
        for (name, value) in &parts.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        Some(Self {
            method: parts.method.clone(),
            version: parts.version,
            text: text.into_boxed_slice(),
            extensions: parts.extensions.clone(),
        })
    }

    /// Returns the original head.
    pub(super) fn parts(&self) -> Parts {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.version = self.version;
        parts.extensions = self.extensions.clone();
        let mut lines = self.text.split(|byte| *byte == b'\n');
        parts.uri = lines.next().and_then(|uri| Uri::try_from(uri).ok()).unwrap_or_default();
        for line in lines {
            // The last line is empty.
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (HeaderName::from_bytes(&line[..colon]), &line[colon + 1..]);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                parts.headers.append(name, value);
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn head_copy_equals_the_original_head() {
        let request = Request::get("http://app.example/faststate/sse?states=a%20b&datastar=%7B%7D")
            .header("cookie", "a=1; b=:2")
            .header("cookie", "c=3")
            .header("x-empty", "")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff : \t").unwrap())
            .version(Version::HTTP_10)
            .extension(7_u8);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let copy = HeadCopy::of(&parts).unwrap().parts();
        assert_eq!((&copy.method, &copy.uri, copy.version), (&parts.method, &parts.uri, parts.version));
        assert_eq!(copy.headers, parts.headers);
        assert_eq!(copy.extensions.get(), Some(&7_u8));
    }

    #[test]
    fn law_06_head_copy_is_refused_when_head_exceeds_64_kib() {
        let sized = |bytes: usize| {
            let request = Request::get("/").header("x-long", "x".repeat(bytes - "/\nx-long:\n".len()));
            HeadCopy::of(&request.body(()).unwrap().into_parts().0)
        };
        assert!(sized(MAX_HEAD_BYTES).is_some() && sized(MAX_HEAD_BYTES + 1).is_none());
    }
}
