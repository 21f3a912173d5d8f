//! Messages that are too long for the transport, sent in pieces.

use std::{collections::HashMap, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::Instant;

use super::peer_message::PeerMessage;
use crate::broadcast::MAX_PEER_MESSAGE_BYTES;

/// Bytes of a piece that are reserved for its header.
const HEADER_BYTES: usize = 128;
/// Bytes of the message that one piece carries.
const PIECE_BYTES: usize = MAX_PEER_MESSAGE_BYTES - HEADER_BYTES;
/// Maximum length of a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 2 << 20;
/// Maximum number of bytes of incomplete messages that are kept, over all nodes.
const MAX_INCOMPLETE_BYTES: usize = 16 << 20;
/// Time after which an incomplete message is dropped.
const INCOMPLETE_TIMEOUT: Duration = Duration::from_secs(10);

/// Encodes a message as one piece or several. Returns `None` if it is longer than [`MAX_MESSAGE_BYTES`].
pub(in crate::registry) fn split(message: &PeerMessage) -> Option<Vec<Bytes>> {
    let whole = message.to_bytes();
    if whole.len() <= MAX_PEER_MESSAGE_BYTES {
        return Some(vec![whole]);
    }
    if whole.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let message = rand::random();
    let parts = u32::try_from(whole.len().div_ceil(PIECE_BYTES)).ok()?;
    let pieces = whole.chunks(PIECE_BYTES).zip(0..).map(|(content, part)| {
        let mut piece = BytesMut::with_capacity(HEADER_BYTES + content.len());
        piece.put(PeerMessage::Piece { message, part, parts }.to_bytes());
        piece.put(content);
        piece.freeze()
    });
    Some(pieces.collect())
}

/// Messages of which some pieces have arrived, by the message's random id.
#[derive(Default)]
pub(in crate::registry) struct Pieces {
    incomplete: HashMap<u64, Incomplete>,
    bytes: usize,
}

struct Incomplete {
    pieces: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
    since: Instant,
}

impl Pieces {
    /// Adds a piece. Returns the whole message when its last piece arrives.
    pub(in crate::registry) fn add(
        &mut self,
        message: u64,
        part: u32,
        parts: u32,
        content: Bytes,
    ) -> Option<Bytes> {
        let (part, parts) = (usize::try_from(part).ok()?, usize::try_from(parts).ok()?);
        if part >= parts || parts > MAX_MESSAGE_BYTES.div_ceil(PIECE_BYTES) {
            return None;
        }
        let now = Instant::now();
        if !self.incomplete.contains_key(&message) {
            self.drop_old(now);
        }
        let incomplete = self.incomplete.entry(message).or_insert_with(|| Incomplete {
            pieces: vec![None; parts],
            missing: parts,
            bytes: 0,
            since: now,
        });
        let place = incomplete.pieces.get_mut(part).filter(|place| place.is_none())?;
        (self.bytes, incomplete.bytes) = (self.bytes + content.len(), incomplete.bytes + content.len());
        *place = Some(content);
        incomplete.missing -= 1;
        if incomplete.missing > 0 {
            return None;
        }
        let complete = self.incomplete.remove(&message)?;
        self.bytes -= complete.bytes;
        Some(complete.pieces.into_iter().flatten().collect::<Vec<_>>().concat().into())
    }

    /// Drops messages that have been incomplete for too long, and the oldest while there are too many bytes.
    fn drop_old(&mut self, now: Instant) {
        while let Some((message, oldest)) =
            self.incomplete.iter().min_by_key(|(_, incomplete)| incomplete.since)
        {
            if now - oldest.since < INCOMPLETE_TIMEOUT && self.bytes < MAX_INCOMPLETE_BYTES {
                return;
            }
            self.bytes -= oldest.bytes;
            let message = *message;
            self.incomplete.remove(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a message that contains a name of this length.
    fn pieces(length: usize) -> Option<Vec<Bytes>> {
        split(&PeerMessage::Heartbeat { node: 7, name: "é".repeat(length / 2) })
    }

    fn add(pieces: &mut Pieces, piece: &Bytes) -> Option<PeerMessage> {
        let Some((PeerMessage::Piece { message, part, parts }, content)) = PeerMessage::from_bytes(piece)
        else {
            panic!("not a piece: {piece:?}");
        };
        let (message, rest) = PeerMessage::from_bytes(&pieces.add(message, part, parts, content)?)?;
        assert!(rest.is_empty());
        Some(message)
    }

    #[tokio::test(start_paused = true)]
    async fn message_in_pieces_arrives_whole_in_any_order() {
        assert_eq!(pieces(100).unwrap().len(), 1);
        assert!(pieces(MAX_MESSAGE_BYTES).is_none(), "too long");
        let sent = pieces(100_000).unwrap();
        assert!(sent.iter().all(|piece| piece.len() <= MAX_PEER_MESSAGE_BYTES));
        let mut received = Pieces::default();
        let (last, others) = sent.split_first().unwrap();
        for piece in others.iter().rev().chain(others) {
            assert_eq!(add(&mut received, piece), None);
        }
        let whole = PeerMessage::Heartbeat { node: 7, name: "é".repeat(50_000) };
        assert_eq!(add(&mut received, last), Some(whole));
        assert!(received.incomplete.is_empty() && received.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_incomplete_messages_are_dropped() {
        let mut received = Pieces::default();
        for _ in 0..100 {
            for piece in pieces(MAX_MESSAGE_BYTES / 2).unwrap().iter().skip(1) {
                assert_eq!(add(&mut received, piece), None);
            }
            assert!(received.bytes <= MAX_INCOMPLETE_BYTES + MAX_MESSAGE_BYTES);
        }
        tokio::time::sleep(INCOMPLETE_TIMEOUT).await;
        received.drop_old(Instant::now());
        assert!(received.incomplete.is_empty() && received.bytes == 0);
        assert_eq!(received.add(1, 0, u32::MAX, Bytes::new()), None, "no message has that many pieces");
        assert_eq!(received.add(1, 3, 3, Bytes::new()), None);
    }
}
