//! How nodes take turns on a hot key, which several of them change as fast as they can.
//!
//! A node that has just saved knows the newest version, so it wins the next save too, for as long as events
//! wait in its queue. The events of the other nodes would grow too old. Therefore a node takes a run of
//! events and then stands back for a moment, in which another node gets in and starts a run of its own. A
//! node that stood back although no other node wanted the key makes its runs longer.
//!
//! Runs end at versions whose `seq` is a multiple of their length, so a node that waits knows from any version
//! when the run ends that led to it. It loads at about that moment, instead of again and again: an event has
//! only a few calls to the store (law 13).

use std::time::Duration;

use tokio::time::Instant;

/// How many events a run has on a key that several nodes change; a power of two, as all lengths are.
const SHORTEST: u32 = 32;
/// How many events a run has at most.
const LONGEST: u32 = 1024;
/// How long such a run lasts at most, so that the events of the other nodes do not grow too old.
const SOON: Duration = Duration::from_millis(250);
/// How long a run lasts at most.
const LATE: Duration = Duration::from_millis(1250);
/// How many times as long as a save a node stands back.
const STANDS_BACK: u32 = 16;
/// What a save is taken to last at least: the runtime's timers are not finer than a millisecond.
const FASTEST: Duration = Duration::from_micros(250);
/// What a save is taken to last at most, where a node stands back.
const SLOWEST: Duration = Duration::from_millis(4);
/// Another node changes the key as fast as it can if its events take at most this many times as long as a save.
const BUSY: u32 = 4;
/// How many calls a new average is made of; each further save changes it by an eighth.
const MEASURED: u32 = 7;
/// How long a key counts as contended after another node was seen at work on it.
const CONTENDED: Duration = Duration::from_secs(3);

/// A node's runs of events on one key.
#[derive(Debug)]
pub(in crate::registry) struct KeyQuota {
    /// When this node last saved.
    last: Instant,
    /// How many events it has saved in this run.
    events: u32,
    longest: u32,
    /// How long a save takes, on average.
    save: Duration,
    /// How many calls the average is of, up to [`MEASURED`].
    measured: u32,
    stood_back: bool,
    /// When another node was last seen at work.
    contended: Option<Instant>,
}

