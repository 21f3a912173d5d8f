//! The guard against requests that another site makes a browser send.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts};

use super::hosts::host;

static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");
static DATASTAR: HeaderName = HeaderName::from_static("datastar-request");

/// The site that sent a request, according to its headers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestOrigin {
    /// A page of this site.
    SameSite,
    /// The user: a typed address or a bookmark.
    User,
    /// A page of another site.
    CrossSite,
    /// The headers show nothing: a tool, or an old browser.
    Unknown,
}

/// Returns whether the endpoint may act on a request. Refuses requests that another site made a browser send.
///
/// Evidence of another site (`Sec-Fetch-Site`, else `Origin` compared with scheme and host, else `Referer`) is refused
/// with or without a cookie. A request with `authority` (a cookie) must give evidence of this site, or at least contain
/// `Datastar-Request`, which another site cannot add without a CORS preflight. A request without a cookie and without
/// evidence has no ambient authority and is admitted, so curl works.
pub(super) fn admits(parts: &Parts, authority: bool, scheme: &str) -> bool {
    match origin(parts, scheme) {
        RequestOrigin::SameSite => true,
        // A typed address sends a GET, which reaches only events that declare GET.
        RequestOrigin::User => parts.method == Method::GET,
        RequestOrigin::CrossSite => false,
        RequestOrigin::Unknown => !authority || is_datastar(&parts.headers),
    }
}

/// Returns whether the response to a request may set a cookie (law 8).
///
/// Browsers omit `SameSite=Lax` cookies from cross-site requests, except when the user follows a link. A cross-site
/// request without a cookie therefore does not prove that the client has none, and a new session could replace the
/// client's session. Among cross-site requests, only a followed link may begin a session.
pub(super) fn may_set_cookie(parts: &Parts, authority: bool, scheme: &str) -> bool {
    if !parts.method.is_safe() {
        return admits(parts, authority, scheme);
    }
    let headers = &parts.headers;
    // Without `Sec-Fetch-Dest`, `Origin` indicates a fetch: browsers omit it when the user follows a link.
    let embedded = match headers.get(&DESTINATION) {
        Some(destination) => destination != "document",
        None => headers.contains_key(header::ORIGIN),
    };
    !embedded || origin(parts, scheme) != RequestOrigin::CrossSite
}

fn origin(parts: &Parts, scheme: &str) -> RequestOrigin {
    let headers = &parts.headers;
    if let Some(site) = headers.get(&SITE) {
        return match site.as_bytes() {
            b"same-origin" => RequestOrigin::SameSite,
            b"none" => RequestOrigin::User,
            _ => RequestOrigin::CrossSite,
        };
    }
    let is_own =
        |value: &HeaderValue| value.to_str().is_ok_and(|address| is_own_site(address, parts, scheme));
    match (headers.get(header::ORIGIN), headers.get(header::REFERER)) {
        (Some(origin), _) if is_own(origin) => RequestOrigin::SameSite,
        (None, Some(page)) if is_own(page) => RequestOrigin::Unknown,
        (None, None) => RequestOrigin::Unknown,
        _ => RequestOrigin::CrossSite,
    }
}

/// Returns whether a request names its host as HTTP/1.1 requires: exactly once. HTTP/1.0 may omit the host, and HTTP/2
/// has it in the URI.
///
/// With two hosts, a proxy and this server could choose different ones, and `Origin` would be compared with the wrong
/// one.
pub(super) fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => true,
        (Some(_), Some(_)) => false,
        (None, _) => version != Version::HTTP_11,
    }
}

/// Returns whether an origin or a page's address has the scheme and the host of the request.
fn is_own_site(address: &str, parts: &Parts, scheme: &str) -> bool {
    let Some((theirs, rest)) = address.split_once("://") else { return false };
    let Some(host) = host(&parts.headers, &parts.uri) else { return false };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    theirs == scheme && bare(rest.split('/').next().unwrap_or_default()) == bare(host)
}

