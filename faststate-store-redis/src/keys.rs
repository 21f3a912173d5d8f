//! Where things are in Redis.

use std::fmt;

use faststate_core::{Key, broadcast::Channel, store::Receipt};

/// The longest prefix, in bytes.
const LONGEST: usize = 64;

/// What every Redis key of one application begins with, and the version of how it is stored.
///
/// A record is at `prefix:v1:{key}`, its receipts at `prefix:v1:{key}:digest`. A cluster hashes what is
/// in the braces, so that both are in one slot and one script may touch both. Changes are published on
/// `prefix:v1:key/{key}`. Neither a prefix nor a
/// key's text can hold a brace, so no two different things share a Redis key (law 11).
#[derive(Clone)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// The prefix of an application.
    pub(crate) fn new(name: &str) -> Result<Self, PrefixError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > LONGEST || !name.bytes().all(legal) {
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

    /// A Redis key that nothing is ever stored at.
    pub(crate) fn nothing(&self) -> String {
        format!("{}nothing", self.0)
    }

    /// A channel to publish on; in a cluster a key's changes are in the slot of its record.
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

/// Not a prefix.
#[derive(Debug, thiserror::Error)]
#[error("a prefix has 1 to {LONGEST} of the letters, digits, `_`, `-` and `.`")]
pub(crate) struct PrefixError;

#[cfg(test)]
mod tests {
    use faststate_core::{EventId, Scope};

    use super::*;

    #[test]
    fn law_11_a_record_and_its_receipts_share_a_hash_tag_and_nothing_else() {
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
    fn law_11_a_prefix_is_refused_that_could_end_or_tag_a_key() {
        for name in ["", "a:b", "a{b", "}", "a b", "ä", "a\0", &"a".repeat(65)] {
            assert!(Prefix::new(name).is_err(), "{name:?}");
        }
        assert!(Prefix::new(&"a".repeat(64)).is_ok());
    }
}
