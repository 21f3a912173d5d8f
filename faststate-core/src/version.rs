//! Which step of a key this is.

use std::{fmt, str::FromStr};

/// A step in the life of one key.
///
/// `epoch` is random and new whenever an instance starts over (first use, expiry, deletion, a store
/// that went back in time); `seq` counts changes within it from 0; `nonce` is random for each change,
/// so that two histories that branched from one version never share a version. Two versions are
/// equal only if all three are, and no version is ever used twice.
///
/// Written as `epoch-seq-nonce`, three hexadecimal numbers: `9f3c..-2a-1b2c3d4e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Random, new whenever an instance starts over.
    pub epoch: u64,
    /// Number of changes since the start of the epoch.
    pub seq: u64,
    /// Random, new for each change.
    pub nonce: u32,
}

impl Version {
    /// The first version of a new epoch.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: rand::random(), seq: 0, nonce: rand::random() }
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq + 1, nonce: rand::random() }
    }

    /// Writes it as its `Display` does: once for each change, so without the formatter.
    pub(crate) fn push_to(self, out: &mut Vec<u8>) {
        push_hex(out, self.epoch.into(), 16);
        out.push(b'-');
        push_hex(out, self.seq.into(), 1);
        out.push(b'-');
        push_hex(out, self.nonce.into(), 8);
    }

    /// What its `Display` writes.
    #[doc(hidden)]
    #[must_use]
    pub fn text(self) -> String {
        let mut text = Vec::with_capacity(LONGEST);
        self.push_to(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Whether this version is certainly older than `other`: the same epoch and a smaller `seq`.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.seq < other.seq
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// How long a version's text is at most.
const LONGEST: usize = 16 + 1 + 16 + 1 + 8;

/// Writes a number in at least so many hexadecimal digits, in a tenth of the formatter's time.
pub(crate) fn push_hex(out: &mut Vec<u8>, number: u128, least: u32) {
    let digits = (u128::BITS - number.leading_zeros()).div_ceil(4).max(least);
    let digit = |at: u32| b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xf];
    out.extend((0..digits).rev().map(digit));
}

/// The text is not a version as [`Version`] writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected `epoch-seq-nonce` in hexadecimal")]
#[non_exhaustive]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let hex = |part: Option<&str>, longest: usize| {
            let part = part.filter(|p| p.len() <= longest && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
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
    fn text_and_back() {
        for version in
            [Version::start(), Version::start().next(), Version { epoch: 0, seq: u64::MAX, nonce: 0 }]
        {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn garbage_is_refused() {
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
        assert_ne!(a.next(), a.next(), "two branches of one version are two versions");
        assert!(a.is_before(a.next()) && !a.next().is_before(a) && !a.is_before(b.next()));
    }
}
