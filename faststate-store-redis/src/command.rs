//! One call of the store: its Redis command and its answer.

use std::time::Duration;

use bb8_redis::redis::{Cmd, FromRedisValue as _, ParsingError, Pipeline, RedisResult, Value};
use bytes::Bytes;
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{
    error::RedisStoreError,
    keys::{IndexNames, Prefix},
    slots::slot,
    value,
};

/// Maximum time to live that is sent to Redis, in milliseconds: about 30,000 years, so that its arithmetic does not
/// overflow.
const MAX_TTL_MS: u128 = 1_000_000_000_000_000;

/// Maximum number of records whose messages one call counts, so that no script blocks the server for long.
const PENDING_PAGE: u32 = 1000;
/// The number of scripts.
pub(crate) const SCRIPTS: usize = 7;

/// The hashes under which Redis knows the loaded scripts.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) load: String,
    pub(crate) save: String,
    pub(crate) delete: String,
    pub(crate) release: String,
    pub(crate) due: String,
    pub(crate) pending: String,
    pub(crate) sweep: String,
}

impl Scripts {
    /// The commands that load the scripts. Their answers convert into [`Scripts`].
    pub(crate) fn load() -> Pipeline {
        let scripts: [&str; SCRIPTS] = [
            include_str!("scripts/load.lua"),
            include_str!("scripts/save.lua"),
            include_str!("scripts/delete.lua"),
            include_str!("scripts/release.lua"),
            concat!(include_str!("scripts/header.lua"), include_str!("scripts/due.lua")),
            concat!(include_str!("scripts/header.lua"), include_str!("scripts/pending.lua")),
            concat!(include_str!("scripts/header.lua"), include_str!("scripts/sweep.lua")),
        ];
        let mut pipeline = Pipeline::with_capacity(SCRIPTS);
        for script in scripts {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
        }
        pipeline
    }
}

impl From<[String; SCRIPTS]> for Scripts {
    fn from([load, save, delete, release, due, pending, sweep]: [String; SCRIPTS]) -> Self {
        Self { load, save, delete, release, due, pending, sweep }
    }
}

/// A call of the store.
pub(crate) enum StoreCommand {
    Load {
        record: String,
        receipt: Option<String>,
    },
    Save {
        record: String,
        indexes: IndexNames,
        receipt: Option<(String, Duration)>,
        expect: String,
        value: Vec<u8>,
        ttl: Option<Duration>,
        /// The scores in the indexes of a record with messages or a due time; an empty text stands for none.
        scores: Option<[String; 2]>,
    },
    Refuse {
        receipt: String,
        lifetime: Duration,
        answer: Bytes,
    },
    /// The receipts are in one slot.
    Release {
        receipts: Vec<String>,
    },
    Due {
        indexes: IndexNames,
        limit: usize,
    },
    /// Counts one page of messages.
    Pending {
        indexes: IndexNames,
        start: u64,
        limit: usize,
    },
    Sweep {
        indexes: IndexNames,
        limit: usize,
    },
    Delete {
        record: String,
        indexes: IndexNames,
        expect: String,
    },
    Touch {
        record: String,
        ttl: Duration,
    },
    Ping {
        nothing: String,
    },
}

impl StoreCommand {
    pub(crate) fn load(prefix: &Prefix, key: &Key, receipt: Option<&Receipt>) -> Self {
        Self::Load {
            record: prefix.record(key),
            receipt: receipt.map(|receipt| prefix.receipt(key, receipt)),
        }
    }

