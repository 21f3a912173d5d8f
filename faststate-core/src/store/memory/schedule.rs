//! The due times and the unfinished messages of the records in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use tokio::time::Instant;

use crate::{
    Key,
    store::{DueKeys, PendingSummary, Record},
};

/// The records that are due at some time or have unfinished messages.
#[derive(Default)]
pub(super) struct Schedule {
    entries: BTreeMap<Key, Scheduled>,
    due: BTreeSet<(SystemTime, Key)>,
    oldest: BTreeSet<(SystemTime, Key)>,
}

/// The schedule of one record.
struct Scheduled {
    due: Option<SystemTime>,
    waiting: u32,
    parked: u32,
    oldest: Option<SystemTime>,
    expires: Option<Instant>,
}

impl Scheduled {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// Returns whether the schedule contains this record.
pub(super) fn is_scheduled(record: &Record) -> bool {
    record.due.is_some() || record.pending.oldest.is_some()
}

impl Schedule {
    /// Replaces the schedule of a record.
    pub(super) fn replace(&mut self, key: &Key, record: &Record, expires: Option<Instant>) {
        self.remove(key);
        if !is_scheduled(record) {
            return;
        }
        let pending = &record.pending;
        self.due.extend(record.due.map(|at| (at, key.clone())));
        self.oldest.extend(pending.oldest.map(|at| (at, key.clone())));
        let entry = Scheduled {
            due: record.due,
            waiting: pending.waiting,
            parked: pending.parked,
            oldest: pending.oldest,
            expires,
        };
        self.entries.insert(key.clone(), entry);
    }

    /// Changes the end of a record's lifetime.
    pub(super) fn touch(&mut self, key: &Key, expires: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.expires = Some(expires);
        }
    }

    /// Removes the schedule of a record.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(at) = entry.due {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(at) = entry.oldest {
            self.oldest.remove(&(at, key.clone()));
        }
    }

    /// Returns the keys that are due at `time`.
    pub(super) fn due(&self, time: SystemTime, now: Instant, limit: usize) -> DueKeys {
        let due = self.due.iter().take_while(|(at, _)| *at <= time).map(|(_, key)| key);
        DueKeys { now: time, keys: due.filter(|key| self.exists(key, now)).take(limit).cloned().collect() }
    }

    /// Counts the unfinished messages.
    pub(super) fn pending(&self, time: SystemTime, now: Instant, limit: usize) -> PendingSummary {
        let mut summary = PendingSummary::default();
        for (oldest, key) in &self.oldest {
            let Some(entry) = self.entries.get(key).filter(|entry| !entry.is_expired(now)) else { continue };
            summary.waiting += u64::from(entry.waiting);
            summary.parked += u64::from(entry.parked);
            summary.age = summary.age.or(Some(time.duration_since(*oldest).unwrap_or_default()));
            if summary.keys.len() < limit {
                summary.keys.push(key.clone());
            }
        }
        summary
    }

    fn exists(&self, key: &Key, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.is_expired(now))
    }
}
