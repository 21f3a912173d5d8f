//! Access to the pages for operators and developers.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(feature = "inspector")]
use cookie::{Cookie, SameSite};
use faststate_core::Viewer;
#[cfg(feature = "inspector")]
use http::HeaderValue;
use http::{HeaderMap, header, request::Parts};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "inspector")]
use super::set_cookie::set_cookie;
use super::{
    hosts::{host, is_loopback},
    session::values,
};

type OperatorPolicy = dyn Fn(&AccessRequest<'_>) -> bool + Send + Sync;

/// Decides which requests may read the metrics or the inspector. Other requests get a 404.
#[derive(Clone)]
pub struct OperatorAccess {
    policy: Arc<OperatorPolicy>,
    /// A token that a request must also present.
    token: Option<Arc<OperatorToken>>,
}

/// A token that proves access to this server's log.
struct OperatorToken {
    text: String,
    announced: AtomicBool,
}

/// A request for access.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccessRequest<'a> {
    /// The request's head.
    pub head: &'a Parts,
    /// The other end of the connection: the proxy's address, if there is a proxy.
    pub peer: Option<SocketAddr>,
    /// The viewer, as identified by the session cookie and the identity closure.
    pub viewer: &'a Viewer,
}

impl OperatorAccess {
    /// Admits clients on this machine that present this process's token: the connection comes from a loopback address,
    /// the request names a loopback host, and no header shows that a proxy forwarded it.
    ///
    /// When the server listens, it logs the address with the token, as `http://127.0.0.1:5000/..?token=..`. A browser that
    /// opens it keeps the token in a cookie. Other clients send the token in each request's query, or as
    /// `Authorization: Bearer`. The token is necessary because a proxy on this machine may forward requests without any
    /// header that shows it: nginx does so by default, and sends this server's own address as `Host`.
    #[must_use]
    pub fn loopback() -> Self {
        let policy = |request: &AccessRequest<'_>| {
            let headers = &request.head.headers;
            let forwarded =
                [header::FORWARDED.as_str(), "x-forwarded-for", "x-real-ip", header::VIA.as_str()];
            request.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
                && !forwarded.iter().any(|name| headers.contains_key(*name))
                && host(headers, &request.head.uri).is_some_and(is_loopback)
        };
        Self::when(policy).with_token(format!("{:032x}", rand::random::<u128>()))
    }

    /// Also requires this token. It replaces the random token of [`loopback`](Self::loopback), for clients that cannot
    /// read the log.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        let token = OperatorToken { text: token.into(), announced: AtomicBool::new(false) };
        Self { token: Some(Arc::new(token)), ..self }
    }

    /// Admits every viewer with this role.
    #[must_use]
    pub fn role(role: impl Into<String>) -> Self {
        let role = role.into();
        Self::when(move |request| request.viewer.has_role(&role))
    }

    /// Admits requests with `Authorization: Bearer` and this token, which Prometheus sends with the setting
    /// `authorization: credentials`. An empty token admits no request.
    #[must_use]
    pub fn bearer(token: &str) -> Self {
        // Comparing digests does not leak the token through timing.
        let expected = (!token.is_empty()).then(|| Sha256::digest(token));
        Self::when(move |request| {
            let given = bearer(&request.head.headers).map(Sha256::digest);
            given.is_some() && given == expected
        })
    }

    /// Admits every request. Use it only if a proxy or a firewall restricts access.
    #[must_use]
    pub fn anybody() -> Self {
        Self::when(|_| true)
    }

    /// Admits the requests that the policy accepts.
    #[must_use]
    pub fn when(policy: impl Fn(&AccessRequest<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { policy: Arc::new(policy), token: None }
    }

    pub(super) fn admit(&self, head: &Parts, peer: Option<SocketAddr>, viewer: &Viewer) -> bool {
        let presents = |token: &Arc<OperatorToken>| token.is_presented(head);
        (self.policy)(&AccessRequest { head, peer, viewer }) && self.token.as_ref().is_none_or(presents)
    }

    /// Returns the `Set-Cookie` header that stores the token, if the request's query contains it.
    #[cfg(feature = "inspector")]
    pub(super) fn cookie(&self, head: &Parts, secure: bool) -> Option<HeaderValue> {
        let token = self.token.as_ref().filter(|token| token.is_in_query(head))?;
        let cookie = Cookie::build((token.cookie_name(), &*token.text)).path("/faststate").http_only(true);
        let header = set_cookie(&cookie.same_site(SameSite::Strict).secure(secure).build());
        // A token that a header cannot contain is not stored.
        Some(header).filter(|header| !header.is_empty())
    }

    /// Logs the address with the token, once.
    pub(super) fn announce(&self, listening: Option<SocketAddr>, path: &str) {
        let Some(token) = &self.token else { return };
        if token.announced.swap(true, Ordering::Relaxed) {
            return;
        }
        let local = |mut address: SocketAddr| {
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            format!("http://{address}")
        };
        let server = listening.map_or_else(String::new, local);
        tracing::info!("open {server}{path}?token={}", token.text);
    }
}