/// Returns whether Datastar sent the request, so that the response may contain patches.
pub(super) fn is_datastar(headers: &HeaderMap) -> bool {
    headers.get(&DATASTAR).is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn admitted(method: Method, authority: bool, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/faststate/counter/increment");
        request = request.header("host", "app.example:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admits(&request.body(()).unwrap().into_parts().0, authority, "http")
    }

    #[test]
    fn law_08_another_site_is_refused() {
        for method in [Method::POST, Method::GET] {
            for site in ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site"] {
                for authority in [true, false] {
                    let headers = [("sec-fetch-site", site), ("datastar-request", "true")];
                    assert!(!admitted(method.clone(), authority, &headers), "{method} {site}");
                }
            }
            let other_scheme = "https://app.example:8080";
            for origin in [
                "null",
                "http://evil.example",
                "http://app.example",
                "http://app.example:80",
                "",
                other_scheme,
            ] {
                assert!(!admitted(method.clone(), true, &[("origin", origin)]), "{method} {origin}");
            }
            for page in [
                "http://evil.example/",
                "https://app.example:8080/",
                "http://app.example/x",
                "app.example:8080",
            ] {
                let headers = [("referer", page), ("datastar-request", "true")];
                assert!(!admitted(method.clone(), true, &headers), "{method} {page}");
                assert!(!admitted(method.clone(), false, &[("referer", page)]), "{method} {page}");
            }
        }
        assert!(!admitted(Method::POST, true, &[]), "a cookie and neither header");
        assert!(!admitted(Method::POST, true, &[("sec-fetch-site", "none")]), "a typed address cannot post");
    }

    #[test]
    fn law_08_cross_site_request_sets_cookie_only_for_links() {
        let may = |method: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri("/").header("host", "app.example");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            may_set_cookie(&request.body(()).unwrap().into_parts().0, false, "http")
        };
        let (cross, same) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin"));
        assert!(!may("POST", &[cross, ("sec-fetch-dest", "document")]));
        assert!(!may("DELETE", &[("origin", "null")]));
        assert!(may("POST", &[same]) && may("POST", &[]));
        assert!(may("GET", &[cross]) && may("GET", &[cross, ("sec-fetch-dest", "document")]));
        for destination in ["image", "iframe", "empty", ""] {
            assert!(!may("GET", &[cross, ("sec-fetch-dest", destination)]), "{destination}");
            assert!(may("GET", &[same, ("sec-fetch-dest", destination)]), "{destination}");
        }
        assert!(!may("GET", &[("origin", "http://evil.example")]) && may("GET", &[]));
    }

    #[test]
    fn requests_of_this_site_and_tools_are_admitted() {
        assert!(admitted(Method::POST, true, &[("sec-fetch-site", "same-origin")]));
        assert!(admitted(Method::POST, true, &[("sec-fetch-site", "same-origin"), ("origin", "http://x")]));
        assert!(admitted(Method::POST, true, &[("origin", "http://app.example:8080")]));
        assert!(admitted(Method::POST, true, &[("origin", "http://APP.example:8080")]));
        assert!(admitted(Method::POST, true, &[("datastar-request", "true")]));
        assert!(admitted(Method::GET, true, &[("sec-fetch-site", "none")]));
        assert!(admitted(Method::POST, false, &[]), "curl");
        let page = ("referer", "http://app.example:8080/page?q=http://evil.example");
        assert!(admitted(Method::POST, false, &[page]));
        assert!(admitted(Method::POST, true, &[page, ("datastar-request", "true")]));
        assert!(!admitted(Method::POST, true, &[page]), "a referer alone is not evidence of this site");
    }

    #[test]
    fn http_1_1_request_must_name_one_host() {
        let named = |version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            names_one_host(version, &headers)
        };
        assert!(named(Version::HTTP_11, &["a"]) && !named(Version::HTTP_11, &[]));
        assert!(named(Version::HTTP_10, &[]) && named(Version::HTTP_2, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!named(version, &["a", "a"]), "{version:?}");
        }
    }

    #[test]
    fn default_port_of_the_scheme_is_the_same_host() {
        let request = |host: &str, origin: &str| {
            let request = Request::builder().header("host", host).header("origin", origin);
            let scheme = origin.split(':').next().unwrap_or_default();
            admits(&request.body(()).unwrap().into_parts().0, true, scheme)
        };
        assert!(request("app.example:443", "https://app.example"));
        assert!(request("app.example", "http://app.example:80"));
        assert!(!request("app.example:80", "https://app.example"));
    }
}