impl KeyQuota {
    pub(in crate::registry) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            events: 0,
            longest: SHORTEST,
            save: Duration::ZERO,
            measured: 0,
            stood_back: false,
            contended: None,
        }
    }

    /// How long to stand back before the event that follows version `seq`, if the run ends there.
    pub(in crate::registry) fn stands_back(&mut self, now: Instant, seq: u64) -> Option<Duration> {
        let pause = self.pause();
        if now.duration_since(self.last) > pause {
            // The other nodes had time enough.
            self.events = 0;
        }
        let lasts = if self.longest == SHORTEST { SOON } else { LATE };
        if self.events == 0 || !seq.is_multiple_of(self.length(self.longest, lasts)) {
            return None;
        }
        (self.events, self.stood_back) = (0, true);
        Some(pause)
    }

    /// The store answered a load after so long: better than nothing, until enough saves were measured.
    pub(in crate::registry) fn measure_load(&mut self, took: Duration) {
        if self.measured < MEASURED {
            self.measure_save(took);
        }
    }

    /// The store judged a save after so long.
    pub(in crate::registry) fn measure_save(&mut self, took: Duration) {
        self.save = (self.save * self.measured + took) / (self.measured + 1);
        self.measured = (self.measured + 1).min(MEASURED);
    }

    /// An event was saved.
    pub(in crate::registry) fn saved(&mut self, now: Instant) {
        if std::mem::take(&mut self.stood_back) {
            self.longest = (self.longest * 2).min(LONGEST);
        }
        self.last = now;
        self.events += 1;
    }

    /// Another node was faster.
    pub(in crate::registry) const fn lost(&mut self) {
        (self.events, self.stood_back, self.longest) = (0, false, SHORTEST);
    }

    /// Another node is at work on the key.
    pub(in crate::registry) const fn contend(&mut self, now: Instant) {
        self.lost();
        self.contended = Some(now);
    }

    pub(in crate::registry) fn is_contended(&self, now: Instant) -> bool {
        self.contended.is_some_and(|at| now.duration_since(at) < CONTENDED)
    }

    /// Whether so many changes within this time are those of a node in its run.
    pub(in crate::registry) fn is_busy(&self, changes: u64, within: Duration) -> bool {
        let changes = u32::try_from(changes).unwrap_or(u32::MAX);
        changes > 0 && within < self.save().saturating_mul(BUSY).saturating_mul(changes)
    }

    /// Whether another node's run may have ended at version `seq`.
    pub(in crate::registry) fn is_end(&self, seq: u64) -> bool {
        seq.is_multiple_of(self.length(SHORTEST, SOON))
    }

    /// How long to wait at version `seq` until the run ends that led to it, after so many waits before: the more,
    /// the sooner, so that the event that has waited longest gets in first. It is better too early than too
    /// late: another load costs less than another run.
    pub(in crate::registry) fn wait(&self, seq: u64, waits: u32) -> Duration {
        let length = self.length(SHORTEST, SOON);
        let left = u32::try_from(length - seq % length).unwrap_or(SHORTEST);
        let hurry = f64::from(waits.min(3)).mul_add(-0.04, 1.0);
        let spread = self.pause().mul_f64(rand::random_range(0.1..0.8)) / (1 << waits.min(6));
        (self.save() * left).mul_f64(hurry) + spread
    }

    /// How many events a run has that has at most `longest` and lasts at most so long.
    fn length(&self, longest: u32, lasts: Duration) -> u64 {
        let fit = lasts.as_nanos() / self.save().as_nanos();
        let fit = u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, longest);
        1 << fit.ilog2()
    }

    fn pause(&self) -> Duration {
        self.save().min(SLOWEST) * STANDS_BACK
    }

    fn save(&self) -> Duration {
        self.save.max(FASTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: Duration = Duration::from_micros(500);

    /// The lengths of the runs of so many events in a row that follow version `seq`, where no other node changes
    /// the key.
    fn runs(run: &mut KeyQuota, now: &mut Instant, seq: &mut u64, events: u32) -> Vec<u32> {
        let mut runs = vec![0];
        for _ in 0..events {
            if let Some(pause) = run.stands_back(*now, *seq) {
                *now += pause;
                runs.push(0);
            }
            *now += SAVE;
            *seq += 1;
            run.measure_save(SAVE);
            run.saved(*now);
            *runs.last_mut().unwrap() += 1;
        }
        runs
    }

    #[test]
    fn runs_grow_while_no_other_node_wants_the_key() {
        let (mut now, mut seq) = (Instant::now(), 0);
        let mut run = KeyQuota::new(now);
        let lengths = runs(&mut run, &mut now, &mut seq, 10_000);
        assert_eq!(lengths[..5], [32, 32, 64, 128, 256]);
        assert_eq!(lengths[6..9], [1024; 3], "{lengths:?}");
        run.contend(now);
        let lengths = runs(&mut run, &mut now, &mut seq, 100);
        assert!(lengths[0] <= 32 && lengths[1] == 32, "{lengths:?}");
    }

    #[test]
    fn a_node_that_is_not_in_a_hurry_never_stands_back() {
        let mut now = Instant::now();
        let mut run = KeyQuota::new(now);
        for seq in 0..1000 {
            now += SAVE * 20;
            assert_eq!(run.stands_back(now, seq), None);
            run.measure_save(SAVE);
            run.saved(now);
        }
    }

    #[test]
    fn runs_are_short_over_a_slow_store() {
        let mut run = KeyQuota::new(Instant::now());
        run.measure_save(Duration::from_millis(20));
        assert_eq!((run.length(SHORTEST, SOON), run.length(LONGEST, LATE)), (8, 32));
        run.measure_save(Duration::from_secs(100));
        run.measure_load(Duration::ZERO);
        assert_eq!(run.length(LONGEST, LATE), 1);
    }

    #[test]
    fn a_wait_ends_while_the_other_node_stands_back() {
        let mut run = KeyQuota::new(Instant::now());
        run.measure_save(SAVE);
        for (seq, left) in [(0, 32), (1, 31), (63, 1), (64, 32)] {
            for _ in 0..100 {
                let wait = run.wait(seq, 0);
                assert!(wait >= SAVE * left && wait < SAVE * (left + STANDS_BACK), "{seq}: {wait:?}");
                assert!(run.wait(seq, 9) < SAVE * left + SAVE, "{seq}: the longer it waits, the sooner");
            }
        }
    }

    #[test]
    fn changes_are_a_run_if_they_follow_each_other_closely() {
        let mut run = KeyQuota::new(Instant::now());
        run.measure_save(SAVE);
        assert!(run.is_busy(10, SAVE * 20) && !run.is_busy(10, SAVE * 50) && !run.is_busy(0, SAVE));
        assert!(run.is_end(64) && !run.is_end(65));
    }
}