impl OperatorToken {
    /// Returns whether a request contains the token: in its query, in `Authorization`, or in a cookie.
    fn is_presented(&self, head: &Parts) -> bool {
        let name = self.cookie_name();
        let cookie = || values(&head.headers, &name).any(|value| self.equals(value));
        self.is_in_query(head)
            || bearer(&head.headers).is_some_and(|text| self.equals(text.as_bytes()))
            || cookie()
    }

    fn is_in_query(&self, head: &Parts) -> bool {
        let query = head.uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).any(|(name, value)| name == "token" && self.equals(value.as_bytes()))
    }

    /// Compares digests, which does not leak the token through timing.
    fn equals(&self, text: &[u8]) -> bool {
        !self.text.is_empty() && Sha256::digest(text) == Sha256::digest(&self.text)
    }

    /// Returns a name derived from the token, because servers on other ports of this machine share the browser's cookies.
    fn cookie_name(&self) -> String {
        let digest = Sha256::digest(&self.text);
        format!("faststate_reader_{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl fmt::Debug for OperatorAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorAccess(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(access: &OperatorAccess, peer: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder();
        for (name, value) in headers.iter().filter(|(name, _)| *name != "uri") {
            request = request.header(*name, *value);
        }
        let uri = headers.iter().find(|(name, _)| *name == "uri").map_or("/", |(_, uri)| uri);
        let (head, ()) = request.uri(uri).body(()).unwrap().into_parts();
        access.admit(&head, peer.parse().ok(), &Viewer::default().with_role("ops"))
    }

    #[test]
    fn law_08_loopback_admits_only_direct_local_requests() {
        let local = OperatorAccess::loopback().with_token("t0ken");
        let token = ("authorization", "Bearer t0ken");
        for (peer, host) in [
            ("127.0.0.1:9", "localhost:5000"),
            ("[::1]:9", "[::1]"),
            ("[::ffff:127.0.0.1]:9", "127.0.0.1:80"),
        ] {
            assert!(admits(&local, peer, &[("host", host), token]), "{peer} {host}");
        }
        assert!(!admits(&local, "10.0.0.1:9", &[("host", "localhost"), token]));
        assert!(!admits(&local, "none", &[("host", "localhost"), token]));
        assert!(!admits(&local, "127.0.0.1:9", &[token]));
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "evil.example:80"] {
            assert!(!admits(&local, "127.0.0.1:9", &[("host", host), token]), "{host}");
        }
        for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            let headers = [("host", "localhost"), (name, "127.0.0.1"), token];
            assert!(!admits(&local, "127.0.0.1:9", &headers), "{name}");
        }
    }

    /// nginx by default sends the server's own address as `Host` and no header about the client.
    #[test]
    fn law_08_loopback_refuses_clients_of_a_transparent_proxy() {
        let local = OperatorAccess::loopback().with_token("t0ken");
        let through = |more: &[(&str, &str)]| {
            admits(
                &local,
                "127.0.0.1:9",
                &[&[("host", "127.0.0.1:5000"), ("connection", "close")], more].concat(),
            )
        };
        let name = local.token.as_ref().unwrap().cookie_name();
        assert!(!through(&[]) && !through(&[("uri", "/?token=")]) && !through(&[("uri", "/?token=t0ke")]));
        assert!(
            !through(&[("cookie", &format!("{name}=x"))]) && !through(&[("cookie", &format!("{name}="))])
        );
        assert!(through(&[("uri", "/faststate/inspector?a=b&token=t0ken")]));
        assert!(through(&[("cookie", &format!("a=b; {name}=t0ken"))]));
        assert!(
            !admits(&OperatorAccess::loopback(), "127.0.0.1:9", &[("host", "localhost")]),
            "without the random token"
        );
    }

    #[test]
    fn law_08_bearer_tokens_and_roles_admit_exact_matches() {
        let with = |access: &OperatorAccess, text| admits(access, "none", &[("authorization", text)]);
        let token = OperatorAccess::bearer("s3cret");
        assert!(with(&token, "Bearer s3cret") && with(&token, "bearer s3cret"));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer ", "Bearer", ""] {
            assert!(!with(&token, wrong) && !with(&OperatorAccess::bearer(""), wrong), "{wrong}");
        }
        assert!(
            admits(&OperatorAccess::role("ops"), "none", &[])
                && !admits(&OperatorAccess::role("dev"), "none", &[])
        );
        assert!(admits(&OperatorAccess::anybody(), "none", &[]));
    }
}
