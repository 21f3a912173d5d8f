//! The session cookie: stateless, signed, bound to its name, renewed while it is used.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use faststate_core::SessionId;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use memchr::memchr;
use sha2::{Digest as _, Sha256};

use super::hosts::{host, without_port};

/// How many bytes of a cookie are the session's id, the time at which it was set, and the signature.
const ID: usize = 16;
const TIME: usize = 4;
const TAG: usize = 32;

const DEFAULT_NAME: &str = "faststate";
const HOST_PREFIX: &str = "__Host-";

/// For how many paths and domains an ambiguous cookie is removed.
const REMOVED_PATHS: usize = 8;
const REMOVED_DOMAINS: usize = 4;

/// What the session cookies are signed with. Whoever knows it can be any session.
///
/// All nodes need the same one, so that each accepts the cookies of all. To change it without ending
/// sessions, take two steps, each a rolling restart: first every node gets `old.accepting(new)`, which signs with
/// the old one and accepts both, then `new.accepting(old)`, which signs with the new one and gives whoever comes
/// with an old cookie a new one. Leave the old one out once its cookies need not be accepted any more, and
/// at once, in one step, when somebody else may know it.
///
/// Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret {
    newest: [u8; 32],
    others: Vec<[u8; 32]>,
}

/// The text or bytes are not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Something else than pairs of hexadecimal digits.
    #[error("a secret is written in hexadecimal, two digits a byte: make one with `openssl rand -hex 32`")]
    Hex,
    /// Fewer than 32 bytes.
    #[error("a secret has at least 32 bytes: make one with `openssl rand -hex 32`")]
    Short,
}

impl Secret {
    /// A new random secret: sessions end with the process.
    #[must_use]
    pub fn random() -> Self {
        Self { newest: rand::random(), others: Vec::new() }
    }

    /// The secret written in hexadecimal, at least 32 bytes (64 digits).
    ///
    /// # Errors
    /// What is not hexadecimal, or too short.
    pub fn from_hex(text: &str) -> Result<Self, SecretError> {
        let text = text.trim().as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> = text
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            })
            .collect();
        Self::from_bytes(&bytes.ok_or(SecretError::Hex)?)
    }

    /// The secret with these bytes, at least 32.
    ///
    /// # Errors
    /// [`SecretError::Short`] for fewer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        if bytes.len() < 32 {
            return Err(SecretError::Short);
        }
        Ok(Self { newest: Sha256::digest(bytes).into(), others: Vec::new() })
    }

    /// This secret, which also accepts what the other one has signed.
    #[must_use]
    pub fn accepting(mut self, other: Self) -> Self {
        self.others.push(other.newest);
        self.others.extend(other.others);
        self
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The session cookie of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// No session cookie.
    Nothing,
    /// A valid one, set at this time.
    Session(SessionId, Second),
    /// A valid one that the response renews: a quarter of its lifetime has passed, or another secret that is still
    /// accepted signed it.
    Due(SessionId),
    /// Two valid ones with different sessions, of which another site of the same domain may have set one.
    Ambiguous,
    /// One that is tampered with, foreign, or swapped from another name.
    Invalid,
}

/// A time by the system's clock, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(pub(super) u32);

impl Second {
    /// How long ago it was; nothing for a time to come.
    pub(super) fn elapsed(self) -> Duration {
        Duration::from_secs(Self::now().0.saturating_sub(self.0).into())
    }

    pub(super) fn now() -> Self {
        let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(passed.as_secs()).unwrap_or(u32::MAX))
    }
}

/// How the session cookie is read and written.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    secret: Secret,
    name: Name,
    secure: bool,
    max_age: Duration,
    /// The first signs; the cookies of the others are accepted and renewed.
    keys: Vec<Key>,
    /// Where this process listens, once it does; shared by all clones.
    listening: Listening,
}

/// Where a server listens; unset for a server of the application's own.
pub(super) type Listening = Arc<OnceLock<SocketAddr>>;

/// How the cookie's name is chosen.
#[derive(Clone, Debug)]
enum Name {
    /// By the application.
    Given(Cow<'static, str>),
    /// `faststate_` and a digest of the secret: the nodes of one application agree, and two applications on one
    /// host differ.
    BySecret,
    /// `faststate_` and the port, as far as it is known: without a secret of its own an application has one node.
    ByPort,
}

/// What the cookies of one secret are called and signed with.
#[derive(Clone, Debug)]
struct Key {
    name: OnceLock<String>,
    secret: [u8; 32],
    /// Keyed for this name: what it signs is no cookie of another name.
    signer: Hmac<Sha256>,
}

impl Cookie {
    pub(super) fn new(listening: Listening) -> Self {
        let mut cookie = Self {
            secret: Secret::random(),
            name: Name::ByPort,
            secure: false,
            max_age: Duration::from_hours(365 * 24),
            keys: Vec::new(),
            listening,
        };
        cookie.derive();
        cookie
    }

