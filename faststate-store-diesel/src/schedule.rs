//! Rows with the keys of records that are due or have unfinished messages.

use std::str;

use diesel::{
    Queryable,
    sql_types::{BigInt, Binary, Nullable},
};
use faststate_core::{
    Key,
    store::{DueKeys, PendingSummary},
};

use crate::row::{duration, time};

/// The columns of a [`KeyRow`].
pub(crate) type KeyColumns = (Nullable<Binary>, Nullable<BigInt>, BigInt, BigInt);

/// A record's key and one of its times. One row of each result has no key: it concerns all records.
#[derive(Debug, Queryable)]
pub(crate) struct KeyRow {
    pub(crate) key: Option<Vec<u8>>,
    /// In milliseconds. In a row with a key: the time of day at which the record is due, or its oldest message was
    /// requested. In the row without one: the database's clock, or the age of the oldest message.
    pub(crate) at: Option<i64>,
    /// The number of all waiting messages, in the row without a key.
    pub(crate) waiting: i64,
    /// The number of all parked messages, in the row without a key.
    pub(crate) parked: i64,
}

/// Decodes the rows of a statement for the records that are due.
pub(crate) fn due_keys(rows: Vec<KeyRow>) -> DueKeys {
    let (clock, keys) = split(rows);
    let now = clock.and_then(|row| row.at).unwrap_or_default();
    DueKeys { now: time(now), keys }
}

/// Decodes the rows of a statement for the records with unfinished messages.
pub(crate) fn pending_summary(rows: Vec<KeyRow>) -> PendingSummary {
    let (sums, keys) = split(rows);
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let sums = sums.map(|row| (count(row.waiting), count(row.parked), row.at.map(duration)));
    let (waiting, parked, age) = sums.unwrap_or_default();
    PendingSummary { waiting, parked, age, keys }
}

/// Separates the row without a key from the keys, which are returned in the order of their times.
fn split(rows: Vec<KeyRow>) -> (Option<KeyRow>, Vec<Key>) {
    let (mut keyed, mut others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.key.is_some());
    // A database may return the parts of a UNION in any order.
    keyed.sort_by_key(|row| row.at);
    let keys = keyed.iter().filter_map(|row| parse(row.key.as_deref()?)).collect();
    (others.pop(), keys)
}

/// Parses a key. A text that is none is skipped, so that it does not stop the other records.
fn parse(text: &[u8]) -> Option<Key> {
    let key = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    if key.is_none() {
        tracing::warn!(
            key = %String::from_utf8_lossy(text),
            "a record has messages under a key that does not exist in this version: they are not sent"
        );
    }
    key
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use faststate_core::Scope;

    use super::*;

    fn row(key: Option<&str>, at: Option<i64>, waiting: i64) -> KeyRow {
        KeyRow { key: key.map(|key| key.as_bytes().to_vec()), at, waiting, parked: 0 }
    }

    #[test]
    fn keys_are_sorted_and_unreadable_ones_skipped() {
        let key = |id| Key::new("thing", Scope::Record, None, Some(id)).unwrap();
        let (a, b) = (key("a"), key("b"));
        let rows = || {
            let unreadable = row(Some("?"), Some(1), 0);
            vec![row(Some(b.as_str()), Some(3), 0), row(Some(a.as_str()), Some(2), 0), unreadable]
        };
        let all = |at| rows().into_iter().chain([row(None, at, 7)]).collect();
        assert_eq!(due_keys(all(Some(5))), DueKeys { now: time(5), keys: vec![a.clone(), b.clone()] });
        let age = Some(Duration::from_millis(5));
        assert_eq!(
            pending_summary(all(Some(5))),
            PendingSummary { waiting: 7, parked: 0, age, keys: vec![a, b] }
        );
        assert_eq!(pending_summary(vec![row(None, None, 0)]), PendingSummary::default());
    }
}
