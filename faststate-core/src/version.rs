//! Versions, which identify the changes of a key.

use std::{fmt, str::FromStr};

/// The maximum length of a version's text in bytes.
const MAX_TEXT_BYTES: usize = 16 + 1 + 16 + 1 + 8;

/// Identifies the state of one key after one change.
///
/// Two versions are equal only if all three parts are equal, and no version is ever used twice. Histories that branched
/// from one version, for example because a store was restored from a backup, have different nonces.
///
/// The text of a version is `epoch-seq-nonce`, three hexadecimal numbers, such as `9f3c2b1a00c4d5e6-2a-1b2c3d4e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// A random number, which is new whenever an instance starts over: at first use, after expiry, after deletion, and
    /// when the store has lost changes.
    pub epoch: u64,
    /// The number of changes since the start of the epoch.
    pub seq: u64,
    /// A random number, which is new for each change.
    pub nonce: u32,
}

impl Version {
    /// Creates the first version of a new epoch.
    #[must_use]
    #[doc(hidden)]
    pub fn start() -> Self {
        Self { epoch: rand::random(), seq: 0, nonce: rand::random() }
    }

    /// Creates a version that follows this one.
    #[must_use]
    #[doc(hidden)]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq + 1, nonce: rand::random() }
    }

    /// Appends the version's text. Does not use the formatter, because this runs for each change.
    pub(crate) fn push_to(self, out: &mut Vec<u8>) {
        push_hex(out, self.epoch.into(), 16);
        out.push(b'-');
        push_hex(out, self.seq.into(), 1);
        out.push(b'-');
        push_hex(out, self.nonce.into(), 8);
    }

    /// Returns the version's text, like its `Display`.
    #[doc(hidden)]
    #[must_use]
    pub fn text(self) -> String {
        let mut text = Vec::with_capacity(MAX_TEXT_BYTES);
        self.push_to(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Returns whether this version is certainly older than `other`: it has the same epoch and a smaller `seq`.
    #[must_use]
    #[doc(hidden)]
    pub const fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.seq < other.seq
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Appends a number in hexadecimal with at least `min_digits` digits. Takes a tenth of the formatter's time.
pub(crate) fn push_hex(out: &mut Vec<u8>, number: u128, min_digits: u32) {
    let digits = (u128::BITS - number.leading_zeros()).div_ceil(4).max(min_digits);
    let digit = |at: u32| b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xf];
    out.extend((0..digits).rev().map(digit));
}

/// The text is not the text of a [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a version: expected `epoch-seq-nonce` in hexadecimal")]
#[non_exhaustive]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let hex = |part: Option<&str>, max_digits: usize| {
            let part = part.filter(|p| p.len() <= max_digits && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u64::from_str_radix(part, 16).ok()
        };
        let mut parts = text.split('-');
        let version = (|| {
            let epoch = hex(parts.next(), 16)?;
            let seq = hex(parts.next(), 16)?;
            let nonce = u32::try_from(hex(parts.next(), 8)?).ok()?;
            parts.next().is_none().then_some(Self { epoch, seq, nonce })
        })();
        version.ok_or(VersionError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_round_trips_through_its_text() {
        for version in
            [Version::start(), Version::start().next(), Version { epoch: 0, seq: u64::MAX, nonce: 0 }]
        {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn text_that_is_no_version_is_refused() {
        for text in
            ["", "-", "--", "1-2", "1-2-3-4", "g-0-0", "+1-0-0", "11112222333344445-0-0", "0-0-123456789"]
        {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text}");
        }
    }

    #[test]
    fn law_10_versions_of_two_starts_differ() {
        let (a, b) = (Version::start(), Version::start());
        assert_ne!(a, b);
        assert_ne!(a.next(), a.next(), "two branches of one version have different versions");
        assert!(a.is_before(a.next()) && !a.next().is_before(a) && !a.is_before(b.next()));
    }
}
