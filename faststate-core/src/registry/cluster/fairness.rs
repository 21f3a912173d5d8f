//! Fairness between nodes on a hot key, which several of them change as fast as they can.
//!
//! A node that has just saved knows the newest version, so it also wins the next save while events are queued there, and
//! the events of the other nodes time out. A node therefore saves a run of events and then pauses, so that another node
//! can start a run of its own. If no other node used the pause, the node's runs become longer.
//!
//! A run ends at a version whose `seq` is a multiple of its length. A waiting node can therefore compute from any version
//! when the current run ends, and loads the record at about that moment instead of polling: an event may make only a few
//! store calls (law 13).

use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of events in a run on a contended key. All lengths are powers of two.
const CONTENDED_RUN_EVENTS: u32 = 32;
/// Maximum number of events in a run.
const MAX_RUN_EVENTS: u32 = 1024;
/// Maximum duration of a run on a contended key, so that the events of the other nodes do not time out.
const CONTENDED_RUN_DURATION: Duration = Duration::from_millis(250);
/// Maximum duration of a run.
const MAX_RUN_DURATION: Duration = Duration::from_millis(1250);
/// Duration of the pause after a run, in saves.
const PAUSE_SAVES: u32 = 16;
/// Minimum for the estimated duration of a save. The runtime's timers have a resolution of one millisecond.
const MIN_SAVE: Duration = Duration::from_micros(250);
/// Maximum duration of a save for the computation of the pause.
const MAX_PAUSED_SAVE: Duration = Duration::from_millis(4);
/// A node is in a run if each of its changes takes at most this many times the duration of a save.
const BUSY_SAVES: u32 = 4;
/// Number of calls in a new average. Each later save changes the average by one eighth.
const AVERAGED_CALLS: u32 = 7;
/// Time for which a key counts as contended after another node has changed it.
const CONTENDED_FOR: Duration = Duration::from_secs(3);

/// A node's runs of events on one key.
#[derive(Debug)]
pub(in crate::registry) struct KeyQuota {
    /// When this node last saved.
    last: Instant,
    /// The number of events that it has saved in this run.
    events: u32,
    /// The maximum number of events in the next run.
    longest: u32,
    /// The average duration of a save.
    save: Duration,
    /// The number of calls in the average, up to [`AVERAGED_CALLS`].
    measured: u32,
    /// Whether this node has paused since its last save.
    has_paused: bool,
    /// When another node last changed the key.
    contended: Option<Instant>,
}

