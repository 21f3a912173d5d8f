//! The tables in the schema of diesel.

use std::time::{Duration, SystemTime};

use diesel::prelude::*;
use faststate_core::{Key, Version, store::Record};

diesel::table! {
    faststate_records (record_key) {
        record_key -> Binary,
        state_schema -> BigInt,
        epoch -> BigInt,
        seq -> BigInt,
        nonce -> BigInt,
        data -> Binary,
        expires_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    faststate_receipts (digest) {
        digest -> Binary,
        expires_at -> BigInt,
    }
}

/// A record as a row.
#[derive(AsChangeset, Insertable)]
#[diesel(table_name = faststate_records)]
#[diesel(treat_none_as_null = true)]
pub(super) struct Row<'a> {
    record_key: &'a [u8],
    state_schema: i64,
    epoch: i64,
    seq: i64,
    nonce: i64,
    data: &'a [u8],
    expires_at: Option<i64>,
}

impl<'a> Row<'a> {
    pub(super) fn new(key: &'a Key, record: &'a Record) -> Self {
        let (epoch, seq, nonce) = columns(record.version);
        Self {
            record_key: key.as_str().as_bytes(),
            state_schema: i64::from(record.schema),
            epoch,
            seq,
            nonce,
            data: &record.data,
            expires_at: record.ttl.map(from_now),
        }
    }
}

pub(super) fn columns(version: Version) -> (i64, i64, i64) {
    (version.epoch.cast_signed(), version.seq.cast_signed(), i64::from(version.nonce))
}

/// Milliseconds since the Unix epoch.
pub(super) fn from_now(time: Duration) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
    i64::try_from(since.as_millis()).unwrap()
}

/// The reason for a rollback.
pub(super) enum Undone {
    Conflict,
    Duplicate,
    Failed(diesel::result::Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error)
    }
}

/// The outcome of a transaction.
pub(super) fn saving(outcome: Result<(), Undone>) -> Option<faststate_core::store::SaveOutcome> {
    use faststate_core::store::SaveOutcome;
    match outcome {
        Ok(()) => Some(SaveOutcome::Saved),
        Err(Undone::Conflict) => Some(SaveOutcome::Conflict),
        Err(Undone::Duplicate) => Some(SaveOutcome::Duplicate),
        Err(Undone::Failed(error)) => {
            eprintln!("a save of the naive way fails: {error}");
            None
        }
    }
}
