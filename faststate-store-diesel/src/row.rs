//! Conversions between records and columns.

use std::time::Duration;

use diesel::sql_types::{BigInt, Binary, Nullable};
use faststate_core::{
    Version,
    store::{Loaded, Record},
};

use crate::{error::BackendError, statement::Bind};

/// Maximum time to live in milliseconds, about 140,000 years, so that no sum overflows.
const MAX_TTL_MS: i64 = 1 << 52;

/// The columns of a load: schema, epoch, seq, nonce, data, remaining milliseconds, number of receipts.
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
pub(crate) type LoadedRow =
    (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<i64>, i64);

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

/// Decodes a row.
pub(crate) fn loaded(row: LoadedRow) -> Result<Loaded, BackendError> {
    let (schema, epoch, seq, nonce, data, left, receipts) = row;
    let record = match (schema, epoch, seq, nonce, data) {
        (Some(schema), Some(epoch), Some(seq), Some(nonce), Some(data)) => Some(Record {
            schema: u32::try_from(schema).map_err(|_| BackendError::Schema(schema))?,
            version: Version {
                epoch: epoch.cast_unsigned(),
                seq: seq.cast_unsigned(),
                nonce: u32::try_from(nonce).map_err(|_| BackendError::Nonce(nonce))?,
            },
            data: data.into(),
            ttl: left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or_default())),
        }),
        _ => None,
    };
    Ok(Loaded { record, receipt: receipts > 0 })
}

/// A duration in milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> i64 {
    let whole = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(whole).unwrap_or(MAX_TTL_MS).min(MAX_TTL_MS)
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
        let row = |schema, nonce| (Some(schema), Some(1), Some(1), Some(nonce), Some(vec![]), None, 0);
        assert!(loaded(row(1, 1)).is_ok());
        assert!(matches!(loaded(row(-1, 1)), Err(BackendError::Schema(-1))));
        assert!(matches!(loaded(row(1, 1 << 32)), Err(BackendError::Nonce(_))));
    }
}
