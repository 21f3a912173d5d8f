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
    pub(super) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, end: 0, runs: Vec::new() }
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Adds a frame and drops the oldest that no longer fit.
    pub(super) fn push(&mut self, to: Version, frame: Frame) {
        self.bytes += frame.cost();
        self.entries.push_back(Entry { to, frame });
        self.end += 1;
        self.runs.clear();
        while self.bytes > self.limit {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.frame.cost();
        }
    }

    /// Forgets every frame: whoever is behind gets the snapshot.
    pub(super) fn reset(&mut self) {
        self.entries.clear();
        self.runs.clear();
        self.bytes = 0;
        self.end += 1;
    }

    /// The position right after this version, if the log still has the frames from there on.
    pub(super) fn position(&self, version: Version) -> Option<u64> {
        let at = self.entries.iter().rposition(|entry| entry.to == version)?;
        Some(self.start() + at as u64 + 1)
    }

    /// The frames from a position to the end in one piece, or nothing if the log has lost some.
    pub(super) fn since(&mut self, from: u64, ids: bool) -> Option<Bytes> {
        let skip = usize::try_from(from.checked_sub(self.start())?).ok()?;
        let missed = self.entries.iter().skip(skip);
        if let [only] = &*missed.clone().take(2).collect::<Vec<_>>() {
            return Some(if ids { only.frame.with_id() } else { only.frame.plain() });
        }
        if let Some(run) = self.runs.iter().find(|run| run.from == from && run.ids == ids) {
            return Some(run.bytes.clone());
        }
        let mut bytes = BytesMut::new();
        missed.clone().for_each(|entry| bytes.extend_from_slice(&entry.frame.plain()));
        // The newest may be a frame that moves no cursor.
        let id = missed.rev().map(|entry| entry.frame.id_block()).find(|id| !id.is_empty());
        if let Some(id) = id.filter(|_| ids) {
            bytes.extend_from_slice(&id);
        }
        let bytes = bytes.freeze();
        if self.runs.len() < RUNS {
            self.runs.push(Run { from, ids, bytes: bytes.clone() });
        }
        Some(bytes)
    }

    fn start(&self) -> u64 {
        self.end - self.entries.len() as u64
    }
}
