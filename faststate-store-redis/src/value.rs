//! The text under which a record is stored.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use faststate_core::{
    Version,
    store::{PendingMessages, Record},
};

/// The latest time that Redis keeps exactly as a score, in milliseconds since the Unix epoch: in the year 287396.
const MAX_SCORE: u128 = (1 << 53) - 1;

/// Returns the prefix of every value with this version.
pub(crate) fn version_prefix(version: Version) -> String {
    format!("{version} ")
}

/// Encodes a record. A record without messages and without a due time is stored as `version schema json`, any other one
/// as `version +schema due oldest waiting parked length jsonmessages`, with `-` for a missing time and the length of the
/// JSON in bytes.
pub(crate) fn write(record: &Record) -> Vec<u8> {
    let Record { schema, version, data, pending, due, ttl: _ } = record;
    let head = match times(record) {
        None => format!("{version} {schema} "),
        Some(_) => {
            let time = |time: &Option<SystemTime>| time.map_or_else(|| "-".to_owned(), score);
            let PendingMessages { waiting, parked, oldest, .. } = pending;
            let (due, oldest, length) = (time(due), time(oldest), data.len());
            format!("{version} +{schema} {due} {oldest} {waiting} {parked} {length} ")
        }
    };
    let mut value = Vec::with_capacity(head.len() + data.len() + pending.data.len());
    value.extend_from_slice(head.as_bytes());
    value.extend_from_slice(data);
    value.extend_from_slice(&pending.data);
    value
}

/// Returns a record's scores in the indexes of due times and of oldest messages, unless it has no messages and no due
/// time.
pub(crate) fn times(record: &Record) -> Option<[Option<SystemTime>; 2]> {
    let is_plain = record.pending == PendingMessages::default() && record.due.is_none();
    (!is_plain).then_some([record.due, record.pending.oldest])
}

/// Decodes a record, without its time to live.
pub(crate) fn read(value: &Bytes) -> Option<Record> {
    let mut fields = Fields(value.clone());
    let version = fields.next()?.parse().ok()?;
    let schema = fields.next()?;
    let Some(schema) = schema.strip_prefix('+') else {
        return Some(Record::new(schema.parse().ok()?, version, fields.0, None));
    };
    let (schema, due, oldest) = (schema.parse().ok()?, time(&fields.next()?)?, time(&fields.next()?)?);
    let (waiting, parked) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let length: usize = fields.next()?.parse().ok()?;
    let mut data = fields.0;
    if data.len() < length {
        return None;
    }
    let pending = PendingMessages { data: data.split_off(length), waiting, parked, oldest };
    Some(Record { schema, version, data, ttl: None, pending, due })
}

/// The rest of a value, whose fields end with spaces.
struct Fields(Bytes);

impl Fields {
    /// Removes the next field.
    fn next(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b' ')?;
        let field = self.0.split_to(end);
        let _space = self.0.split_to(1);
        String::from_utf8(field.into()).ok()
    }
}

/// Returns the score of a time: its milliseconds since the Unix epoch.
pub(crate) fn score(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().min(MAX_SCORE).to_string()
}

/// Returns the time of a score.
pub(crate) fn time_of(score: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(score)
}

/// Decodes a score, or `-`.
#[expect(clippy::option_option, reason = "the outer one is an error")]
fn time(text: &str) -> Option<Option<SystemTime>> {
    if text == "-" {
        return Some(None);
    }
    let score = text.parse().ok().filter(|score| u128::from(*score) <= MAX_SCORE)?;
    Some(Some(time_of(score)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_read_as_it_was_written() {
        for data in ["{}", "", " ", r#"{ "a": 1 }"#] {
            let version = Version { epoch: 1, seq: u64::MAX, nonce: 0 };
            let record = Record::new(u32::MAX, version, data, None);
            let value = write(&record);
            assert!(value.starts_with(version_prefix(version).as_bytes()));
            assert_eq!(read(&value.into()), Some(record.clone()));
            for (due, oldest) in
                [(None, None), (Some(1), None), (None, Some(0)), (Some(1 << 40), Some(1 << 50))]
            {
                let (due, oldest) = (due.map(time_of), oldest.map(time_of));
                let pending = PendingMessages {
                    data: Bytes::from(&b"\xff +1 "[..]),
                    waiting: 1,
                    parked: u32::MAX,
                    oldest,
                };
                let record = Record { due, pending, ..record.clone() };
                assert_eq!(read(&write(&record).into()), Some(record));
            }
        }
        for value in [
            "",
            "x",
            "0-0-0",
            "0-0-0 ",
            "0-0-0 1",
            "0-0-0 x {}",
            " 1 {}",
            "0-0-0 +1 {}",
            "0-0-0 +1 - - 0 0 3 {}",
            "0-0-0 +1 - x 0 0 2 {}",
            "0-0-0 +1 9007199254740992 - 0 0 2 {}",
            "0-0-0 +1 - - -1 0 2 {}",
        ] {
            assert_eq!(read(&value.into()), None, "{value:?}");
        }
    }

    #[test]
    fn value_without_messages_has_the_format_of_earlier_versions() {
        let record = Record::new(7, Version { epoch: 1, seq: 2, nonce: 3 }, "{}", None);
        assert_eq!(write(&record), b"0000000000000001-2-00000003 7 {}");
    }

    #[test]
    fn score_is_an_integer_that_redis_keeps_exactly() {
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(score(early), "0");
        assert_eq!(score(time_of(253_402_300_799_999)), "253402300799999");
        assert_eq!(score(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999_999)), "1");
        assert_eq!(score(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60)), "9007199254740991");
    }
}
