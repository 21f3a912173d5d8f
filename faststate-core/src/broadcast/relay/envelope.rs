//! The binary format of what nodes send to each other.
//!
//! `format kind node [length key] body`: one byte, one byte, 8 bytes, and, if the envelope concerns a key, the key's
//! text after 2 bytes of length. Numbers are big-endian. The body of a change is `schema from to [data]`,
//! where a version is `epoch seq nonce` in 20 bytes. Without the data, a change has 56 bytes and the key.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{Key, Version, broadcast::Change};

/// The first byte, the number of the format. A node that receives another number loads from the store instead.
const FORMAT: u8 = 1;

const PROBE: u8 = 0;
const CHANGE: u8 = 1;
const CHANGE_WITH_DATA: u8 = 2;
const PEER_MESSAGE: u8 = 3;
const PEER_MESSAGE_OF_KEY: u8 = 4;

/// One message from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// A probe that the node sends to itself, with the probe's number.
    Probe(u32),
    Change(Change),
    PeerMessage(Option<Key>, Bytes),
}

/// The bytes are not an envelope, or one of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodeError;

impl Envelope {
    /// Encodes a change, without its data if the result would exceed `max_bytes`.
    pub(super) fn change(node: u64, change: &Change, max_bytes: usize) -> Bytes {
        let head = 2 + 8 + 2 + change.key.as_str().len() + 4 + 20 + 20;
        let data = change.data.as_ref().filter(|data| head + data.len() <= max_bytes);
        let mut bytes = BytesMut::with_capacity(head + data.map_or(0, Bytes::len));
        start(&mut bytes, if data.is_some() { CHANGE_WITH_DATA } else { CHANGE }, node);
        put_key(&mut bytes, &change.key);
        bytes.put_u32(change.schema);
        put_version(&mut bytes, change.from);
        put_version(&mut bytes, change.to);
        bytes.extend_from_slice(data.map_or(&[], |data| data));
        bytes.freeze()
    }

    /// Encodes a peer message.
    pub(super) fn peer_message(node: u64, key: Option<&Key>, message: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        start(&mut bytes, if key.is_some() { PEER_MESSAGE_OF_KEY } else { PEER_MESSAGE }, node);
        key.into_iter().for_each(|key| put_key(&mut bytes, key));
        bytes.extend_from_slice(message);
        bytes.freeze()
    }

    /// Encodes a probe.
    pub(super) fn probe(node: u64, probe: u32) -> Bytes {
        let mut bytes = BytesMut::new();
        start(&mut bytes, PROBE, node);
        bytes.put_u32(probe);
        bytes.freeze()
    }

    /// Decodes an envelope; returns it with the number of the node that sent it.
    pub(super) fn decode(mut bytes: Bytes) -> Result<(u64, Self), DecodeError> {
        if bytes.try_get_u8() != Ok(FORMAT) {
            return Err(DecodeError);
        }
        let kind = bytes.try_get_u8().map_err(|_| DecodeError)?;
        let node = bytes.try_get_u64().map_err(|_| DecodeError)?;
        let envelope = match kind {
            PROBE => Self::Probe(bytes.try_get_u32().map_err(|_| DecodeError)?),
            PEER_MESSAGE => Self::PeerMessage(None, bytes),
            PEER_MESSAGE_OF_KEY => {
                let key = get_key(&mut bytes)?;
                Self::PeerMessage(Some(key), bytes)
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
        Ok((node, envelope))
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
    fn envelope_round_trips() {
        for data in [None, Some(""), Some("{\"a\":\"\\u0000\"}")] {
            let change = change(data);
            let bytes = Envelope::change(7, &change, usize::MAX);
            assert_eq!(Envelope::decode(bytes), Ok((7, Envelope::Change(change.clone()))));
            let message = Envelope::peer_message(8, Some(&change.key), b"\0\xff");
            let read = Envelope::PeerMessage(Some(change.key), Bytes::from_static(b"\0\xff"));
            assert_eq!(Envelope::decode(message), Ok((8, read)));
        }
        assert_eq!(
            Envelope::decode(Envelope::peer_message(9, None, b"")),
            Ok((9, Envelope::PeerMessage(None, Bytes::new())))
        );
        assert_eq!(Envelope::decode(Envelope::probe(1, 2)), Ok((1, Envelope::Probe(2))));
    }

    #[test]
    fn law_06_long_change_is_sent_without_data_and_longest_key_fits() {
        let change = change(Some("{}"));
        let whole = Envelope::change(7, &change, usize::MAX);
        assert_eq!(Envelope::change(7, &change, whole.len()), whole);
        let short = Envelope::change(7, &change, whole.len() - 1);
        let message = Envelope::peer_message(7, Some(&change.key), &[0; MAX_PEER_MESSAGE_BYTES]);
        assert_eq!(
            Envelope::decode(short.clone()),
            Ok((7, Envelope::Change(Change { data: None, ..change })))
        );
        // PostgreSQL accepts 7,999 bytes of text; base64 encodes three bytes in four.
        assert!(short.len() < 7_999 / 4 * 3, "{}", short.len());
        assert!(message.len() < 7_999 / 4 * 3, "{}", message.len());
    }

    #[test]
    fn truncated_or_unknown_bytes_are_a_decode_error() {
        let bytes = Envelope::change(7, &change(None), usize::MAX);
        for length in 0..bytes.len() {
            assert_eq!(Envelope::decode(bytes.slice(..length)), Err(DecodeError), "{length} bytes");
        }
        for at in [0, 1] {
            let mut other = bytes.to_vec();
            other[at] = 77;
            assert_eq!(Envelope::decode(other.into()), Err(DecodeError));
        }
    }
}
