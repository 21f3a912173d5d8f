//! The names of keys and channels in Redis.

use std::{fmt, sync::Arc};

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
/// `prefix:v1:key/{key}`. The indexes of due times and unfinished messages are at `prefix:v1:due` and
/// `prefix:v1:oldest`, and on a cluster at `prefix:v1:{b7}:due` and `prefix:v1:{b7}:oldest`. Neither a prefix nor a key's
/// text contains a brace or a colon, and each key contains a slash, so no two entries share a Redis key (law 11).
#[derive(Clone)]
pub(crate) struct Prefix {
    text: String,
    has_buckets: bool,
    /// The indexes of each bucket.
    indexes: Arc<[IndexNames]>,
}

impl Prefix {
    /// Validates the prefix of an application.
    pub(crate) fn new(name: &str) -> Result<Self, PrefixError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > MAX_PREFIX_BYTES || !name.bytes().all(legal) {
            return Err(PrefixError);
        }
        let text = format!("{name}:v1:");
        Ok(Self { indexes: [IndexNames::new(&text)].into(), text, has_buckets: false })
    }

    /// The same prefix with keys spread over buckets, for a cluster.
    pub(crate) fn with_buckets(self) -> Self {
        let indexes = (0..BUCKETS).map(|bucket| IndexNames::new(&format!("{}{{b{bucket}}}:", self.text)));
        Self { has_buckets: true, indexes: indexes.collect(), ..self }
    }

    pub(crate) fn record(&self, key: &Key) -> String {
        if self.has_buckets {
            return format!("{}{{b{}}}:{key}", self.text, self.bucket(key));
        }
        format!("{}{{{key}}}", self.text)
    }

    pub(crate) fn receipt(&self, key: &Key, receipt: &Receipt) -> String {
        format!("{}:{:032x}", self.record(key), u128::from_be_bytes(*receipt.as_bytes()))
    }

    /// The key of a record, whose Redis key is `record`.
    pub(crate) fn key(&self, record: &str) -> Option<Key> {
        let rest = record.strip_prefix(&self.text)?.strip_prefix('{')?;
        let key =
            if self.has_buckets { rest.split_once("}:").map(|(_, key)| key) } else { rest.strip_suffix('}') };
        key?.parse().ok()
    }

    /// The bucket of a key; without a cluster there is one.
    pub(crate) fn bucket(&self, key: &Key) -> u16 {
        if self.has_buckets { crc16(key.as_str()) % BUCKETS } else { 0 }
    }

    /// The indexes that contain the key's record.
    pub(crate) fn indexes(&self, key: &Key) -> IndexNames {
        self.indexes[usize::from(self.bucket(key))].clone()
    }

    /// The indexes of all buckets.
    pub(crate) fn all_indexes(&self) -> &[IndexNames] {
        &self.indexes
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

/// The Redis keys of the sorted sets that contain the records of one bucket, named by their Redis keys.
#[derive(Clone, Debug)]
pub(crate) struct IndexNames {
    /// The records with a due time, by this time.
    pub(crate) due: Arc<str>,
    /// The records with unfinished messages, by the time of the oldest.
    pub(crate) oldest: Arc<str>,
}

impl IndexNames {
    fn new(bucket: &str) -> Self {
        Self { due: format!("{bucket}due").into(), oldest: format!("{bucket}oldest").into() }
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
    fn law_11_record_names_its_key_and_is_no_index() {
        let server = Prefix::new("my-app").unwrap();
        for prefix in [server.clone(), server.with_buckets()] {
            for (state, id) in [("due", "oldest"), ("chat", "{a}:b"), ("b7", "}:{")] {
                let key = Key::new(state, Scope::Record, None, Some(id)).unwrap();
                let record = prefix.record(&key);
                assert_eq!(prefix.key(&record), Some(key.clone()));
                let IndexNames { due, oldest } = prefix.indexes(&key);
                let slots = [&due, &oldest].map(|index| slot(index));
                assert!(!prefix.has_buckets || slots == [slot(&record); 2]);
                assert!(
                    prefix
                        .all_indexes()
                        .iter()
                        .all(|names| ![&*names.due, &names.oldest].contains(&&*record))
                );
                assert_eq!([due, oldest].map(|index| prefix.key(&index)), [None, None]);
            }
        }
        assert_eq!(Prefix::new("other").unwrap().key("my-app:v1:{due/r/a}"), None);
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
