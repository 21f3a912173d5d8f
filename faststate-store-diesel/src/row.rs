//! How records and receipts are written in columns.

use std::time::Duration;

use diesel::sql_types::{BigInt, Binary, Nullable};
use faststate_core::{
    Version,
    store::{Loaded, Record},
};

use crate::{error::Error, statement::Bind};

/// The longest time to live, in milliseconds: some 140,000 years, so that no sum overflows.
const LONGEST: i64 = 1 << 52;

/// What a load selects: schema, epoch, seq, nonce, data, milliseconds left; and how many receipts.
pub(crate) type Columns = (
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Binary>,
    Nullable<BigInt>,
    BigInt,
);

/// A row of [`Columns`].
pub(crate) type Row = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<i64>, i64);

/// A version as three columns hold it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionColumns {
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
    pub(crate) nonce: i64,
}

impl From<Version> for VersionColumns {
    fn from(version: Version) -> Self {
        // The same 64 bits: databases know no unsigned numbers.
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

/// The record and the receipt in a row.
pub(crate) fn loaded(row: Row) -> Result<Loaded, Error> {
    let (schema, epoch, seq, nonce, data, left, receipts) = row;
    let record = match (schema, epoch, seq, nonce, data) {
        (Some(schema), Some(epoch), Some(seq), Some(nonce), Some(data)) => Some(Record {
            schema: u32::try_from(schema).map_err(|_| Error::Schema(schema))?,
            version: Version {
                epoch: epoch.cast_unsigned(),
                seq: seq.cast_unsigned(),
                nonce: u32::try_from(nonce).map_err(|_| Error::Nonce(nonce))?,
            },
            data: data.into(),
            ttl: left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or_default())),
        }),
        _ => None,
    };
    Ok(Loaded { record, receipt: receipts > 0 })
}

/// A duration as the tables hold it, not shorter than it is.
pub(crate) fn millis(duration: Duration) -> i64 {
    let whole = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(whole).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_not_cut_short() {
        assert_eq!(millis(Duration::from_millis(300)), 300);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::MAX), LONGEST);
    }

    #[test]
    fn a_row_that_no_store_has_written_is_corrupt() {
        let row = |schema, nonce| (Some(schema), Some(1), Some(1), Some(nonce), Some(vec![]), None, 0);
        assert!(loaded(row(1, 1)).is_ok());
        assert!(matches!(loaded(row(-1, 1)), Err(Error::Schema(-1))));
        assert!(matches!(loaded(row(1, 1 << 32)), Err(Error::Nonce(_))));
    }
}
