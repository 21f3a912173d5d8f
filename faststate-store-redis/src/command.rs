//! One call of the store: its Redis command and its answer.

use std::time::Duration;

use bb8_redis::redis::{Cmd, FromRedisValue as _, ParsingError, Pipeline, RedisResult, Value};
use bytes::Bytes;
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{error::RedisStoreError, keys::Prefix, slots::slot};

/// Maximum time to live that is sent to Redis, in milliseconds: about 30,000 years, so that its arithmetic does not
/// overflow.
const MAX_TTL_MS: u128 = 1_000_000_000_000_000;

/// The hashes under which Redis knows the loaded scripts.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) load: String,
    pub(crate) save: String,
    pub(crate) delete: String,
}

impl Scripts {
    /// The commands that load the scripts. Their answers convert into [`Scripts`].
    pub(crate) fn load() -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(3);
        for script in [
            include_str!("scripts/load.lua"),
            include_str!("scripts/save.lua"),
            include_str!("scripts/delete.lua"),
        ] {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
        }
        pipeline
    }
}

impl From<[String; 3]> for Scripts {
    fn from([load, save, delete]: [String; 3]) -> Self {
        Self { load, save, delete }
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
        receipt: Option<(String, Duration)>,
        expect: String,
        value: Vec<u8>,
        ttl: Option<Duration>,
    },
    Delete {
        record: String,
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
            receipt: receipt.map(|receipt| (prefix.receipt(key, receipt), receipt.lifetime())),
            expect: match expect {
                Precondition::Absent => String::new(),
                Precondition::Version(version) => version_prefix(version),
            },
            value: write(record),
            ttl: record.ttl,
        }
    }

    pub(crate) fn delete(prefix: &Prefix, key: &Key, version: Version) -> Self {
        Self::Delete { record: prefix.record(key), expect: version_prefix(version) }
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
            Self::Ping { nothing } => slot(nothing),
        }
    }

    /// Approximate size of the command in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Save { value, .. } => value.len() + 256,
            Self::Load { .. } | Self::Delete { .. } | Self::Touch { .. } | Self::Ping { .. } => 256,
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
            Self::Save { record, receipt, expect, value, ttl } => {
                let (receipt, lifetime) =
                    receipt.as_ref().map_or((None, 0), |(key, time)| (Some(key), millis(*time)));
                command.arg("EVALSHA").arg(&scripts.save).arg(1 + usize::from(receipt.is_some()));
                command.arg(record).arg(receipt);
                command.arg(expect).arg(value).arg(ttl.map_or(0, millis)).arg(lifetime);
            }
            Self::Delete { record, expect } => {
                command.arg("EVALSHA").arg(&scripts.delete).arg(1).arg(record).arg(expect);
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
    let (value, left, receipt) =
        <(Option<Vec<u8>>, i64, bool)>::from_redis_value(answer).map_err(RedisStoreError::Answer)?;
    let record = value.map(|value| {
        let record = read(&value.into()).ok_or_else(|| StoreError::Corrupt {
            key: key.clone(),
            source: "it does not begin with a version and a schema number".into(),
        })?;
        Ok::<_, StoreError>(Record { ttl: u64::try_from(left).ok().map(Duration::from_millis), ..record })
    });
    Ok(Loaded { record: record.transpose()?, receipt })
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

/// Returns whether Redis no longer has the script.
pub(crate) fn lacks_script(answer: &RedisResult<Value>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT"))
}

/// The prefix of every value with this version. A stored value is `version schema json`.
fn version_prefix(version: Version) -> String {
    format!("{version} ")
}

fn write(record: &Record) -> Vec<u8> {
    let mut value = format!("{} {} ", record.version, record.schema).into_bytes();
    value.extend_from_slice(&record.data);
    value
}

fn read(value: &Bytes) -> Option<Record> {
    let mut parts = value.splitn(3, |byte| *byte == b' ');
    let version = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let schema = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let data = parts.next()?.len();
    Some(Record { version, schema, data: value.slice(value.len() - data..), ttl: None })
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
    fn value_is_read_as_it_was_written() {
        for data in ["{}", "", " ", r#"{ "a": 1 }"#] {
            let version = Version { epoch: 1, seq: u64::MAX, nonce: 0 };
            let record = Record { schema: u32::MAX, version, data: data.into(), ttl: None };
            let value = write(&record);
            assert!(value.starts_with(version_prefix(version).as_bytes()));
            assert_eq!(read(&value.into()), Some(record));
        }
        for value in ["", "x", "0-0-0", "0-0-0 ", "0-0-0 1", "0-0-0 x {}", " 1 {}"] {
            assert_eq!(read(&value.into()), None, "{value:?}");
        }
    }

    #[test]
    fn time_to_live_is_clamped_for_redis() {
        let times = [Duration::ZERO, Duration::from_nanos(1_000_001), Duration::MAX];
        assert_eq!(times.map(millis), [1, 2, 1_000_000_000_000_000]);
    }
}