    /// The cookie of another page of the same server: same secret, another name.
    #[cfg(feature = "inspector")]
    pub(super) fn beside(&self, name: &str) -> Self {
        let suffix = self.name(&self.keys[0]).rsplit_once('_').map_or("", |(_, suffix)| suffix);
        let mut cookie = Self { name: Name::Given(format!("{name}_{suffix}").into()), ..self.clone() };
        cookie.derive();
        cookie
    }

    pub(super) fn sign_with(&mut self, secret: Secret) {
        self.secret = secret;
        if matches!(self.name, Name::ByPort) {
            self.name = Name::BySecret;
        }
        self.derive();
    }

    fn derive(&mut self) {
        let bound = match &self.name {
            Name::Given(name) => name,
            Name::BySecret | Name::ByPort => DEFAULT_NAME,
        };
        let key =
            |secret: &[u8; 32]| Key { name: OnceLock::new(), secret: *secret, signer: signer(secret, bound) };
        self.keys = std::iter::once(&self.secret.newest).chain(&self.secret.others).map(key).collect();
    }

    pub(super) fn secure(&mut self, secure: bool) {
        self.secure = secure;
        self.derive();
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Keeps the name it has if a header could not carry the new one.
    pub(super) fn rename(&mut self, name: Cow<'static, str>) {
        let legal = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !legal {
            tracing::error!(%name, "a cookie's name has letters, digits, `_`, `-` and `.`; keeping the old one");
            return;
        }
        // The prefix follows from `secure`: without it browsers refuse a cookie of this name.
        self.name = Name::Given(match name.strip_prefix(HOST_PREFIX) {
            Some(bare) => bare.to_owned().into(),
            None => name,
        });
        self.derive();
    }

    pub(super) fn max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// The whole name of a key's cookies.
    fn name<'a>(&self, key: &'a Key) -> &'a str {
        key.name.get_or_init(|| {
            // Browsers accept this prefix from this very host alone, over TLS: no sibling can set the cookie.
            let prefix = if self.secure { HOST_PREFIX } else { "" };
            match (&self.name, self.listening.get()) {
                (Name::Given(name), _) => format!("{prefix}{name}"),
                (Name::BySecret, _) => format!("{prefix}{DEFAULT_NAME}_{}", digest(&key.secret)),
                (Name::ByPort, Some(address)) => format!("{prefix}{DEFAULT_NAME}_{}", address.port()),
                (Name::ByPort, None) => format!("{prefix}{DEFAULT_NAME}"),
            }
        })
    }

    /// The request's session. A cookie of the newest secret's name counts before those of others.
    pub(super) fn read(&self, headers: &HeaderMap, now: Second) -> Carried {
        let mut read = Carried::Nothing;
        for (at, key) in self.keys.iter().enumerate() {
            let name = self.name(key);
            if self.keys[..at].iter().any(|earlier| self.name(earlier) == name) {
                continue;
            }
            for value in values(headers, name) {
                read = match (read, self.verify(value, name, now)) {
                    (Carried::Nothing, None) => Carried::Invalid,
                    (read, None) => read,
                    (Carried::Nothing | Carried::Invalid, Some(found)) => found,
                    (Carried::Due(session), Some(found)) if found.session() == Some(session) => found,
                    (read, Some(found)) if read.session() == found.session() => read,
                    (_, Some(_)) => Carried::Ambiguous,
                };
            }
            if read.session().is_some() || read == Carried::Ambiguous {
                return read;
            }
        }
        read
    }

    /// The session of a cookie, if an accepted secret signed it for this name.
    fn verify(&self, value: &[u8], name: &str, now: Second) -> Option<Carried> {
        let mut bytes = [0; ID + TIME + TAG];
        let len = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (signed, tag) = bytes[..len].split_at_checked(len.checked_sub(TAG)?)?;
        let (id, time) = signed.split_first_chunk::<ID>()?;
        let session = SessionId::from_bytes(*id);
        let is_named = |key: &&Key| self.name(key) == name;
        let by = |key: &Key| key.signer.clone().chain_update(signed).verify_slice(tag).is_ok();
        let by = self.keys.iter().filter(is_named).find(|key| by(key))?;
        let is_newest = std::ptr::eq(by, &raw const self.keys[0]);
        // A cookie of an earlier version does not say when it was set.
        let Ok(time) = time.try_into() else { return time.is_empty().then_some(Carried::Due(session)) };
        let set = Second(u32::from_be_bytes(time));
        // Of a clock that was wrong, too: the cookie may seem to be set in the future.
        let is_due = u64::from(now.0.abs_diff(set.0)) >= self.max_age.as_secs() / 4;
        Some(if is_newest && !is_due { Carried::Session(session, set) } else { Carried::Due(session) })
    }

