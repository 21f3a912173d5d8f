//! The session cookie: stateless, signed, bound to its name, and renewed while it is in use.

use std::{
    borrow::Cow,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie::{Cookie, CookieBuilder, SameSite};
use faststate_core::SessionId;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use memchr::memchr;
use sha2::Sha256;

use super::{
    hosts::{host, without_port},
    secret::Secret,
    set_cookie::set_cookie,
};

// A cookie's value consists of the session's id, the time at which it was set, and the signature.
const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 4;
const TAG_BYTES: usize = 32;

const DEFAULT_NAME: &str = "faststate";
const HOST_PREFIX: &str = "__Host-";

/// The number of paths for which an ambiguous cookie is removed.
const MAX_REMOVED_PATHS: usize = 8;
/// The number of domains for which an ambiguous cookie is removed.
const MAX_REMOVED_DOMAINS: usize = 4;

/// The session of a request, according to its cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestSession {
    /// There is no session cookie.
    Missing,
    /// The cookie is valid and was set at this time.
    Valid(SessionId, UnixSeconds),
    /// The cookie is valid, and the response renews it: a quarter of its lifetime has passed, or an older secret that is
    /// still accepted signed it.
    Due(SessionId),
    /// Two cookies are valid and have different sessions. Another host of the same domain may have set one of them.
    Ambiguous,
    /// The cookie was tampered with, or signed with another secret or for another name.
    Invalid,
}

/// A time of the system's clock, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixSeconds(pub(super) u32);

impl UnixSeconds {
    /// Returns the time since then, or zero for a time in the future.
    pub(super) fn elapsed(self) -> Duration {
        Duration::from_secs(Self::now().0.saturating_sub(self.0).into())
    }

    pub(super) fn now() -> Self {
        let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(passed.as_secs()).unwrap_or(u32::MAX))
    }
}

/// Reads and writes the session cookie.
#[derive(Clone, Debug)]
pub(super) struct SessionCookie {
    secret: Secret,
    name: CookieName,
    secure: bool,
    max_age: Duration,
    /// The first key signs. Cookies of the other keys are accepted and renewed.
    keys: Vec<SigningKey>,
    listening: ListenAddress,
}

/// The address that this process listens on, shared by all clones of an endpoint. It is unset until the server listens,
/// and always for a server of the application.
pub(super) type ListenAddress = Arc<OnceLock<SocketAddr>>;

/// The rule for the cookie's name.
#[derive(Clone, Debug)]
enum CookieName {
    /// The application's choice.
    Given(Cow<'static, str>),
    /// `faststate_` and a digest of the secret: the same for all nodes of an application, and different for two
    /// applications on one host.
    BySecret,
    /// `faststate_` and the port, once it is known. An application without its own secret has only one node.
    ByPort,
}

/// The cookie name and the signing key of one secret.
#[derive(Clone, Debug)]
struct SigningKey {
    name: OnceLock<String>,
    secret: [u8; 32],
    /// Derived for this name, so that its signatures are not valid under another name.
    signer: Hmac<Sha256>,
}

impl SessionCookie {
    pub(super) fn new(listening: ListenAddress) -> Self {
        let mut cookie = Self {
            secret: Secret::random(),
            name: CookieName::ByPort,
            secure: false,
            max_age: Duration::from_hours(365 * 24),
            keys: Vec::new(),
            listening,
        };
        cookie.derive_keys();
        cookie
    }

    /// Returns a cookie of the same server with the same secret and another name.
    #[cfg(feature = "inspector")]
    pub(super) fn sibling(&self, name: &str) -> Self {
        let suffix = self.name(&self.keys[0]).rsplit_once('_').map_or("", |(_, suffix)| suffix);
        let mut cookie = Self { name: CookieName::Given(format!("{name}_{suffix}").into()), ..self.clone() };
        cookie.derive_keys();
        cookie
    }

    pub(super) fn sign_with(&mut self, secret: Secret) {
        self.secret = secret;
        if matches!(self.name, CookieName::ByPort) {
            self.name = CookieName::BySecret;
        }
        self.derive_keys();
    }

    /// Derives the keys again after a change of the secret, the name or `secure`.
    fn derive_keys(&mut self) {
        let bound = match &self.name {
            CookieName::Given(name) => name,
            CookieName::BySecret | CookieName::ByPort => DEFAULT_NAME,
        };
        let key = |secret: &[u8; 32]| SigningKey {
            name: OnceLock::new(),
            secret: *secret,
            signer: signer(secret, bound),
        };
        self.keys = self.secret.all().map(key).collect();
    }

