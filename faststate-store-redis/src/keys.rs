//! The names of keys and channels in Redis.

use std::fmt;

use faststate_core::{Key, broadcast::Channel, store::Receipt};

/// Maximum length of a prefix in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// The prefix of all Redis keys of an application, and the version of the storage format.
///
/// A record is at `prefix:v1:{key}`, its receipts at `prefix:v1:{key}:digest`. A cluster hashes the text in braces, so
/// both are in one slot and one script can access both. Changes are published on `prefix:v1:key/{key}`. Neither a prefix
/// nor a key's text contains a brace, so no two entries share a Redis key (law 11).
#[derive(Clone)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// Validates the prefix of an application.
    pub(crate) fn new(name: &str) -> Result<Self, PrefixError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > MAX_PREFIX_BYTES || !name.bytes().all(legal) {
            return Err(PrefixError);
        }
        Ok(Self(format!("{name}:v1:")))
    }

    pub(crate) fn record(&self, key: &Key) -> String {
        format!("{}{{{key}}}", self.0)
    }

    pub(crate) fn receipt(&self, key: &Key, receipt: &Receipt) -> String {
        format!("{}{{{key}}}:{:032x}", self.0, u128::from_be_bytes(*receipt.as_bytes()))
    }

    /// A Redis key that never exists.
    pub(crate) fn nothing(&self) -> String {
        format!("{}nothing", self.0)
    }

    /// The name of a channel. In a cluster, the channel of a key is in the slot of its record.
    pub(crate) fn channel(&self, channel: &Channel) -> String {
        match channel {
            Channel::Key(key) => format!("{}key/{{{key}}}", self.0),
            _ => format!("{}{channel}", self.0),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The prefix is invalid.
#[derive(Debug, thiserror::Error)]
#[error("a prefix has 1 to {MAX_PREFIX_BYTES} of the letters, digits, `_`, `-` and `.`")]
pub(crate) struct PrefixError;

#[cfg(test)]
mod tests {
    use faststate_core::{EventId, Scope};

    use super::*;

    #[test]
    fn law_11_record_and_receipts_share_only_a_hash_tag() {
        let prefix = Prefix::new("my-app").unwrap();
        let key = Key::new("chat", Scope::Record, None, Some("{a}:b")).unwrap();
        let record = prefix.record(&key);
        let receipt = prefix.receipt(&key, &Receipt::new(&key, "say", &EventId::random()));
        assert_eq!(record, "my-app:v1:{chat/r/%7ba%7d%3ab}");
        let tag = |text: &str| text[text.find('{').unwrap()..=text.find('}').unwrap()].to_owned();
        assert_eq!(tag(&record), tag(&receipt));
        assert!(receipt.len() == record.len() + 33 && receipt.starts_with(&record));
    }

    #[test]
    fn law_11_prefix_with_delimiters_or_braces_is_refused() {
        for name in ["", "a:b", "a{b", "}", "a b", "ä", "a\0", &"a".repeat(65)] {
            assert!(Prefix::new(name).is_err(), "{name:?}");
        }
        assert!(Prefix::new(&"a".repeat(64)).is_ok());
    }
}
