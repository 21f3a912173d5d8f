//! Conversions between records and columns.

use std::time::{Duration, SystemTime};

use diesel::{
    Queryable,
    sql_types::{BigInt, Binary, Nullable},
};
use faststate_core::{
    Version,
    store::{Loaded, PendingMessages, Record},
};

use crate::{error::BackendError, statement::Bind};

/// Maximum time to live in milliseconds, about 140,000 years, so that no sum overflows.
const MAX_TTL_MS: i64 = 1 << 52;

/// The columns of a load, as [`LoadedRow`] names them.
pub(crate) type Columns = (
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Binary>,
    Nullable<BigInt>,
    Nullable<Binary>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Binary>,
);

/// A row of [`Columns`]. All columns of the record are `None` if there is none, and those of its messages if it has none.
#[derive(Debug, Default, Queryable)]
pub(crate) struct LoadedRow {
    pub(crate) schema: Option<i64>,
    pub(crate) epoch: Option<i64>,
    pub(crate) seq: Option<i64>,
    pub(crate) nonce: Option<i64>,
    pub(crate) data: Option<Vec<u8>>,
    /// The remaining lifetime in milliseconds.
    pub(crate) left: Option<i64>,
    pub(crate) pending: Option<Vec<u8>>,
    pub(crate) waiting: Option<i64>,
    pub(crate) parked: Option<i64>,
    /// A time of day in milliseconds since 1970, like `due`.
    pub(crate) oldest: Option<i64>,
    pub(crate) due: Option<i64>,
    /// The answer of the receipt, empty for an accepted event; `None` if there is no receipt.
    pub(crate) answer: Option<Vec<u8>>,
}

/// A version in three columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionColumns {
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
    pub(crate) nonce: i64,
}

impl From<Version> for VersionColumns {
    fn from(version: Version) -> Self {
        // Reinterprets the 64 bits, because not every database has an unsigned type.
        Self {
            epoch: version.epoch.cast_signed(),
            seq: version.seq.cast_signed(),
            nonce: i64::from(version.nonce),
        }
    }
}

impl VersionColumns {
    /// Epoch, seq and nonce, in the order of the columns.
    pub(crate) const fn binds(self) -> [Bind<'static>; 3] {
        [Bind::Number(self.epoch), Bind::Number(self.seq), Bind::Number(self.nonce)]
    }
}

/// The columns of a record's messages and due time, in the order `pending, waiting, parked, oldest, due`. `None` if all of
/// them are NULL, as in the record of an application that sends nothing.
pub(crate) fn message_binds(record: &Record) -> Option<[Bind<'_>; 5]> {
    let PendingMessages { data, waiting, parked, oldest } = &record.pending;
    let pending = (!data.is_empty()).then_some(&data[..]);
    let count = |count: u32| Some(i64::from(count)).filter(|count| *count > 0);
    let numbers = [count(*waiting), count(*parked), oldest.map(time_millis), record.due.map(time_millis)];
    if pending.is_none() && numbers.iter().all(Option::is_none) {
        return None;
    }
    let [waiting, parked, oldest, due] = numbers.map(Bind::MaybeNumber);
    Some([Bind::MaybeBytes(pending), waiting, parked, oldest, due])
}

/// Decodes a row.
pub(crate) fn loaded(row: LoadedRow) -> Result<Loaded, BackendError> {
    let receipt = row.answer.map(Into::into);
    let (Some(schema), Some(epoch), Some(seq), Some(nonce), Some(data)) =
        (row.schema, row.epoch, row.seq, row.nonce, row.data)
    else {
        return Ok(Loaded { record: None, receipt });
    };
    let count = |count: Option<i64>| {
        let count = count.unwrap_or_default();
        u32::try_from(count).map_err(|_| BackendError::Count(count))
    };
    let record = Record {
        schema: u32::try_from(schema).map_err(|_| BackendError::Schema(schema))?,
        version: Version {
            epoch: epoch.cast_unsigned(),
            seq: seq.cast_unsigned(),
            nonce: u32::try_from(nonce).map_err(|_| BackendError::Nonce(nonce))?,
        },
        data: data.into(),
        ttl: row.left.map(duration),
        pending: PendingMessages {
            data: row.pending.unwrap_or_default().into(),
            waiting: count(row.waiting)?,
            parked: count(row.parked)?,
            oldest: row.oldest.map(time),
        },
        due: row.due.map(time),
    };
    Ok(Loaded { record: Some(record), receipt })
}

/// A duration in milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> i64 {
    let whole = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(whole).unwrap_or(MAX_TTL_MS).min(MAX_TTL_MS)
}

/// A duration of whole milliseconds; zero for a negative number.
pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// A time of day from the milliseconds since 1970.
pub(crate) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(millis.min(MAX_TTL_MS))
}

/// The whole milliseconds from 1970 to a time of day; 0 for an earlier time.
fn time_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(MAX_TTL_MS).min(MAX_TTL_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_rounded_up() {
        assert_eq!(millis(Duration::from_millis(300)), 300);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::MAX), MAX_TTL_MS);
    }

    #[test]
    fn row_with_invalid_numbers_is_corrupt() {
        let row = |schema, nonce, waiting| LoadedRow {
            schema: Some(schema),
            epoch: Some(1),
            seq: Some(1),
            nonce: Some(nonce),
            data: Some(vec![]),
            waiting: Some(waiting),
            ..LoadedRow::default()
        };
        assert!(loaded(row(1, 1, 1)).is_ok());
        assert!(matches!(loaded(row(-1, 1, 1)), Err(BackendError::Schema(-1))));
        assert!(matches!(loaded(row(1, 1 << 32, 1)), Err(BackendError::Nonce(_))));
        assert!(matches!(loaded(row(1, 1, -1)), Err(BackendError::Count(-1))));
    }

    #[test]
    fn time_of_day_is_whole_milliseconds_within_limits() {
        let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(time(time_millis(at(1_234))), at(1_234));
        assert_eq!(time_millis(at(7) + Duration::from_micros(999)), 7);
        assert_eq!(time_millis(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(time_millis(at(u64::MAX / 1_000_000 * 1_000_000)), MAX_TTL_MS);
        assert_eq!(time(i64::MAX), at(1 << 52));
    }

    #[test]
    fn record_without_messages_has_no_message_columns() {
        let mut record = Record::new(1, Version::start(), "{}", None);
        assert!(message_binds(&record).is_none());
        record.due = Some(time(5));
        let binds = message_binds(&record).unwrap();
        assert!(matches!(binds[..4], [Bind::MaybeBytes(None), .., Bind::MaybeNumber(None)]), "{binds:?}");
        assert!(matches!(binds[4], Bind::MaybeNumber(Some(5))), "{binds:?}");
    }
}
