//! What a follower may have missed.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{Version, wire::Frame};

/// How many concatenations of missed frames are kept for others who missed the same.
const RUNS: usize = 8;

/// A bounded list of the newest frames. A position in it is a number that never goes back.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    /// The version before the oldest entry.
    before: Version,
    /// The position after the newest entry.
    end: u64,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Entry {
    to: Version,
    frame: Frame,
}

/// Missed frames in one piece.
#[derive(Debug)]
struct Run {
    from: u64,
    ids: bool,
    bytes: Bytes,
}

impl Log {
    /// An empty log that begins at `version`.
    pub(super) const fn new(version: Version, limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, before: version, end: 0, runs: Vec::new() }
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Adds a frame and drops the oldest that no longer fit. The newest stays, however large: who follows
    /// right now must get what is in no snapshot.
    pub(super) fn push(&mut self, to: Version, frame: Frame) {
        self.bytes += frame.cost();
        self.entries.push_back(Entry { to, frame });
        self.end += 1;
        self.runs.clear();
        while self.bytes > self.limit && self.entries.len() > 1 {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.frame.cost();
            self.before = oldest.to;
        }
    }

    /// Forgets every frame: whoever is behind gets the snapshot.
    pub(super) fn reset(&mut self, version: Version) {
        self.before = version;
        self.entries.clear();
        self.runs.clear();
        self.bytes = 0;
        self.end += 1;
    }

    /// The position right after this version, if the log still has the frames from there on.
    pub(super) fn position(&self, version: Version) -> Option<u64> {
        match self.entries.iter().rposition(|entry| entry.to == version) {
            Some(at) => Some(self.start() + at as u64 + 1),
            None => (version == self.before).then(|| self.start()),
        }
    }

    /// The frames from a position to the end in one piece, or nothing if the log has lost some. Several are
    /// what `merge` says that they come to, if it says so.
    pub(super) fn since(
        &mut self,
        from: u64,
        ids: bool,
        merge: impl FnOnce(&mut dyn Iterator<Item = &Frame>) -> Option<Frame>,
    ) -> Option<Bytes> {
        let skip = usize::try_from(from.checked_sub(self.start())?).ok()?;
        let missed = self.entries.iter().skip(skip);
        if missed.len() == 1
            && let Some(Entry { frame, .. }) = self.entries.back()
        {
            return Some(frame.bytes(ids));
        }
        if let Some(run) = self.runs.iter().find(|run| run.from == from && run.ids == ids) {
            return Some(run.bytes.clone());
        }
        let merged = merge(&mut missed.clone().map(|entry| &entry.frame));
        let bytes = merged.map_or_else(|| in_a_row(missed, ids), |merged| merged.bytes(ids));
        if self.runs.len() < RUNS {
            self.runs.push(Run { from, ids, bytes: bytes.clone() });
        }
        Some(bytes)
    }

    fn start(&self) -> u64 {
        self.end - self.entries.len() as u64
    }
}

/// The frames as they are, one after the other.
fn in_a_row<'a>(missed: impl DoubleEndedIterator<Item = &'a Entry> + Clone, ids: bool) -> Bytes {
    let mut bytes = BytesMut::new();
    missed.clone().for_each(|entry| bytes.extend_from_slice(&entry.frame.plain()));
    // The newest may be a frame that moves no cursor.
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
    fn law_04_a_cursor_resumes_from_where_the_log_begins_to_its_end() {
        let versions: Vec<_> =
            std::iter::successors(Some(Version::start()), |v| Some(v.next())).take(4).collect();
        let mut log = Log::new(versions[0], 10_000);
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
    fn law_06_a_log_is_bounded_in_bytes_and_shares_what_several_missed() {
        let mut version = Version::start();
        let mut log = Log::new(version, 2_000);
        for at in 0..1_000 {
            version = version.next();
            log.push(version, frame(&"x".repeat(at % 50)));
            assert!(log.bytes <= 2_000);
        }
        assert!(log.position(log.before).is_some() && log.since(0, false, |_| None).is_none());
        let oldest = log.start();
        let (one, other) =
            (log.since(oldest, true, |_| None).unwrap(), log.since(oldest, true, |_| None).unwrap());
        assert_eq!(one.as_ptr(), other.as_ptr(), "one concatenation for all");
    }

    #[test]
    fn the_newest_frame_reaches_who_follows_now_however_large_it_is() {
        let start = Version::start();
        let mut log = Log::new(start, 2_000);
        for text in ["small", &"x".repeat(5_000)] {
            log.push(start.next(), frame(text));
        }
        assert!(text(log.since(1, false, |_| None)).is_some_and(|missed| missed.contains("xxxxx")));
        assert_eq!(log.entries.len(), 1, "and what is older makes room");
    }
}
