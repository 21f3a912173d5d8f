//! An entry of the fast store: a copy of a record, or the claims of its writers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::LEASE;
use crate::{Version, store::Record};

/// A copy of a record: `[extra,data]`, where `extra` is how many milliseconds longer than its copy the
/// record lives, or `null`.
pub(super) struct Entry;

impl Entry {
    /// The copy of a record that had its time to live at `since`, or a bit later. It goes when half of
    /// what is left has passed, so that no clock or delay lets it outlive the record.
    pub(super) fn write(record: &Record, since: Instant, max_age: Duration) -> Option<Record> {
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
        // A record that is nearly as large as it may be has no copy.
        Some(Record { data: data.into(), ttl: Some(age), ..*record }).filter(|copy| copy.check_size().is_ok())
    }

    /// The record whose copy this is.
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
        Some(Record { data, ttl, ..*copy })
    }
}

/// The writers of a record, and the readers that fill the fast store with it: `{"claims":[[id,left],..]}`, where
/// `left` is the remaining lifetime of the claim in milliseconds when this was written.
///
/// The fast store's clock measures them: the entry lives as long as its newest claim, and its elapsed lifetime is the
/// elapsed lifetime of each claim.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    version: Version,
    /// The claim that wrote this version.
    id: u64,
    holders: Vec<(u64, u64)>,
}

impl Claim {
    /// No claim yet.
    pub(super) fn none() -> Self {
        Self { version: Version::start(), id: 0, holders: Vec::new() }
    }

    /// The claims that this is, unless it is something else.
    pub(super) fn read(record: &Record) -> Option<Self> {
        let claims = record.data.strip_prefix(br#"{"claims":"#)?.strip_suffix(b"}")?;
        let holders: Vec<(u64, u64)> = serde_json::from_slice(claims).ok()?;
        let passed = millis(LEASE.saturating_sub(record.ttl?));
        let left = |(id, left): (u64, u64)| Some((id, left.checked_sub(passed).filter(|left| *left > 0)?));
        let holders = holders.into_iter().filter_map(left).collect();
        Some(Self { version: record.version, id: 0, holders })
    }

    /// These claims and a new one.
    pub(super) fn join(&self) -> Self {
        let id = rand::random();
        let mut holders = self.holders.clone();
        holders.push((id, millis(LEASE)));
        Self { version: Version::start(), id, holders }
    }

    /// These claims without the other's own, as a new version, so that writers that expect the old one must load
    /// again. `None` if no claim is left.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        let holders: Vec<_> = self.holders.iter().copied().filter(|(id, _)| *id != other.id).collect();
        (!holders.is_empty()).then(|| Self { version: Version::start(), id: 0, holders })
    }

    /// Whether this version has only one claim.
    pub(super) fn is_alone(&self) -> bool {
        self.holders.len() == 1
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    pub(super) fn record(&self) -> Record {
        let claims: Vec<_> = self.holders.iter().map(|(id, left)| format!("[{id},{left}]")).collect();
        let data = Bytes::from(format!(r#"{{"claims":[{}]}}"#, claims.join(",")));
        Record { schema: 0, version: self.version, data, ttl: Some(LEASE) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &'static str, ttl: Option<Duration>) -> Record {
        Record { schema: 3, version: Version::start(), data: data.into(), ttl }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_tells_the_record_and_leaves_before_it() {
        let since = Instant::now();
        for data in [r#"{"a":[1,2]}"#, "[]", "null", ""] {
            for ttl in [None, Some(Duration::from_secs(7)), Some(Duration::from_hours(24))] {
                let record = record(data, ttl);
                let copy = Entry::write(&record, since, Duration::from_secs(60)).unwrap();
                assert!(Claim::read(&copy).is_none());
                assert!(copy.ttl.unwrap() <= Duration::from_secs(60));
                assert!(ttl.is_none_or(|ttl| copy.ttl.unwrap() <= ttl / 2));
                assert_eq!(Entry::read(&copy), Some(record));
            }
        }
        let short = record("{}", Some(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(40)).await;
        let copy = Entry::write(&short, since, Duration::from_secs(60)).unwrap();
        assert_eq!(copy.ttl, Some(Duration::from_millis(30)));
        assert_eq!(Entry::read(&copy).unwrap().ttl, Some(Duration::from_millis(60)));
        tokio::time::advance(Duration::from_millis(60)).await;
        assert_eq!(Entry::write(&short, since, Duration::from_secs(60)), None);
    }

    #[test]
    fn each_claim_holds_for_its_own_lease() {
        let first = Claim::none().join();
        assert!(first.is_alone());
        let later = Record { ttl: Some(LEASE - Duration::from_secs(10)), ..first.record() };
        let second = Claim::read(&later).unwrap().join();
        assert!(!second.is_alone() && second.version() != first.version());
        let much_later = Record { ttl: Some(Duration::from_secs(5)), ..second.record() };
        let third = Claim::read(&much_later).unwrap().join();
        assert_eq!(third.holders.len(), 2, "the first has held its 30 seconds: {third:?}");
        let left = third.without(&second).unwrap();
        assert!(left.is_alone() && left.version() != third.version());
        assert!(left.without(&third).is_none());
        assert!(Entry::read(&third.record()).is_none());
    }
}
