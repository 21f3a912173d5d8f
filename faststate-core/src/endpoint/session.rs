//! The session cookie: stateless, signed, bound to its name.

use std::{borrow::Cow, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use memchr::memchr;
use sha2::{Digest as _, Sha256};

use crate::SessionId;

/// How many bytes a session id has.
const ID: usize = 16;

/// What the session cookies are signed with. Whoever knows it can be any session.
///
/// All nodes need the same one, so that each accepts the cookies of all. To change it without ending
/// sessions, take two steps, each a rolling restart: first every node gets `old.or(new)`, which signs with
/// the old one and accepts both, then `new.or(old)`, which signs with the new one and gives whoever comes
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
    pub fn or(mut self, other: Self) -> Self {
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

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// No session cookie.
    Nothing,
    /// One that this secret signed for this name.
    Session(SessionId),
    /// One that another secret signed that is still accepted.
    Old(SessionId),
    /// One that is tampered with, foreign, or swapped from another name.
    Invalid,
}

/// How the session cookie is read and written.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    secret: Secret,
    /// Keyed for this name: what it signs is no cookie of another name.
    signer: Hmac<Sha256>,
    /// Those of the other secrets that are accepted.
    others: Vec<Hmac<Sha256>>,
    name: Cow<'static, str>,
    secure: bool,
    max_age: Duration,
}

impl Cookie {
    pub(super) fn new() -> Self {
        let (secret, name) = (Secret::random(), Cow::Borrowed("faststate"));
        Self {
            signer: signer(&secret.newest, &name),
            others: Vec::new(),
            secret,
            name,
            secure: false,
            max_age: Duration::from_hours(365 * 24),
        }
    }

    pub(super) fn sign_with(&mut self, secret: Secret) {
        self.secret = secret;
        self.derive();
    }

    fn derive(&mut self) {
        self.signer = signer(&self.secret.newest, &self.name);
        self.others = self.secret.others.iter().map(|other| signer(other, &self.name)).collect();
    }

    pub(super) fn secure(&mut self, secure: bool) {
        self.secure = secure;
    }

    /// Keeps the name it has if a header could not carry the new one.
    pub(super) fn rename(&mut self, name: Cow<'static, str>) {
        let legal = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if legal {
            self.name = name;
            self.derive();
        } else {
            tracing::error!(%name, "a cookie's name has letters, digits, `_`, `-` and `.`; keeping the old one");
        }
    }

    pub(super) fn max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// The request's session: of several cookies of this name, the first that is valid.
    pub(super) fn read(&self, headers: &HeaderMap) -> Carried {
        let mut found = Carried::Nothing;
        for value in values(headers, &self.name) {
            if let Some(session) = verify(&self.signer, value) {
                return Carried::Session(session);
            }
            if let Some(session) = self.others.iter().find_map(|other| verify(other, value)) {
                return Carried::Old(session);
            }
            found = Carried::Invalid;
        }
        found
    }

    /// A new session and the `Set-Cookie` that carries it.
    pub(super) fn mint(&self) -> (SessionId, HeaderValue) {
        let session = SessionId::random();
        (session, self.set(session))
    }

    /// The `Set-Cookie` that carries this session.
    pub(super) fn set(&self, session: SessionId) -> HeaderValue {
        let mut bytes = [0; ID + 32];
        bytes[..ID].copy_from_slice(session.as_bytes());
        bytes[ID..].copy_from_slice(&mac(&self.signer, session.as_bytes()).finalize().into_bytes());
        let (name, value, age) = (&self.name, URL_SAFE_NO_PAD.encode(bytes), self.max_age.as_secs());
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        header.set_sensitive(true);
        header
    }
}

/// The session of a cookie that this signer has signed.
fn verify(signer: &Hmac<Sha256>, value: &[u8]) -> Option<SessionId> {
    let mut bytes = [0; ID + 32];
    let len = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
    let (id, tag) = bytes[..len].split_first_chunk::<ID>()?;
    mac(signer, id).verify_slice(tag).ok()?;
    Some(SessionId::from_bytes(*id))
}