    pub(crate) fn save(
        prefix: &Prefix,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Self {
        Self::Save {
            record: prefix.record(key),
            indexes: prefix.indexes(key),
            receipt: receipt.map(|receipt| (prefix.receipt(key, receipt), receipt.lifetime())),
            expect: match expect {
                Precondition::Absent => String::new(),
                Precondition::Version(version) => value::version_prefix(version),
            },
            value: value::write(record),
            ttl: record.ttl,
            scores: value::times(record)
                .map(|times| times.map(|time| time.map(value::score).unwrap_or_default())),
        }
    }

    pub(crate) fn refuse(prefix: &Prefix, key: &Key, receipt: &Receipt, answer: &Bytes) -> Self {
        Self::Refuse {
            receipt: prefix.receipt(key, receipt),
            lifetime: receipt.lifetime(),
            answer: answer.clone(),
        }
    }

    pub(crate) fn delete(prefix: &Prefix, key: &Key, version: Version) -> Self {
        Self::Delete {
            record: prefix.record(key),
            indexes: prefix.indexes(key),
            expect: value::version_prefix(version),
        }
    }

    pub(crate) fn touch(prefix: &Prefix, key: &Key, ttl: Duration) -> Self {
        Self::Touch { record: prefix.record(key), ttl }
    }

    pub(crate) fn ping(nothing: String) -> Self {
        Self::Ping { nothing }
    }

    /// The slot of the command's keys in a cluster.
    pub(crate) fn slot(&self) -> u16 {
        match self {
            Self::Load { record, .. }
            | Self::Save { record, .. }
            | Self::Delete { record, .. }
            | Self::Touch { record, .. } => slot(record),
            Self::Refuse { receipt, .. } => slot(receipt),
            Self::Release { receipts } => receipts.first().map_or(0, |receipt| slot(receipt)),
            Self::Due { indexes, .. } | Self::Pending { indexes, .. } | Self::Sweep { indexes, .. } => {
                slot(&indexes.due)
            }
            Self::Ping { nothing } => slot(nothing),
        }
    }

    /// Approximate size of the command in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Save { value, .. } => value.len() + 256,
            Self::Refuse { answer, .. } => answer.len() + 256,
            Self::Release { receipts } => receipts.len() * 256,
            Self::Load { .. }
            | Self::Due { .. }
            | Self::Pending { .. }
            | Self::Sweep { .. }
            | Self::Delete { .. }
            | Self::Touch { .. }
            | Self::Ping { .. } => 256,
        }
    }

    /// The Redis command of this call.
    pub(crate) fn command(&self, scripts: &Scripts) -> Cmd {
        let mut command = Cmd::new();
        match self {
            Self::Load { record, receipt } => {
                command.arg("EVALSHA").arg(&scripts.load).arg(1 + usize::from(receipt.is_some()));
                command.arg(record).arg(receipt);
            }
            Self::Save { record, indexes, receipt, expect, value, ttl, scores } => {
                let (receipt, lifetime) =
                    receipt.as_ref().map_or((None, 0), |(key, time)| (Some(key), millis(*time)));
                command.arg("EVALSHA").arg(&scripts.save).arg(3 + usize::from(receipt.is_some()));
                command.arg(record).arg(&*indexes.due).arg(&*indexes.oldest).arg(receipt);
                command.arg(expect).arg(value).arg(ttl.map_or(0, millis)).arg(lifetime);
                command.arg(scores.as_ref().map_or(&[][..], |scores| scores));
            }
            Self::Refuse { receipt, lifetime, answer } => {
                command.arg("SET").arg(receipt).arg(&answer[..]).arg("PX").arg(millis(*lifetime)).arg("NX");
            }
            Self::Release { receipts } => {
                command.arg("EVALSHA").arg(&scripts.release).arg(receipts.len());
                command.arg(receipts).arg(millis(RECEIPT_KEPT));
            }
            Self::Due { indexes, limit } => {
                command.arg("EVALSHA").arg(&scripts.due).arg(1).arg(&*indexes.due).arg(limit);
            }
            Self::Pending { indexes, start, limit } => {
                command.arg("EVALSHA").arg(&scripts.pending).arg(1).arg(&*indexes.oldest);
                command.arg(start).arg(PENDING_PAGE).arg(limit);
            }
            Self::Sweep { indexes, limit } => {
                command.arg("EVALSHA").arg(&scripts.sweep).arg(2).arg(&*indexes.due).arg(&*indexes.oldest);
                command.arg(limit);
            }
            Self::Delete { record, indexes, expect } => {
                command.arg("EVALSHA").arg(&scripts.delete).arg(3);
                command.arg(record).arg(&*indexes.due).arg(&*indexes.oldest).arg(expect);
            }
            Self::Touch { record, ttl } => {
                command.arg("PEXPIRE").arg(record).arg(millis(*ttl));
            }
            // Changes nothing, but counts as a write, so that a replica or a server that cannot write refuses it.
            Self::Ping { nothing } => {
                command.arg("DEL").arg(nothing);
            }
        }
        command
    }
}

/// Decodes the answer to `load`.
pub(crate) fn loaded(key: &Key, answer: Value) -> Result<Loaded, StoreError> {
    let (value, left, receipt) = <(Option<Vec<u8>>, i64, Option<Vec<u8>>)>::from_redis_value(answer)
        .map_err(RedisStoreError::Answer)?;
    let record = value.map(|value| {
        let record = value::read(&value.into()).ok_or_else(|| StoreError::Corrupt {
            key: key.clone(),
            source: "it does not begin with a version and a schema number".into(),
        })?;
        Ok::<_, StoreError>(Record { ttl: u64::try_from(left).ok().map(Duration::from_millis), ..record })
    });
    Ok(Loaded { record: record.transpose()?, receipt: receipt.map(Bytes::from) })
}

/// Decodes the answer to `save`.
pub(crate) fn saved(answer: Value) -> Result<SaveOutcome, StoreError> {
    match number(answer)? {
        0 => Ok(SaveOutcome::Saved),
        1 => Ok(SaveOutcome::Conflict),
        2 => Ok(SaveOutcome::Duplicate),
        other => {
            Err(RedisStoreError::Answer(ParsingError::from(format!("the script returned {other}"))).into())
        }
    }
}

/// Decodes the answer to `delete` and `touch`.
pub(crate) fn changed(answer: Value) -> Result<bool, StoreError> {
    Ok(number(answer)? == 1)
}

fn number(answer: Value) -> Result<i64, StoreError> {
    Ok(i64::from_redis_value(answer).map_err(RedisStoreError::Answer)?)
}

/// Decodes the answer to `refuse`: nothing if the receipt exists.
pub(crate) fn refused(answer: Value) -> Result<bool, StoreError> {
    let done = <Option<String>>::from_redis_value(answer).map_err(RedisStoreError::Answer)?;
    Ok(done.is_some())
}

/// Decodes the answer to `sweep`.
pub(crate) fn swept(answer: Value) -> Result<usize, StoreError> {
    Ok(usize::try_from(number(answer)?).unwrap_or_default())
}

/// Returns whether Redis no longer has the script.
pub(crate) fn lacks_script(answer: &RedisResult<Value>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT"))
}

/// A duration in milliseconds, rounded up and at least 1.
fn millis(time: Duration) -> u64 {
    let millis = time.as_nanos().div_ceil(1_000_000).clamp(1, MAX_TTL_MS);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_live_is_clamped_for_redis() {
        let times = [Duration::ZERO, Duration::from_nanos(1_000_001), Duration::MAX];
        assert_eq!(times.map(millis), [1, 2, 1_000_000_000_000_000]);
    }
}
