//! Migration of records that an older schema wrote.

use std::borrow::Cow;

use crate::{BoxError, ReactiveState};

/// Upgrades data that schema `from` wrote, and decodes it.
///
/// [`ReactiveState::migrate`] works on a [`Value`](serde_json::Value), whose integers have 64 bits: serde_json's feature
/// for longer numbers would change how every crate of the application reads JSON. A longer integer passes through the
/// value as a string of a random prefix and its digits. No stored text can look like one, because the prefix is new for
/// each record.
pub(super) fn migrated<S: ReactiveState>(from: u32, data: &[u8]) -> Result<S, BoxError> {
    let prefix = format!("{:032x}:", rand::random::<u128>());
    let text = with_quoted_integers(std::str::from_utf8(data)?, &prefix);
    let mut value = serde_json::from_str(&text)?;
    S::migrate(from, &mut value)?;
    match text {
        Cow::Borrowed(_) => Ok(serde_json::from_value(value)?),
        Cow::Owned(_) => Ok(serde_json::from_str(&with_plain_integers(&value.to_string(), &prefix))?),
    }
}

/// Replaces each integer of more than 64 bits by a string of `prefix` and its digits.
fn with_quoted_integers<'a>(json: &'a str, prefix: &str) -> Cow<'a, str> {
    let mut quoted = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = json[at..].find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let start = at + found;
        if json[start..].starts_with('"') {
            at = end_of_string(json, start);
            continue;
        }
        let is_of_number = |byte: char| byte.is_ascii_digit() || matches!(byte, '-' | '+' | '.' | 'e' | 'E');
        at = json[start..].find(|byte| !is_of_number(byte)).map_or(json.len(), |length| start + length);
        let number = &json[start..at];
        if is_wide(number) {
            quoted.extend([&json[copied..start], "\"", prefix, number, "\""]);
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    quoted.push_str(&json[copied..]);
    Cow::Owned(quoted)
}

/// Whether a number is an integer of more than 64 bits and at most 128.
fn is_wide(number: &str) -> bool {
    let is_narrow = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
    !is_narrow && (number.parse::<u128>().is_ok() || number.parse::<i128>().is_ok())
}

/// The end of the string that begins at `start`.
fn end_of_string(json: &str, start: usize) -> usize {
    let mut escaped = false;
    let is_end = |byte: u8| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    };
    json.as_bytes()[start + 1..]
        .iter()
        .copied()
        .position(is_end)
        .map_or(json.len(), |length| start + length + 2)
}

/// Replaces the strings that [`with_quoted_integers`] produced by integers.
fn with_plain_integers(json: &str, prefix: &str) -> String {
    let mark = format!("\"{prefix}");
    let mut pieces = json.split(&mark);
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_once('"').unwrap_or((piece, ""));
        plain.extend([number, rest]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Ledger {
        name: String,
        total: u128,
        least: i128,
        ratio: f64,
        counts: BTreeMap<String, u128>,
        moved: Option<u128>,
    }

    impl ReactiveState for Ledger {
        const NAME: &'static str = "ledger";
        const SCHEMA: u32 = 2;

        fn migrate(_: u32, data: &mut Value) -> Result<(), BoxError> {
            data["name"] = format!("{}!", data["name"].as_str().unwrap_or_default()).into();
            data["moved"] = data["old"].take();
            Ok(())
        }
    }

    #[test]
    fn wide_integers_survive_migration() {
        for total in [0, 1 << 53, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX] {
            for least in [0, i128::from(i64::MIN), i128::from(i64::MIN) - 1, i128::MIN] {
                let counts = BTreeMap::from([("a".to_owned(), total), (total.to_string(), 7)]);
                let name = format!("\\ \"{total}\" \u{0} \\\" 340282366920938463463374607431768211455");
                let ratio = 1.7976931348623157e308;
                let ledger = Ledger { name, total, least, ratio, counts, moved: None };
                let mut json = serde_json::to_string(&ledger).unwrap();
                json.truncate(json.len() - 1);
                json.push_str(&format!(",\"old\": {total} }}"));
                let expected = Ledger { name: format!("{}!", ledger.name), moved: Some(total), ..ledger };
                assert_eq!(migrated::<Ledger>(1, json.as_bytes()).unwrap(), expected, "{json}");
            }
        }
    }

    #[test]
    fn text_that_looks_like_a_quoted_integer_stays_text() {
        let prefix = format!("{:032x}:", rand::random::<u128>());
        let ledger = Ledger { name: format!("{prefix}12"), total: u128::MAX, ..Ledger::default() };
        let json = serde_json::to_vec(&ledger).unwrap();
        assert_eq!(migrated::<Ledger>(1, &json).unwrap().name, format!("{prefix}12!"));
    }

    #[test]
    fn invalid_json_is_an_error() {
        for broken in ["", "{", "\"", "\"\\", "-", "{\"a\":99999999999999999999", "[1e5,\"]"] {
            assert!(migrated::<Ledger>(1, broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