impl KeyQuota {
    pub(in crate::registry) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            events: 0,
            longest: CONTENDED_RUN_EVENTS,
            save: Duration::ZERO,
            measured: 0,
            has_paused: false,
            contended: None,
        }
    }

    /// Returns the pause before the event that follows version `seq`, if the run ends there.
    pub(in crate::registry) fn pause_at_run_end(&mut self, now: Instant, seq: u64) -> Option<Duration> {
        let pause = self.pause();
        if now.duration_since(self.last) > pause {
            // The other nodes have had enough time.
            self.events = 0;
        }
        let lasts =
            if self.longest == CONTENDED_RUN_EVENTS { CONTENDED_RUN_DURATION } else { MAX_RUN_DURATION };
        if self.events == 0 || !seq.is_multiple_of(self.length(self.longest, lasts)) {
            return None;
        }
        (self.events, self.has_paused) = (0, true);
        Some(pause)
    }

    /// Records the duration of a load, which stands in for a save until enough saves have been measured.
    pub(in crate::registry) fn measure_load(&mut self, took: Duration) {
        if self.measured < AVERAGED_CALLS {
            self.measure_save(took);
        }
    }

    /// Records the duration of a save, successful or not.
    pub(in crate::registry) fn measure_save(&mut self, took: Duration) {
        self.save = (self.save * self.measured + took) / (self.measured + 1);
        self.measured = (self.measured + 1).min(AVERAGED_CALLS);
    }

    /// Records a saved event.
    pub(in crate::registry) fn saved(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_paused) {
            self.longest = (self.longest * 2).min(MAX_RUN_EVENTS);
        }
        self.last = now;
        self.events += 1;
    }

    /// Records that another node saved first.
    pub(in crate::registry) const fn conflicted(&mut self) {
        (self.events, self.has_paused, self.longest) = (0, false, CONTENDED_RUN_EVENTS);
    }

    /// Records that another node is changing the key.
    pub(in crate::registry) const fn contend(&mut self, now: Instant) {
        self.conflicted();
        self.contended = Some(now);
    }

    pub(in crate::registry) fn is_contended(&self, now: Instant) -> bool {
        self.contended.is_some_and(|at| now.duration_since(at) < CONTENDED_FOR)
    }

    /// Whether this number of changes within this time comes from a node in a run.
    pub(in crate::registry) fn is_busy(&self, changes: u64, within: Duration) -> bool {
        let changes = u32::try_from(changes).unwrap_or(u32::MAX);
        changes > 0 && within < self.save().saturating_mul(BUSY_SAVES).saturating_mul(changes)
    }

    /// Whether another node's run may have ended at version `seq`.
    pub(in crate::registry) fn is_end(&self, seq: u64) -> bool {
        seq.is_multiple_of(self.length(CONTENDED_RUN_EVENTS, CONTENDED_RUN_DURATION))
    }

    /// Returns the time until the run that led to version `seq` ends.
    ///
    /// `waits` is the number of earlier waits of the event. Each makes the next one shorter, so that the event that has
    /// waited longest is first. Too early is better than too late: another load costs less than another run.
    pub(in crate::registry) fn wait(&self, seq: u64, waits: u32) -> Duration {
        let length = self.length(CONTENDED_RUN_EVENTS, CONTENDED_RUN_DURATION);
        let left = u32::try_from(length - seq % length).unwrap_or(CONTENDED_RUN_EVENTS);
        let hurry = f64::from(waits.min(3)).mul_add(-0.04, 1.0);
        let spread = self.pause().mul_f64(rand::random_range(0.1..0.8)) / (1 << waits.min(6));
        (self.save() * left).mul_f64(hurry) + spread
    }

    /// Returns the length of a run of at most `longest` events and at most this duration.
    fn length(&self, longest: u32, lasts: Duration) -> u64 {
        let fit = lasts.as_nanos() / self.save().as_nanos();
        let fit = u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, longest);
        1 << fit.ilog2()
    }

    fn pause(&self) -> Duration {
        self.save().min(MAX_PAUSED_SAVE) * PAUSE_SAVES
    }

    fn save(&self) -> Duration {
        self.save.max(MIN_SAVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: Duration = Duration::from_micros(500);

    /// Returns the lengths of the runs of `events` consecutive events after version `seq`, if no other node changes the
    /// key.
    fn runs(quota: &mut KeyQuota, now: &mut Instant, seq: &mut u64, events: u32) -> Vec<u32> {
        let mut runs = vec![0];
        for _ in 0..events {
            if let Some(pause) = quota.pause_at_run_end(*now, *seq) {
                *now += pause;
                runs.push(0);
            }
            *now += SAVE;
            *seq += 1;
            quota.measure_save(SAVE);
            quota.saved(*now);
            *runs.last_mut().unwrap() += 1;
        }
        runs
    }

    #[test]
    fn runs_grow_while_no_other_node_wants_the_key() {
        let (mut now, mut seq) = (Instant::now(), 0);
        let mut quota = KeyQuota::new(now);
        let lengths = runs(&mut quota, &mut now, &mut seq, 10_000);
        assert_eq!(lengths[..5], [32, 32, 64, 128, 256]);
        assert_eq!(lengths[6..9], [1024; 3], "{lengths:?}");
        quota.contend(now);
        let lengths = runs(&mut quota, &mut now, &mut seq, 100);
        assert!(lengths[0] <= 32 && lengths[1] == 32, "{lengths:?}");
    }

    #[test]
    fn node_with_rare_events_never_pauses() {
        let mut now = Instant::now();
        let mut quota = KeyQuota::new(now);
        for seq in 0..1000 {
            now += SAVE * 20;
            assert_eq!(quota.pause_at_run_end(now, seq), None);
            quota.measure_save(SAVE);
            quota.saved(now);
        }
    }

    #[test]
    fn runs_are_short_over_a_slow_store() {
        let mut quota = KeyQuota::new(Instant::now());
        quota.measure_save(Duration::from_millis(20));
        assert_eq!(
            (
                quota.length(CONTENDED_RUN_EVENTS, CONTENDED_RUN_DURATION),
                quota.length(MAX_RUN_EVENTS, MAX_RUN_DURATION)
            ),
            (8, 32)
        );
        quota.measure_save(Duration::from_secs(100));
        quota.measure_load(Duration::ZERO);
        assert_eq!(quota.length(MAX_RUN_EVENTS, MAX_RUN_DURATION), 1);
    }

    #[test]
    fn wait_ends_while_the_other_node_pauses() {
        let mut quota = KeyQuota::new(Instant::now());
        quota.measure_save(SAVE);
        for (seq, left) in [(0, 32), (1, 31), (63, 1), (64, 32)] {
            for _ in 0..100 {
                let wait = quota.wait(seq, 0);
                assert!(wait >= SAVE * left && wait < SAVE * (left + PAUSE_SAVES), "{seq}: {wait:?}");
                assert!(quota.wait(seq, 9) < SAVE * left + SAVE, "{seq}: each wait is shorter");
            }
        }
    }

    #[test]
    fn changes_are_a_run_if_they_follow_each_other_closely() {
        let mut quota = KeyQuota::new(Instant::now());
        quota.measure_save(SAVE);
        assert!(quota.is_busy(10, SAVE * 20) && !quota.is_busy(10, SAVE * 50) && !quota.is_busy(0, SAVE));
        assert!(quota.is_end(64) && !quota.is_end(65));
    }
}
