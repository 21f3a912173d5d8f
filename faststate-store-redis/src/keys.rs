//! The names of keys and channels in Redis.

use std::fmt;

use faststate_core::{Key, broadcast::Channel, store::Receipt};

use crate::slots::crc16;

/// Maximum length of a prefix in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// Number of buckets over which a cluster's keys are spread. A stored key contains its bucket, so the number never
/// changes.
const BUCKETS: u16 = 64;

/// The prefix of all Redis keys of an application, the version of the storage format, and how keys are spread.
///
/// On one server, a record is at `prefix:v1:{key}` and its receipts are at `prefix:v1:{key}:digest`. On a cluster, they
/// are at `prefix:v1:{b7}:key` and `prefix:v1:{b7}:key:digest`, where `b7` is one of 64 buckets. A cluster hashes the
/// text in braces, so everything of one bucket is in one slot and one script can access it. Changes are published on
/// `prefix:v1:key/{key}`. Neither a prefix nor a key's text contains a brace or a colon, so no two entries share a
/// Redis key (law 11).
#[derive(Clone)]
pub(crate) struct Prefix {
    text: String,
    has_buckets: bool,
}

impl Prefix {
    /// Validates the prefix of an application.
    pub(crate) fn new(name: &str) -> Result<Self, PrefixError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > MAX_PREFIX_BYTES || !name.bytes().all(legal) {
            return Err(PrefixError);
        }
        Ok(Self { text: format!("{name}:v1:"), has_buckets: false })
    }

    /// The same prefix with keys spread over buckets, for a cluster.
    pub(crate) fn with_buckets(self) -> Self {
        Self { has_buckets: true, ..self }
    }

    pub(crate) fn record(&self, key: &Key) -> String {
        if self.has_buckets {
            return format!("{}{{b{}}}:{key}", self.text, crc16(key.as_str()) % BUCKETS);
        }
        format!("{}{{{key}}}", self.text)
    }

    pub(crate) fn receipt(&self, key: &Key, receipt: &Receipt) -> String {
        format!("{}:{:032x}", self.record(key), u128::from_be_bytes(*receipt.as_bytes()))
    }

    /// A Redis key that never exists.
    pub(crate) fn nothing(&self) -> String {
        format!("{}nothing", self.text)
    }

    /// Keys that never exist: one in each bucket.
    pub(crate) fn nothings(&self) -> impl Iterator<Item = String> {
        (0..BUCKETS).map(|bucket| format!("{}{{b{bucket}}}:nothing", self.text))
    }

    /// The name of a channel. In a cluster, every key's channel has a slot of its own.
    pub(crate) fn channel(&self, channel: &Channel) -> String {
        match channel {
            Channel::Key(key) => format!("{}key/{{{key}}}", self.text),
            _ => format!("{}{channel}", self.text),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// The prefix is invalid.
#[derive(Debug, thiserror::Error)]
#[error("a prefix has 1 to {MAX_PREFIX_BYTES} of the letters, digits, `_`, `-` and `.`")]
pub(crate) struct PrefixError;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use faststate_core::{EventId, Scope};

    use super::*;
    use crate::slots::slot;

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
    fn law_11_cluster_entries_of_a_key_share_the_slot_of_their_bucket() {
        let prefix = Prefix::new("my-app").unwrap().with_buckets();
        let mut slots = BTreeSet::new();
        for id in 0..1000 {
            let key = Key::new("chat", Scope::Record, None, Some(&id.to_string())).unwrap();
            let record = prefix.record(&key);
            let receipt = prefix.receipt(&key, &Receipt::new(&key, "say", &EventId::random()));
            assert_eq!(slot(&record), slot(&receipt), "{record}");
            assert!(record.ends_with(&format!("}}:{key}")) && receipt.starts_with(&record), "{record}");
            assert!(prefix.nothings().any(|nothing| slot(&nothing) == slot(&record)), "{record}");
            slots.insert(slot(&record));
        }
        assert_eq!(slots.len(), usize::from(BUCKETS), "every bucket has a slot of its own");
    }

    #[test]
    fn law_11_stored_keys_of_a_cluster_never_change() {
        let prefix = Prefix::new("shop").unwrap().with_buckets();
        let key = Key::new("cart", Scope::Record, None, Some("1")).unwrap();
        assert_eq!(prefix.record(&key), "shop:v1:{b8}:cart/r/1");
    }

    #[test]
    fn law_11_prefix_with_delimiters_or_braces_is_refused() {
        for name in ["", "a:b", "a{b", "}", "a b", "ä", "a\0", &"a".repeat(65)] {
            assert!(Prefix::new(name).is_err(), "{name:?}");
        }
        assert!(Prefix::new(&"a".repeat(64)).is_ok());
    }
}
