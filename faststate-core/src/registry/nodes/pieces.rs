//! Words that are too long for the transport travel in pieces.

use std::{collections::HashMap, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::Instant;

use super::PeerMessage;
use crate::broadcast::LONGEST_WORDS;

/// How many bytes a piece has besides its content: what says which piece it is.
const HEAD: usize = 128;
/// How many bytes of the whole a piece carries.
const PIECE: usize = LONGEST_WORDS - HEAD;
/// How many bytes words may have.
const LONGEST: usize = 2 << 20;
/// How many bytes of incomplete words are kept, of all nodes together.
const MOST: usize = 16 << 20;
/// How long words may stay incomplete.
const PATIENCE: Duration = Duration::from_secs(10);

/// The words as the transport carries them; `None` if they are too long even so.
pub(super) fn split(words: &PeerMessage) -> Option<Vec<Bytes>> {
    let whole = words.to_bytes();
    if whole.len() <= LONGEST_WORDS {
        return Some(vec![whole]);
    }
    if whole.len() > LONGEST {
        return None;
    }
    let message = rand::random();
    let parts = u32::try_from(whole.len().div_ceil(PIECE)).ok()?;
    let pieces = whole.chunks(PIECE).zip(0..).map(|(content, part)| {
        let mut piece = BytesMut::with_capacity(HEAD + content.len());
        piece.put(PeerMessage::Piece { message, part, parts }.to_bytes());
        piece.put(content);
        piece.freeze()
    });
    Some(pieces.collect())
}

/// Words of which some pieces have arrived.
#[derive(Default)]
pub(super) struct Pieces {
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
    /// Adds a piece; returns the whole with the last one.
    pub(super) fn add(&mut self, message: u64, part: u32, parts: u32, content: Bytes) -> Option<Bytes> {
        let (part, parts) = (usize::try_from(part).ok()?, usize::try_from(parts).ok()?);
        if part >= parts || parts > LONGEST.div_ceil(PIECE) {
            return None;
        }
        let now = Instant::now();
        if !self.incomplete.contains_key(&message) {
            self.forget_old(now);
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

    /// Forgets what stays incomplete, and the oldest where there is too much.
    fn forget_old(&mut self, now: Instant) {
        while let Some((message, oldest)) = self.incomplete.iter().min_by_key(|(_, words)| words.since) {
            if now - oldest.since < PATIENCE && self.bytes < MOST {
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

    /// The pieces of words with a name of this length.
    fn pieces(length: usize) -> Option<Vec<Bytes>> {
        split(&PeerMessage::Here { node: 7, name: "é".repeat(length / 2) })
    }

    fn add(pieces: &mut Pieces, piece: &Bytes) -> Option<PeerMessage> {
        let Some((PeerMessage::Piece { message, part, parts }, content)) = PeerMessage::from_bytes(piece)
        else {
            panic!("not a piece: {piece:?}");
        };
        let (words, rest) = PeerMessage::from_bytes(&pieces.add(message, part, parts, content)?)?;
        assert!(rest.is_empty());
        Some(words)
    }

    #[tokio::test(start_paused = true)]
    async fn words_in_pieces_arrive_whole_in_whatever_order() {
        assert_eq!(pieces(100).unwrap().len(), 1);
        assert!(pieces(LONGEST).is_none(), "too long");
        let sent = pieces(100_000).unwrap();
        assert!(sent.iter().all(|piece| piece.len() <= LONGEST_WORDS));
        let mut received = Pieces::default();
        let (last, others) = sent.split_first().unwrap();
        for piece in others.iter().rev().chain(others) {
            assert_eq!(add(&mut received, piece), None);
        }
        let whole = PeerMessage::Here { node: 7, name: "é".repeat(50_000) };
        assert_eq!(add(&mut received, last), Some(whole));
        assert!(received.incomplete.is_empty() && received.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_incomplete_words_are_forgotten() {
        let mut received = Pieces::default();
        for _ in 0..100 {
            for piece in pieces(LONGEST / 2).unwrap().iter().skip(1) {
                assert_eq!(add(&mut received, piece), None);
            }
            assert!(received.bytes <= MOST + LONGEST);
        }
        tokio::time::sleep(PATIENCE).await;
        received.forget_old(Instant::now());
        assert!(received.incomplete.is_empty() && received.bytes == 0);
        assert_eq!(received.add(1, 0, u32::MAX, Bytes::new()), None, "so many cannot be");
        assert_eq!(received.add(1, 3, 3, Bytes::new()), None);
    }
}
