//! The entries of the fast store: copies of records, and the claims of writers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::CLAIM_LEASE;
use crate::{Version, store::Record};

/// A copy of a record: `[extra,data]`, where `extra` is the number of milliseconds by which the record outlives the
/// copy, or `null` if the record does not expire.
pub(super) struct CachedCopy;

impl CachedCopy {
    /// Returns the copy of a record that had its time to live at `since` or later. `None` if the copy would expire
    /// within 1 ms or be too large, or if the record has unfinished messages.
    ///
    /// The copy expires when half of the record's remaining lifetime has passed, so that no delay and no difference
    /// between clocks lets it outlive the record.
    pub(super) fn write(record: &Record, since: Instant, max_age: Duration) -> Option<Record> {
        if !record.pending.is_empty() {
            return None;
        }
        let (age, extra) = match record.ttl {
            None => (max_age, None),
            Some(ttl) => {
                let left = ttl.checked_sub(since.elapsed())?;
                let age = max_age.min(left / 2);
                (age, Some(millis(left - age)))
            }
        };
        if age < Duration::from_millis(1) {
            return None;
        }
        let extra = extra.map_or_else(|| "null".to_owned(), |extra| extra.to_string());
        let data = [b"[", extra.as_bytes(), b",", &record.data, b"]"].concat();
        Some(Record { data: data.into(), ttl: Some(age), ..record.clone() })
            .filter(|copy| copy.check_size().is_ok())
    }

    /// Returns the record of a copy; `None` if the entry is not a copy.
    pub(super) fn read(copy: &Record) -> Option<Record> {
        let inner = copy.data.strip_prefix(b"[")?.strip_suffix(b"]")?;
        let comma = inner.iter().position(|byte| *byte == b',')?;
        let ttl = match &inner[..comma] {
            b"null" => None,
            extra => {
                let extra = std::str::from_utf8(extra).ok()?.parse().ok()?;
                Some(copy.ttl? + Duration::from_millis(extra))
            }
        };
        let data = copy.data.slice(comma + 2..copy.data.len() - 1);
        Some(Record { data, ttl, ..copy.clone() })
    }
}

/// The claims of a key by its writers, and by readers that fill the fast store: `{"claims":[[id,left],..]}`, where
/// `left` is the remaining lifetime of the claim in milliseconds at the time of writing.
///
/// An entry is always written with a lifetime of [`CLAIM_LEASE`]. Its remaining lifetime therefore shows how much time
/// has passed since then, by the fast store's clock.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    version: Version,
    /// The id of the claim that [`join`](Self::join) added; 0 if there is none.
    id: u64,
    /// Each claim's id and its remaining lifetime in milliseconds.
    holders: Vec<(u64, u64)>,
}

impl Claims {
    /// Returns an empty set of claims.
    pub(super) fn none() -> Self {
        Self { version: Version::start(), id: 0, holders: Vec::new() }
    }

    /// Returns the claims in an entry that have not expired; `None` if the entry contains no claims.
    pub(super) fn read(entry: &Record) -> Option<Self> {
        let claims = entry.data.strip_prefix(br#"{"claims":"#)?.strip_suffix(b"}")?;
        let holders: Vec<(u64, u64)> = serde_json::from_slice(claims).ok()?;
        let passed = millis(CLAIM_LEASE.saturating_sub(entry.ttl?));
        let left = |(id, left): (u64, u64)| Some((id, left.checked_sub(passed).filter(|left| *left > 0)?));
        let holders = holders.into_iter().filter_map(left).collect();
        Some(Self { version: entry.version, id: 0, holders })
    }

    /// Returns these claims and a new one, under a new version.
    pub(super) fn join(&self) -> Self {
        let id = rand::random();
        let mut holders = self.holders.clone();
        holders.push((id, millis(CLAIM_LEASE)));
        Self { version: Version::start(), id, holders }
    }

    /// Returns these claims without the one that `joined` added. `None` if no claim remains.
    ///
    /// The result has a new version, so that writers that expect the old one must load again.
    pub(super) fn without(&self, joined: &Self) -> Option<Self> {
        let holders: Vec<_> = self.holders.iter().copied().filter(|(id, _)| *id != joined.id).collect();
        (!holders.is_empty()).then(|| Self { version: Version::start(), id: 0, holders })
    }

    /// Returns whether there is exactly one claim.
    pub(super) fn is_alone(&self) -> bool {
        self.holders.len() == 1
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// Returns the entry that contains these claims.
    pub(super) fn record(&self) -> Record {
        let claims: Vec<_> = self.holders.iter().map(|(id, left)| format!("[{id},{left}]")).collect();
        let data = Bytes::from(format!(r#"{{"claims":[{}]}}"#, claims.join(",")));
        Record::new(0, self.version, data, Some(CLAIM_LEASE))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &'static str, ttl: Option<Duration>) -> Record {
        Record::new(3, Version::start(), data, ttl)
    }

    #[tokio::test(start_paused = true)]
    async fn copy_returns_the_record_and_expires_before_it() {
        let since = Instant::now();
        for data in [r#"{"a":[1,2]}"#, "[]", "null", ""] {
            for ttl in [None, Some(Duration::from_secs(7)), Some(Duration::from_hours(24))] {
                let record = record(data, ttl);
                let copy = CachedCopy::write(&record, since, Duration::from_secs(60)).unwrap();
                assert!(Claims::read(&copy).is_none());
                assert!(copy.ttl.unwrap() <= Duration::from_secs(60));
                assert!(ttl.is_none_or(|ttl| copy.ttl.unwrap() <= ttl / 2));
                assert_eq!(CachedCopy::read(&copy), Some(record));
            }
        }
        let short = record("{}", Some(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(40)).await;
        let copy = CachedCopy::write(&short, since, Duration::from_secs(60)).unwrap();
        assert_eq!(copy.ttl, Some(Duration::from_millis(30)));
        assert_eq!(CachedCopy::read(&copy).unwrap().ttl, Some(Duration::from_millis(60)));
        tokio::time::advance(Duration::from_millis(60)).await;
        assert_eq!(CachedCopy::write(&short, since, Duration::from_secs(60)), None);
    }

    #[test]
    fn each_claim_lasts_for_its_own_lease() {
        let first = Claims::none().join();
        assert!(first.is_alone());
        let later = Record { ttl: Some(CLAIM_LEASE - Duration::from_secs(10)), ..first.record() };
        let second = Claims::read(&later).unwrap().join();
        assert!(!second.is_alone() && second.version() != first.version());
        let much_later = Record { ttl: Some(Duration::from_secs(5)), ..second.record() };
        let third = Claims::read(&much_later).unwrap().join();
        assert_eq!(third.holders.len(), 2, "the first claim has expired after 30 s: {third:?}");
        let left = third.without(&second).unwrap();
        assert!(left.is_alone() && left.version() != third.version());
        assert!(left.without(&third).is_none());
        assert!(CachedCopy::read(&third.record()).is_none());
    }
}