    /// A new session and the `Set-Cookie` that carries it.
    pub(super) fn mint(&self) -> (SessionId, HeaderValue) {
        let session = SessionId::random();
        (session, self.set(session, Second::now()))
    }

    /// The `Set-Cookie` that carries this session.
    pub(super) fn set(&self, session: SessionId, now: Second) -> HeaderValue {
        let key = &self.keys[0];
        let mut bytes = [0; ID + TIME + TAG];
        bytes[..ID].copy_from_slice(session.as_bytes());
        bytes[ID..ID + TIME].copy_from_slice(&now.0.to_be_bytes());
        let tag = key.signer.clone().chain_update(&bytes[..ID + TIME]).finalize().into_bytes();
        bytes[ID + TIME..].copy_from_slice(&tag);
        let (name, value, age) = (self.name(key), URL_SAFE_NO_PAD.encode(bytes), self.max_age.as_secs());
        self.header(&format!("{name}={value}; Path=/; Max-Age={age}"))
    }

    /// The `Set-Cookie`s that remove what the response replaces: a cookie under the name of an older secret, or, of
    /// two valid ones, also that of another path or of a parent domain.
    pub(super) fn removals(&self, parts: &Parts, carried: Carried) -> Vec<HeaderValue> {
        let name = self.name(&self.keys[0]);
        match carried {
            Carried::Due(_) => {
                let older = self.keys.iter().map(|key| self.name(key)).filter(|older| *older != name);
                let sent = older.filter(|older| values(&parts.headers, older).next().is_some());
                sent.map(|older| self.header(&format!("{older}=; Path=/; Max-Age=0"))).collect()
            }
            Carried::Ambiguous => {
                let (paths, domains) = (paths(parts.uri.path()), domains(host(&parts.headers, &parts.uri)));
                let own = paths.iter().filter(|path| **path != "/");
                let own = own.map(|path| format!("{name}=; Path={path}; Max-Age=0"));
                let others = domains.iter().flat_map(|domain| {
                    paths.iter().map(move |path| format!("{name}=; Domain={domain}; Path={path}; Max-Age=0"))
                });
                own.chain(others).map(|text| self.header(&text)).collect()
            }
            Carried::Nothing | Carried::Session(..) | Carried::Invalid => Vec::new(),
        }
    }

    fn header(&self, text: &str) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{text}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        header.set_sensitive(true);
        header
    }
}

impl Carried {
    const fn session(self) -> Option<SessionId> {
        match self {
            Self::Session(session, _) | Self::Due(session) => Some(session),
            Self::Nothing | Self::Ambiguous | Self::Invalid => None,
        }
    }

    /// Whether the session that comes with it is refused and replaced.
    pub(super) const fn is_refused(self) -> bool {
        matches!(self, Self::Ambiguous | Self::Invalid)
    }
}

/// The paths for which a cookie is sent with a request for this one, as far as the limit.
fn paths(path: &str) -> Vec<&str> {
    let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let folders = ends.flat_map(|(at, _)| [&path[..at], &path[..=at]]);
    let safe =
        |path: &&str| !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    folders.chain([path]).filter(safe).take(REMOVED_PATHS).collect()
}

/// A host's name and its parent domains but the last label, as far as the limit; none for an address.
fn domains(host: Option<&str>) -> Vec<&str> {
    let name = host.map(without_port).unwrap_or_default();
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if !is_name || name.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name).chain(parents).filter(|domain| domain.contains('.')).take(REMOVED_DOMAINS).collect()
}

/// Tells the secrets of applications apart, and says nothing of a secret.
fn digest(secret: &[u8; 32]) -> String {
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

/// HMAC with a key of 32 bytes; zeros up to a block change nothing.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

/// What stands between the semicolons.
fn pairs(cookies: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(cookies);
    std::iter::from_fn(move || {
        let cookies = rest.take()?;
        let Some(end) = memchr(b';', cookies) else { return Some(cookies) };
        rest = Some(&cookies[end + 1..]);
        Some(&cookies[..end])
    })
}

/// Every value that the request's cookies have under this name.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|value| pairs(value.as_bytes()))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
