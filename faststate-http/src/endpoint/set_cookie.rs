//! `Set-Cookie` headers.

use std::fmt::Write as _;

use cookie::Cookie;
use http::HeaderValue;

/// Returns the `Set-Cookie` header of a cookie, or an empty one if the cookie has bytes that a header cannot contain.
///
/// The attributes keep the order that clients and tests of earlier versions know, which is not that of [`Cookie`]'s
/// `Display`.
pub(super) fn set_cookie(cookie: &Cookie<'_>) -> HeaderValue {
    let mut text = cookie.stripped().to_string();
    // Writing to a string does not fail.
    if let Some(domain) = cookie.domain() {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(path) = cookie.path() {
        let _ = write!(text, "; Path={path}");
    }
    if let Some(age) = cookie.max_age() {
        let _ = write!(text, "; Max-Age={}", age.whole_seconds());
    }
    if cookie.http_only() == Some(true) {
        text.push_str("; HttpOnly");
    }
    if let Some(same_site) = cookie.same_site() {
        let _ = write!(text, "; SameSite={same_site}");
    }
    if cookie.secure() == Some(true) {
        text.push_str("; Secure");
    }
    let mut header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use cookie::{SameSite, time::Duration};

    use super::*;

    #[test]
    fn attributes_keep_their_order() {
        let session = Cookie::build(("id", "x")).path("/").max_age(Duration::seconds(5)).http_only(true);
        let session = session.same_site(SameSite::Lax).secure(true);
        let header = set_cookie(&session.build());
        assert_eq!(header, "id=x; Path=/; Max-Age=5; HttpOnly; SameSite=Lax; Secure");
        assert!(header.is_sensitive());
        let removal = Cookie::build(("id", "")).domain("a.example").path("/a").max_age(Duration::ZERO);
        let header = set_cookie(&removal.http_only(true).same_site(SameSite::Lax).secure(false).build());
        assert_eq!(header, "id=; Domain=a.example; Path=/a; Max-Age=0; HttpOnly; SameSite=Lax");
    }
}