fn mac(signer: &Hmac<Sha256>, id: &[u8]) -> Hmac<Sha256> {
    signer.clone().chain_update(id)
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
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|value| pairs(value.as_bytes()))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(name: &'static str, secret: &Secret) -> Cookie {
        let mut cookie = Cookie::new();
        cookie.sign_with(secret.clone());
        cookie.rename(name.into());
        cookie
    }

    fn carrying(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())])
    }

    fn pair(set: &HeaderValue) -> String {
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_minted_session_comes_back() {
        let cookie = cookie("faststate", &Secret::random());
        let (session, set) = cookie.mint();
        let text = set.to_str().unwrap();
        assert!(text.contains("; Path=/;") && text.contains("; HttpOnly") && text.contains("; SameSite=Lax"));
        assert!(!text.contains("Secure"));
        let others = format!("a=b; {}; faststate2=x", pair(&set));
        assert_eq!(cookie.read(&carrying(&others)), Carried::Session(session));
        assert_eq!(cookie.read(&HeaderMap::new()), Carried::Nothing);
        assert_eq!(cookie.read(&carrying("other=1")), Carried::Nothing);
    }

    #[test]
    fn law_08_tampered_foreign_and_swapped_cookies_are_invalid() {
        let secret = Secret::random();
        let ours = cookie("faststate", &secret);
        let (_, set) = ours.mint();
        let value = pair(&set);
        for at in "faststate=".len()..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.read(&carrying(&tampered)), Carried::Invalid, "byte {at}");
        }
        let (_, foreign) = cookie("faststate", &Secret::random()).mint();
        assert_eq!(ours.read(&carrying(&pair(&foreign))), Carried::Invalid);
        let (_, other) = cookie("other", &secret).mint();
        let swapped = pair(&other).replace("other=", "faststate=");
        assert_eq!(ours.read(&carrying(&swapped)), Carried::Invalid);
        for garbage in ["faststate=", "faststate=AAAA", &value[..value.len() - 1], &format!("{value}A")] {
            assert_eq!(ours.read(&carrying(garbage)), Carried::Invalid, "{garbage}");
        }
    }

    #[test]
    fn a_valid_cookie_counts_beside_an_invalid_one() {
        let cookie = cookie("faststate", &Secret::random());
        let (session, set) = cookie.mint();
        assert_eq!(
            cookie.read(&carrying(&format!("faststate=x; {}", pair(&set)))),
            Carried::Session(session)
        );
    }

    #[test]
    fn law_08_a_secret_can_be_changed_without_ending_sessions() {
        let [old, new, foreign] = [Secret::random(), Secret::random(), Secret::random()];
        let nodes = [
            cookie("faststate", &old),
            cookie("faststate", &old.clone().or(new.clone())),
            cookie("faststate", &new.clone().or(old)),
            cookie("faststate", &new),
        ];
        for (older, newer) in [(0, 1), (1, 2), (2, 3)] {
            // While a restart rolls, each accepts what the other has signed.
            for (signs, reads) in [(older, newer), (newer, older)] {
                let (session, set) = nodes[signs].mint();
                let read = nodes[reads].read(&carrying(&pair(&set)));
                assert!(
                    matches!(read, Carried::Session(s) | Carried::Old(s) if s == session),
                    "{signs} {reads}"
                );
            }
        }
        let (session, set) = nodes[1].mint();
        assert_eq!(nodes[2].read(&carrying(&pair(&set))), Carried::Old(session));
        let renewed = carrying(&pair(&nodes[2].set(session)));
        assert_eq!(nodes[3].read(&renewed), Carried::Session(session));
        assert_eq!(nodes[3].read(&carrying(&pair(&set))), Carried::Invalid);
        let (_, set) = cookie("faststate", &foreign).mint();
        assert!(nodes.iter().all(|node| node.read(&carrying(&pair(&set))) == Carried::Invalid));
    }

    #[test]
    fn secrets_are_hexadecimal_and_long_enough() {
        assert!(Secret::from_hex(&"0a".repeat(32)).is_ok());
        assert_eq!(Secret::from_hex(&"0a".repeat(31)).unwrap_err(), SecretError::Short);
        assert_eq!(Secret::from_hex("0").unwrap_err(), SecretError::Hex);
        assert_eq!(Secret::from_hex(&"zz".repeat(32)).unwrap_err(), SecretError::Hex);
        assert_eq!(format!("{:?}", Secret::random()), "Secret(..)");
    }
}