    pub(super) fn secure(&mut self, secure: bool) {
        self.secure = secure;
        self.derive_keys();
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Sets the name. Logs and ignores a name that a header cannot contain.
    pub(super) fn rename(&mut self, name: Cow<'static, str>) {
        let legal = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !legal {
            tracing::error!(%name, "the cookie keeps its old name: use letters, digits, `_`, `-` and `.` only");
            return;
        }
        // `secure` decides on the prefix: without `Secure`, browsers refuse a cookie with it.
        self.name = CookieName::Given(match name.strip_prefix(HOST_PREFIX) {
            Some(bare) => bare.to_owned().into(),
            None => name,
        });
        self.derive_keys();
    }

    pub(super) fn max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// Returns the complete name of a key's cookies.
    fn name<'a>(&self, key: &'a SigningKey) -> &'a str {
        key.name.get_or_init(|| {
            // Browsers accept the prefix only from this exact host over TLS, so no other host of the domain can set the
            // cookie.
            let prefix = if self.secure { HOST_PREFIX } else { "" };
            match (&self.name, self.listening.get()) {
                (CookieName::Given(name), _) => format!("{prefix}{name}"),
                (CookieName::BySecret, _) => {
                    format!("{prefix}{DEFAULT_NAME}_{}", name_digest(&key.secret))
                }
                (CookieName::ByPort, Some(address)) => format!("{prefix}{DEFAULT_NAME}_{}", address.port()),
                (CookieName::ByPort, None) => format!("{prefix}{DEFAULT_NAME}"),
            }
        })
    }

    /// Reads the session of a request. A cookie with the name of the signing secret takes precedence over the others.
    pub(super) fn read(&self, headers: &HeaderMap, now: UnixSeconds) -> RequestSession {
        let mut read = RequestSession::Missing;
        for (at, key) in self.keys.iter().enumerate() {
            let name = self.name(key);
            if self.keys[..at].iter().any(|earlier| self.name(earlier) == name) {
                continue;
            }
            for value in values(headers, name) {
                read = match (read, self.verify(value, name, now)) {
                    (RequestSession::Missing, None) => RequestSession::Invalid,
                    (read, None) => read,
                    (RequestSession::Missing | RequestSession::Invalid, Some(found)) => found,
                    (RequestSession::Due(session), Some(found)) if found.session() == Some(session) => found,
                    (read, Some(found)) if read.session() == found.session() => read,
                    (_, Some(_)) => RequestSession::Ambiguous,
                };
            }
            if read.session().is_some() || read == RequestSession::Ambiguous {
                return read;
            }
        }
        read
    }

    /// Returns the session of a cookie if an accepted secret signed it for this name.
    fn verify(&self, value: &[u8], name: &str, now: UnixSeconds) -> Option<RequestSession> {
        let mut bytes = [0; ID_BYTES + TIME_BYTES + TAG_BYTES];
        let len = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (signed, tag) = bytes[..len].split_at_checked(len.checked_sub(TAG_BYTES)?)?;
        let (id, time) = signed.split_first_chunk::<ID_BYTES>()?;
        let session = SessionId::from_bytes(*id);
        let is_named = |key: &&SigningKey| self.name(key) == name;
        let verifies = |key: &&SigningKey| key.signer.clone().chain_update(signed).verify_slice(tag).is_ok();
        let key = self.keys.iter().filter(is_named).find(verifies)?;
        let is_signing_key = std::ptr::eq(key, &raw const self.keys[0]);
        // Cookies of earlier versions do not contain the time.
        let Ok(time) = time.try_into() else {
            return time.is_empty().then_some(RequestSession::Due(session));
        };
        let set = UnixSeconds(u32::from_be_bytes(time));
        // The absolute difference also renews a cookie from the future, which a wrong clock has set.
        let is_due = u64::from(now.0.abs_diff(set.0)) >= self.max_age.as_secs() / 4;
        Some(match is_signing_key && !is_due {
            true => RequestSession::Valid(session, set),
            false => RequestSession::Due(session),
        })
    }

    /// Creates a session and the `Set-Cookie` header of its cookie.
    pub(super) fn mint(&self) -> (SessionId, HeaderValue) {
        let session = SessionId::random();
        (session, self.set(session, UnixSeconds::now()))
    }

    /// Returns the `Set-Cookie` header of a session.
    pub(super) fn set(&self, session: SessionId, now: UnixSeconds) -> HeaderValue {
        const SIGNED_BYTES: usize = ID_BYTES + TIME_BYTES;
        let key = &self.keys[0];
        let mut bytes = [0; SIGNED_BYTES + TAG_BYTES];
        bytes[..ID_BYTES].copy_from_slice(session.as_bytes());
        bytes[ID_BYTES..SIGNED_BYTES].copy_from_slice(&now.0.to_be_bytes());
        let tag = key.signer.clone().chain_update(&bytes[..SIGNED_BYTES]).finalize().into_bytes();
        bytes[SIGNED_BYTES..].copy_from_slice(&tag);
        let value = URL_SAFE_NO_PAD.encode(bytes);
        let cookie = self.build(self.name(key), value, self.max_age).path("/");
        set_cookie(&cookie.build())
    }

