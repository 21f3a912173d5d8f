//! What nodes send each other, as bytes.
//!
//! `format kind node [length key] body`: one byte, one byte, 8 bytes, and where it is about a key its
//! text after 2 bytes of length. Numbers are big-endian. The body of a change is `schema from to [data]`,
//! where a version is `epoch seq nonce` in 20 bytes: 54 bytes and the key, without the data.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{Key, Version, broadcast::Change};

/// The first byte: how the rest is written. A node of another format is told by it, and reads the store.
const FORMAT: u8 = 1;

const PROBE: u8 = 0;
const CHANGE: u8 = 1;
const CHANGE_WITH_DATA: u8 = 2;
const WORDS: u8 = 3;
const WORDS_OF_KEY: u8 = 4;

/// What one node sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// To itself, to see whether anything arrives: which of its probes it is.
    Probe(u32),
    Change(Change),
    Words(Option<Key>, Bytes),
}

/// Not a letter, or one of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodeError;

impl Envelope {
    /// The bytes of a change. Its data is left out where they would be more than `longest`.
    pub(super) fn change(node: u64, change: &Change, longest: usize) -> Bytes {
        let head = 2 + 8 + 2 + change.key.as_str().len() + 4 + 20 + 20;
        let data = change.data.as_ref().filter(|data| head + data.len() <= longest);
        let mut bytes = BytesMut::with_capacity(head + data.map_or(0, Bytes::len));
        start(&mut bytes, if data.is_some() { CHANGE_WITH_DATA } else { CHANGE }, node);
        put_key(&mut bytes, &change.key);
        bytes.put_u32(change.schema);
        put_version(&mut bytes, change.from);
        put_version(&mut bytes, change.to);
        bytes.extend_from_slice(data.map_or(&[], |data| data));
        bytes.freeze()
    }

    pub(super) fn words(node: u64, key: Option<&Key>, words: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        start(&mut bytes, if key.is_some() { WORDS_OF_KEY } else { WORDS }, node);
        key.into_iter().for_each(|key| put_key(&mut bytes, key));
        bytes.extend_from_slice(words);
        bytes.freeze()
    }

    pub(super) fn probe(node: u64, probe: u32) -> Bytes {
        let mut bytes = BytesMut::new();
        start(&mut bytes, PROBE, node);
        bytes.put_u32(probe);
        bytes.freeze()
    }

    /// Who sent it, and what.
    pub(super) fn read(mut bytes: Bytes) -> Result<(u64, Self), DecodeError> {
        if bytes.try_get_u8() != Ok(FORMAT) {
            return Err(DecodeError);
        }
        let kind = bytes.try_get_u8().map_err(|_| DecodeError)?;
        let node = bytes.try_get_u64().map_err(|_| DecodeError)?;
        let letter = match kind {
            PROBE => Self::Probe(bytes.try_get_u32().map_err(|_| DecodeError)?),
            WORDS => Self::Words(None, bytes),
            WORDS_OF_KEY => {
                let key = get_key(&mut bytes)?;
                Self::Words(Some(key), bytes)
            }
            CHANGE | CHANGE_WITH_DATA => {
                let key = get_key(&mut bytes)?;
                let schema = bytes.try_get_u32().map_err(|_| DecodeError)?;
                let (from, to) = (get_version(&mut bytes)?, get_version(&mut bytes)?);
                let data = (kind == CHANGE_WITH_DATA).then_some(bytes);
                Self::Change(Change { key, from, to, schema, data })
            }
            _ => return Err(DecodeError),
        };
        Ok((node, letter))
    }
}

fn start(bytes: &mut BytesMut, kind: u8, node: u64) {
    bytes.put_u8(FORMAT);
    bytes.put_u8(kind);
    bytes.put_u64(node);
}

fn put_key(bytes: &mut BytesMut, key: &Key) {
    // A key's text has at most 1,600 bytes.
    bytes.put_u16(u16::try_from(key.as_str().len()).unwrap_or(u16::MAX));
    bytes.extend_from_slice(key.as_str().as_bytes());
}

fn get_key(bytes: &mut Bytes) -> Result<Key, DecodeError> {
    let length = usize::from(bytes.try_get_u16().map_err(|_| DecodeError)?);
    if bytes.len() < length {
        return Err(DecodeError);
    }
    let text = bytes.split_to(length);
    std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or(DecodeError)
}

fn put_version(bytes: &mut BytesMut, version: Version) {
    bytes.put_u64(version.epoch);
    bytes.put_u64(version.seq);
    bytes.put_u32(version.nonce);
}

fn get_version(bytes: &mut Bytes) -> Result<Version, DecodeError> {
    let mut number = || bytes.try_get_u64().map_err(|_| DecodeError);
    let (epoch, seq) = (number()?, number()?);
    let nonce = bytes.try_get_u32().map_err(|_| DecodeError)?;
    Ok(Version { epoch, seq, nonce })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, broadcast::MAX_PEER_MESSAGE_BYTES};

    fn change(data: Option<&'static str>) -> Change {
        let long = "🦀".repeat(63);
        let key = Key::new(&"a".repeat(64), Scope::Component, Some(&long), Some(&long)).unwrap();
        let from = Version { epoch: u64::MAX, seq: u64::MAX, nonce: u32::MAX };
        Change { key, from, to: Version::start(), schema: u32::MAX, data: data.map(Bytes::from) }
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        for data in [None, Some(""), Some("{\"a\":\"\\u0000\"}")] {
            let change = change(data);
            let bytes = Envelope::change(7, &change, usize::MAX);
            assert_eq!(Envelope::read(bytes), Ok((7, Envelope::Change(change.clone()))));
            let words = Envelope::words(8, Some(&change.key), b"\0\xff");
            let read = Envelope::Words(Some(change.key), Bytes::from_static(b"\0\xff"));
            assert_eq!(Envelope::read(words), Ok((8, read)));
        }
        assert_eq!(
            Envelope::read(Envelope::words(9, None, b"")),
            Ok((9, Envelope::Words(None, Bytes::new())))
        );
        assert_eq!(Envelope::read(Envelope::probe(1, 2)), Ok((1, Envelope::Probe(2))));
    }

    #[test]
    fn law_06_what_is_too_long_goes_without_its_data_and_the_longest_key_fits() {
        let change = change(Some("{}"));
        let whole = Envelope::change(7, &change, usize::MAX);
        assert_eq!(Envelope::change(7, &change, whole.len()), whole);
        let short = Envelope::change(7, &change, whole.len() - 1);
        let words = Envelope::words(7, Some(&change.key), &[0; MAX_PEER_MESSAGE_BYTES]);
        assert_eq!(Envelope::read(short.clone()), Ok((7, Envelope::Change(Change { data: None, ..change }))));
        // PostgreSQL takes 7,999 bytes of text: three for four in base64.
        assert!(short.len() < 7_999 / 4 * 3, "{}", short.len());
        assert!(words.len() < 7_999 / 4 * 3, "{}", words.len());
    }

    #[test]
    fn whatever_else_arrives_is_illegible() {
        let bytes = Envelope::change(7, &change(None), usize::MAX);
        for length in 0..bytes.len() {
            assert_eq!(Envelope::read(bytes.slice(..length)), Err(DecodeError), "{length} bytes");
        }
        for at in [0, 1] {
            let mut other = bytes.to_vec();
            other[at] = 77;
            assert_eq!(Envelope::read(other.into()), Err(DecodeError));
        }
    }
}
