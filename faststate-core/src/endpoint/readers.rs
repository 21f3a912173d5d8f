//! Who may read what is for operators and developers.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, header, request::Parts};
use sha2::{Digest as _, Sha256};

use crate::Viewer;

type Policy = dyn Fn(&Asking<'_>) -> bool + Send + Sync;

/// Who may read the metrics, or the inspector. Whoever may not is told that there is nothing.
#[derive(Clone)]
pub struct Readers(Arc<Policy>);

/// Who asks to read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Asking<'a> {
    /// The request's head.
    pub head: &'a Parts,
    /// The other end of the connection: a proxy's, if there is one.
    pub peer: Option<SocketAddr>,
    /// Who it is by the session cookie and the identity closure.
    pub viewer: &'a Viewer,
}

impl Readers {
    /// Whoever is on this machine: a connection from a loopback address to a loopback host's name that no proxy
    /// has forwarded. A proxy that forwards without saying so (`Forwarded`, `X-Forwarded-For`, `X-Real-IP`, `Via`)
    /// and changes the host's name makes everybody local: keep the path from it, or use another policy.
    #[must_use]
    pub fn loopback() -> Self {
        Self::when(|asking| {
            let headers = &asking.head.headers;
            let forwarded =
                [header::FORWARDED.as_str(), "x-forwarded-for", "x-real-ip", header::VIA.as_str()];
            asking.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
                && !forwarded.iter().any(|name| headers.contains_key(*name))
                && is_local(asking.head)
        })
    }

    /// Every viewer with this role, as the identity closure tells.
    #[must_use]
    pub fn role(role: impl Into<String>) -> Self {
        let role = role.into();
        Self::when(move |asking| asking.viewer.has_role(&role))
    }

    /// Whoever sends `Authorization: Bearer` with this token, as Prometheus does with `authorization:
    /// credentials`. An empty token lets nobody in.
    #[must_use]
    pub fn bearer(token: &str) -> Self {
        // Digests are compared, so that time tells nothing of the token.
        let expected = (!token.is_empty()).then(|| Sha256::digest(token));
        Self::when(move |asking| {
            let given = bearer(&asking.head.headers).map(Sha256::digest);
            given.is_some() && given == expected
        })
    }

    /// Everybody who can reach the server. For where a proxy or a firewall keeps others out.
    #[must_use]
    pub fn anybody() -> Self {
        Self::when(|_| true)
    }

    /// Whoever the policy lets in.
    #[must_use]
    pub fn when(policy: impl Fn(&Asking<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(policy))
    }

    pub(super) fn admit(&self, head: &Parts, peer: Option<SocketAddr>, viewer: &Viewer) -> bool {
        (self.0)(&Asking { head, peer, viewer })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the host that was asked is this machine by name: another site's name may be made to lead here.
fn is_local(head: &Parts) -> bool {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(readers: &Readers, peer: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        readers.admit(&head, peer.parse().ok(), &Viewer::default().with_role("ops"))
    }

    #[test]
    fn law_08_loopback_is_this_machine_and_no_proxy_on_it() {
        let local = Readers::loopback();
        for (peer, host) in [
            ("127.0.0.1:9", "localhost:5000"),
            ("[::1]:9", "[::1]"),
            ("[::ffff:127.0.0.1]:9", "127.0.0.1:80"),
        ] {
            assert!(admits(&local, peer, &[("host", host)]), "{peer} {host}");
        }
        assert!(!admits(&local, "10.0.0.1:9", &[("host", "localhost")]));
        assert!(!admits(&local, "none", &[("host", "localhost")]));
        assert!(!admits(&local, "127.0.0.1:9", &[]));
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "evil.example:80"] {
            assert!(!admits(&local, "127.0.0.1:9", &[("host", host)]), "{host}");
        }
        for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            assert!(!admits(&local, "127.0.0.1:9", &[("host", "localhost"), (name, "127.0.0.1")]), "{name}");
        }
    }

    #[test]
    fn law_08_tokens_and_roles() {
        let with = |readers: &Readers, text| admits(readers, "none", &[("authorization", text)]);
        let token = Readers::bearer("s3cret");
        assert!(with(&token, "Bearer s3cret") && with(&token, "bearer s3cret"));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer ", "Bearer", ""] {
            assert!(!with(&token, wrong) && !with(&Readers::bearer(""), wrong), "{wrong}");
        }
        assert!(admits(&Readers::role("ops"), "none", &[]) && !admits(&Readers::role("dev"), "none", &[]));
        assert!(admits(&Readers::anybody(), "none", &[]));
    }
}
