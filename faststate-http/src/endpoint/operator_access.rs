//! Who may read what is for operators and developers.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use faststate_core::Viewer;
#[cfg(feature = "inspector")]
use http::HeaderValue;
use http::{HeaderMap, header, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    hosts::{host, is_loopback},
    session::values,
};

type Policy = dyn Fn(&AccessRequest<'_>) -> bool + Send + Sync;

/// Who may read the metrics, or the inspector. Whoever may not is told that there is nothing.
#[derive(Clone)]
pub struct OperatorAccess {
    policy: Arc<Policy>,
    /// What a reader must present besides.
    token: Option<Arc<Token>>,
}

/// Shows that a reader has seen this server's log.
struct Token {
    text: String,
    announced: AtomicBool,
}

/// Who asks to read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccessRequest<'a> {
    /// The request's head.
    pub head: &'a Parts,
    /// The other end of the connection: a proxy's, if there is one.
    pub peer: Option<SocketAddr>,
    /// Who it is by the session cookie and the identity closure.
    pub viewer: &'a Viewer,
}

impl OperatorAccess {
    /// Readers on this machine that have the token of this process: a connection from a loopback address to a
    /// loopback host's name, not forwarded by a proxy that says so.
    ///
    /// The log has the address with the token once the server listens, as `http://127.0.0.1:5000/..?token=..`. A browser
    /// that opens it keeps the token in a cookie; other clients send it with each request, or as
    /// `Authorization: Bearer`. The token is needed because a proxy on this machine need not say that it forwards a
    /// request: nginx does not unless it is configured to, and names this server by its own address.
    #[must_use]
    pub fn loopback() -> Self {
        let policy = |asking: &AccessRequest<'_>| {
            let headers = &asking.head.headers;
            let forwarded =
                [header::FORWARDED.as_str(), "x-forwarded-for", "x-real-ip", header::VIA.as_str()];
            asking.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
                && !forwarded.iter().any(|name| headers.contains_key(*name))
                && host(headers, &asking.head.uri).is_some_and(is_loopback)
        };
        Self::when(policy).with_token(format!("{:032x}", rand::random::<u128>()))
    }

    /// These readers, of whom each must present this token: instead of the random one of
    /// [`loopback`](Self::loopback), for a client that cannot read the log.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        let token = Token { text: token.into(), announced: AtomicBool::new(false) };
        Self { token: Some(Arc::new(token)), ..self }
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
    pub fn when(policy: impl Fn(&AccessRequest<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { policy: Arc::new(policy), token: None }
    }

    pub(super) fn admit(&self, head: &Parts, peer: Option<SocketAddr>, viewer: &Viewer) -> bool {
        let presents = |token: &Arc<Token>| token.is_presented(head);
        (self.policy)(&AccessRequest { head, peer, viewer }) && self.token.as_ref().is_none_or(presents)
    }

    /// The `Set-Cookie` that keeps a token which the address has.
    #[cfg(feature = "inspector")]
    pub(super) fn cookie(&self, head: &Parts, secure: bool) -> Option<HeaderValue> {
        let token = self.token.as_ref().filter(|token| token.is_in_query(head))?;
        let (name, text) = (token.cookie_name(), &token.text);
        let secure = if secure { "; Secure" } else { "" };
        let text = format!("{name}={text}; Path=/faststate; HttpOnly; SameSite=Strict{secure}");
        let mut cookie = HeaderValue::try_from(text).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }

    /// Puts the address with the token into the log, once.
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

impl Token {
    /// Whether a request carries the token: in its address, in `Authorization`, or in a cookie.
    fn is_presented(&self, head: &Parts) -> bool {
        let name = self.cookie_name();
        let cookie = || values(&head.headers, &name).any(|value| self.is(value));
        self.is_in_query(head)
            || bearer(&head.headers).is_some_and(|text| self.is(text.as_bytes()))
            || cookie()
    }

    fn is_in_query(&self, head: &Parts) -> bool {
        let query = head.uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).any(|(name, value)| name == "token" && self.is(value.as_bytes()))
    }

    /// Digests are compared, so that time tells nothing of the token.
    fn is(&self, text: &[u8]) -> bool {
        !self.text.is_empty() && Sha256::digest(text) == Sha256::digest(&self.text)
    }

    /// Servers on other ports of this machine have other tokens.
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
        f.write_str("Readers(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(readers: &OperatorAccess, peer: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder();
        for (name, value) in headers.iter().filter(|(name, _)| *name != "uri") {
            request = request.header(*name, *value);
        }
        let uri = headers.iter().find(|(name, _)| *name == "uri").map_or("/", |(_, uri)| uri);
        let (head, ()) = request.uri(uri).body(()).unwrap().into_parts();
        readers.admit(&head, peer.parse().ok(), &Viewer::default().with_role("ops"))
    }

    #[test]
    fn law_08_loopback_is_this_machine_and_no_proxy_on_it() {
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

    /// nginx with its default configuration names the server by the address that it forwards to, and says nothing of
    /// the client.
    #[test]
    fn law_08_a_silent_proxy_on_this_machine_lets_no_client_in() {
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
            "a random token"
        );
    }

    #[test]
    fn law_08_tokens_and_roles() {
        let with = |readers: &OperatorAccess, text| admits(readers, "none", &[("authorization", text)]);
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
