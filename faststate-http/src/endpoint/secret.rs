//! The secret that signs session cookies.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The secret that signs session cookies. Knowledge of it allows forging every session.
///
/// All nodes need the same secret, so that each node accepts the cookies of the others. To change it without ending
/// sessions, take two steps, each a rolling restart. First give every node `old.accepting(new)`, which signs with the old
/// secret and accepts both. Then give every node `new.accepting(old)`, which signs with the new secret and renews cookies
/// that the old one signed. Remove the old secret once its cookies need not be accepted any more. If the old secret may
/// have leaked, replace it at once, in one step; this ends all sessions.
///
/// `Debug` does not show it.
#[derive(Clone)]
pub struct Secret {
    signing: [u8; 32],
    accepted: Vec<[u8; 32]>,
}

/// A text or bytes that are not a secret. The message states the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SecretError(#[from] SecretMistake);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum SecretMistake {
    /// The text does not consist of pairs of hexadecimal digits.
    #[error("a secret must be in hexadecimal, two digits per byte: make one with `openssl rand -hex 32`")]
    Hex,
    /// There are fewer than 32 bytes.
    #[error("a secret must have at least 32 bytes: make one with `openssl rand -hex 32`")]
    Short,
}

impl Secret {
    /// Returns a new random secret. Sessions then end with the process.
    #[must_use]
    pub fn random() -> Self {
        Self { signing: rand::random(), accepted: Vec::new() }
    }

    /// Parses a secret in hexadecimal, at least 32 bytes (64 digits).
    ///
    /// # Errors
    /// An error if the text is not hexadecimal or has fewer than 32 bytes.
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
        Self::from_bytes(&bytes.ok_or(SecretMistake::Hex)?)
    }

    /// Returns the secret with these bytes, at least 32.
    ///
    /// # Errors
    /// An error for fewer than 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        if bytes.len() < 32 {
            return Err(SecretMistake::Short.into());
        }
        Ok(Self { signing: Sha256::digest(bytes).into(), accepted: Vec::new() })
    }

    /// Returns this secret, which then also accepts cookies that the other one signed.
    #[must_use]
    pub fn accepting(mut self, other: Self) -> Self {
        self.accepted.push(other.signing);
        self.accepted.extend(other.accepted);
        self
    }

    /// Returns the secrets whose cookies are accepted. The first one signs.
    pub(super) fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.signing).chain(&self.accepted)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_must_be_hexadecimal_and_long_enough() {
        assert!(Secret::from_hex(&"0a".repeat(32)).is_ok());
        assert_eq!(Secret::from_hex(&"0a".repeat(31)).unwrap_err(), SecretMistake::Short.into());
        assert_eq!(Secret::from_hex("0").unwrap_err(), SecretMistake::Hex.into());
        assert_eq!(Secret::from_hex(&"zz".repeat(32)).unwrap_err(), SecretMistake::Hex.into());
        assert_eq!(format!("{:?}", Secret::random()), "Secret(..)");
    }
}
