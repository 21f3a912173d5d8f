//! The newest frames of one topic.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{Version, wire::Frame};

/// The number of catch-up buffers to keep for other followers that missed the same frames.
const MAX_CATCH_UPS: usize = 8;

/// A bounded log of the newest frames. Positions in it only increase.
#[derive(Debug)]
pub(super) struct FrameLog {
    entries: VecDeque<LoggedFrame>,
    /// The total size of `entries` in bytes.
    bytes: usize,
    /// The limit of `bytes`.
    limit: usize,
    /// The version before the oldest entry.
    before: Version,
    /// The position after the newest entry.
    end: u64,
    /// Encoded since the newest frame was pushed.
    catch_ups: Vec<CatchUp>,
}

/// The position of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The follower has merged every frame before this position of the log.
    After(u64),
    /// The follower needs the snapshot.
    Nowhere,
}

#[derive(Debug)]
struct LoggedFrame {
    /// The topic's version after the frame.
    to: Version,
    frame: Frame,
}

/// All frames from one position to the end in one buffer.
#[derive(Debug)]
struct CatchUp {
    from: u64,
    ids: bool,
    bytes: Bytes,
}

impl FrameLog {
    /// Creates an empty log that begins at `version`.
    pub(super) const fn new(version: Version, limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, before: version, end: 0, catch_ups: Vec::new() }
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Appends a frame and drops the oldest frames that exceed the limit. The newest frame stays whatever its size,
    /// because it may contain elements that no snapshot contains.
    pub(super) fn push(&mut self, to: Version, frame: Frame) {
        self.bytes += frame.cost();
        self.entries.push_back(LoggedFrame { to, frame });
        self.end += 1;
        self.catch_ups.clear();
        while self.bytes > self.limit && self.entries.len() > 1 {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.frame.cost();
            self.before = oldest.to;
        }
    }

    /// Drops every frame, so that followers that are behind get the snapshot.
    pub(super) fn reset(&mut self, version: Version) {
        self.before = version;
        self.entries.clear();
        self.catch_ups.clear();
        self.bytes = 0;
        self.end += 1;
    }

    /// Returns the position right after `version`, if the log still contains all frames after it.
    pub(super) fn position(&self, version: Version) -> Option<u64> {
        match self.entries.iter().rposition(|entry| entry.to == version) {
            Some(at) => Some(self.start() + at as u64 + 1),
            None => (version == self.before).then(|| self.start()),
        }
    }

    /// Returns the frames from a position to the end in one buffer, or `None` if the log has dropped some of them.
    ///
    /// If `merge` combines several frames into one, returns that frame.
    pub(super) fn since(
        &mut self,
        from: u64,
        ids: bool,
        merge: impl FnOnce(&mut dyn Iterator<Item = &Frame>) -> Option<Frame>,
    ) -> Option<Bytes> {
        let skip = usize::try_from(from.checked_sub(self.start())?).ok()?;
        let missed = self.entries.iter().skip(skip);
        if missed.len() == 1
            && let Some(LoggedFrame { frame, .. }) = self.entries.back()
        {
            return Some(frame.bytes(ids));
        }
        if let Some(known) = self.catch_ups.iter().find(|known| known.from == from && known.ids == ids) {
            return Some(known.bytes.clone());
        }
        let merged = merge(&mut missed.clone().map(|entry| &entry.frame));
        let bytes = merged.map_or_else(|| concatenate(missed, ids), |merged| merged.bytes(ids));
        if self.catch_ups.len() < MAX_CATCH_UPS {
            self.catch_ups.push(CatchUp { from, ids, bytes: bytes.clone() });
        }
        Some(bytes)
    }

    fn start(&self) -> u64 {
        self.end - self.entries.len() as u64
    }
}

/// Concatenates the frames, oldest first.
fn concatenate<'a>(missed: impl DoubleEndedIterator<Item = &'a LoggedFrame> + Clone, ids: bool) -> Bytes {
    let mut bytes = BytesMut::new();
    missed.clone().for_each(|entry| bytes.extend_from_slice(&entry.frame.plain()));
    // The newest frame may be ephemeral and move no cursor.
    let id = missed.rev().map(|entry| entry.frame.id_block()).find(|id| !id.is_empty());
    if let Some(id) = id.filter(|_| ids) {
        bytes.extend_from_slice(&id);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Elements;

    fn frame(text: &str) -> Frame {
        Frame::default().with_elements(&[Elements::outer(text)])
    }

    fn text(bytes: Option<Bytes>) -> Option<String> {
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn law_04_every_cursor_within_the_log_resumes() {
        let versions: Vec<_> =
            std::iter::successors(Some(Version::start()), |v| Some(v.next())).take(4).collect();
        let mut log = FrameLog::new(versions[0], 10_000);
        for version in &versions[1..] {
            log.push(*version, frame(&version.to_string()));
        }
        for (at, version) in versions.iter().enumerate() {
            assert_eq!(log.position(*version), Some(at as u64));
        }
        let missed = text(log.since(1, false, |_| None)).unwrap();
        assert!(!missed.contains(&versions[1].to_string()) && missed.contains(&versions[2].to_string()));
        assert!(missed.ends_with(&text(Some(frame(&versions[3].to_string()).plain())).unwrap()));
        assert_eq!(log.position(Version::start()), None);
    }

    #[test]
    fn law_06_log_is_bounded_in_bytes_and_shares_catch_ups() {
        let mut version = Version::start();
        let mut log = FrameLog::new(version, 2_000);
        for at in 0..1_000 {
            version = version.next();
            log.push(version, frame(&"x".repeat(at % 50)));
            assert!(log.bytes <= 2_000);
        }
        assert!(log.position(log.before).is_some() && log.since(0, false, |_| None).is_none());
        let oldest = log.start();
        let (one, other) =
            (log.since(oldest, true, |_| None).unwrap(), log.since(oldest, true, |_| None).unwrap());
        assert_eq!(one.as_ptr(), other.as_ptr(), "both followers get the same buffer");
    }

    #[test]
    fn newest_frame_stays_when_it_exceeds_the_limit() {
        let start = Version::start();
        let mut log = FrameLog::new(start, 2_000);
        for text in ["small", &"x".repeat(5_000)] {
            log.push(start.next(), frame(text));
        }
        assert!(text(log.since(1, false, |_| None)).is_some_and(|missed| missed.contains("xxxxx")));
        assert_eq!(log.entries.len(), 1, "older frames are dropped");
    }
}