    /// Returns the `Set-Cookie` headers that remove replaced cookies: a cookie with the name of an older secret, or, if
    /// the session is ambiguous, the cookies of other paths and of parent domains.
    pub(super) fn removals(&self, parts: &Parts, session: RequestSession) -> Vec<HeaderValue> {
        let name = self.name(&self.keys[0]);
        let removal = |name, path| self.build(name, String::new(), Duration::ZERO).path(path);
        match session {
            RequestSession::Due(_) => {
                let older = self.keys.iter().map(|key| self.name(key)).filter(|older| *older != name);
                let sent = older.filter(|older| values(&parts.headers, older).next().is_some());
                sent.map(|older| set_cookie(&removal(older, "/").build())).collect()
            }
            RequestSession::Ambiguous => {
                let (paths, domains) = (paths(parts.uri.path()), domains(host(&parts.headers, &parts.uri)));
                // The new session's cookie replaces the one of this host with the path `/`.
                let own = paths.iter().filter(|path| **path != "/").map(|path| removal(name, *path));
                let others = domains
                    .iter()
                    .flat_map(|domain| paths.iter().map(move |path| removal(name, *path).domain(*domain)));
                own.chain(others).map(|cookie| set_cookie(&cookie.build())).collect()
            }
            RequestSession::Missing | RequestSession::Valid(..) | RequestSession::Invalid => Vec::new(),
        }
    }

    /// Returns a cookie with the attributes that all session cookies share.
    fn build<'a>(&self, name: &'a str, value: String, max_age: Duration) -> CookieBuilder<'a> {
        let max_age = cookie::time::Duration::seconds(max_age.as_secs().try_into().unwrap_or(i64::MAX));
        let cookie = Cookie::build((name, value)).max_age(max_age);
        cookie.http_only(true).same_site(SameSite::Lax).secure(self.secure)
    }
}

impl RequestSession {
    /// Returns the session of a valid cookie.
    pub(super) const fn session(self) -> Option<SessionId> {
        match self {
            Self::Valid(session, _) | Self::Due(session) => Some(session),
            Self::Missing | Self::Ambiguous | Self::Invalid => None,
        }
    }

    /// Returns whether the cookie is refused and replaced.
    pub(super) const fn is_refused(self) -> bool {
        matches!(self, Self::Ambiguous | Self::Invalid)
    }
}

/// Returns the cookie paths that match a request's path, up to the limit.
fn paths(path: &str) -> Vec<&str> {
    let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let folders = ends.flat_map(|(at, _)| [&path[..at], &path[..=at]]);
    let safe =
        |path: &&str| !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    folders.chain([path]).filter(safe).take(MAX_REMOVED_PATHS).collect()
}

/// Returns a host's name and its parent domains with at least two labels, up to the limit; none for an IP address.
fn domains(host: Option<&str>) -> Vec<&str> {
    let name = host.map(without_port).unwrap_or_default();
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if !is_name || name.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name)
        .chain(parents)
        .filter(|domain| domain.contains('.'))
        .take(MAX_REMOVED_DOMAINS)
        .collect()
}

/// Returns eight digits that differ between secrets and do not reveal them.
fn name_digest(secret: &[u8; 32]) -> String {
    let digest = keyed(secret).chain_update("faststate cookie name\0").finalize().into_bytes();
    digest[..4].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn signer(secret: &[u8; 32], name: &str) -> Hmac<Sha256> {
    let derived = keyed(secret).chain_update("faststate session cookie\0").chain_update(name);
    keyed(&derived.finalize().into_bytes().into())
}

/// Returns an HMAC with a key of 32 bytes. HMAC itself pads shorter keys with zeros to a block.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

/// Splits a `Cookie` header at its semicolons.
///
/// This runs for every event and takes about 20 ns; a parser of whole cookies takes 0.3 us per cookie. It accepts bytes
/// that are not UTF-8, so that another application's cookie cannot hide the session.
fn pairs(cookies: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(cookies);
    std::iter::from_fn(move || {
        let cookies = rest.take()?;
        let Some(end) = memchr(b';', cookies) else { return Some(cookies) };
        rest = Some(&cookies[end + 1..]);
        Some(&cookies[..end])
    })
}

/// Returns the values of all cookies with this name.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|value| pairs(value.as_bytes()))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
