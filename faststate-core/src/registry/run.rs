//! Taking turns with other nodes on a hot key.
//!
//! The store judges each save, and a node that has just saved knows the newest version, so it wins the
//! next save too, for as long as events wait in its queue: the others would lose until their events are
//! too old. So a node takes a run of events on a key and then stands back for a moment, in which whoever
//! has been losing gets in, and starts a run of its own. A node that stood back and was not missed makes
//! its runs longer: a key that only one node changes pays little for this.

use std::time::Duration;

use tokio::time::Instant;

/// How many events a run has on a key that several nodes change.
const SHORTEST: u32 = 32;
/// How many events a run has at most.
const LONGEST: u32 = 1024;
/// How long such a run goes on at most, so that the others' events do not grow too old.
const SOON: Duration = Duration::from_millis(250);
/// How long a run goes on at most.
const LATE: Duration = Duration::from_secs(1);
/// How many times as long as a save a node stands back. Who has lost looks again within half of that.
const STANDS_BACK: u32 = 16;
/// How many times as long as a save a node waits at most that has lost: half as long whenever
/// [`IMPATIENT`] has passed, so that who has waited longest gets in first.
const WAITS: u32 = 8;
const IMPATIENT: Duration = Duration::from_millis(150);
/// The longest that a save is taken to last.
const SLOWEST: Duration = Duration::from_millis(4);

/// A node's run of events on one key.
#[derive(Debug)]
pub(super) struct Run {
    began: Instant,
    last: Instant,
    events: u32,
    longest: u32,
    lasts: Duration,
    /// How long a save takes, on average.
    save: Duration,
    stood_back: bool,
}

impl Run {
    pub(super) fn new(now: Instant) -> Self {
        let save = Duration::from_micros(500);
        Self { began: now, last: now, events: 0, longest: SHORTEST, lasts: SOON, save, stood_back: false }
    }

    /// How long to stand back before the next event, if the run is over.
    pub(super) fn stands_back(&mut self, now: Instant) -> Option<Duration> {
        let pause = self.save * STANDS_BACK;
        if now.duration_since(self.last) > pause {
            // Whoever waited had time enough.
            (self.began, self.events) = (now, 0);
        }
        if self.events < self.longest && now.duration_since(self.began) < self.lasts {
            return None;
        }
        (self.began, self.events, self.stood_back) = (now + pause, 0, true);
        Some(pause)
    }

    /// An event was saved.
    pub(super) fn saved(&mut self, asked: Instant, now: Instant) {
        if std::mem::take(&mut self.stood_back) {
            (self.longest, self.lasts) = ((self.longest * 2).min(LONGEST), (self.lasts * 2).min(LATE));
        }
        self.save = (self.save * 7 + now.duration_since(asked).min(SLOWEST)) / 8;
        self.last = now;
        self.events += 1;
    }

    /// Another node was faster: how long to wait before the next try, where the first was so long ago and so
    /// many have failed.
    pub(super) fn lost(&mut self, now: Instant, waited: Duration, conflicts: u32) -> Duration {
        (self.began, self.events, self.stood_back) = (now, 0, false);
        (self.longest, self.lasts) = (SHORTEST, SOON);
        if conflicts <= 1 {
            return Duration::ZERO;
        }
        let halvings = waited.as_millis() / IMPATIENT.as_millis();
        let waits = WAITS >> u32::try_from(halvings).unwrap_or(u32::MAX).min(WAITS.ilog2());
        (self.save * waits).mul_f64(rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: Duration = Duration::from_micros(500);

    /// The lengths of the runs of so many events in a row, where nobody else changes the key.
    fn runs(run: &mut Run, now: &mut Instant, events: u32) -> Vec<u32> {
        let mut runs = vec![0];
        for _ in 0..events {
            if let Some(pause) = run.stands_back(*now) {
                *now += pause;
                runs.push(0);
            }
            run.saved(*now, *now + SAVE);
            *now += SAVE;
            *runs.last_mut().unwrap() += 1;
        }
        runs
    }

    #[test]
    fn a_run_ends_and_grows_where_nobody_else_wants_the_key() {
        let mut now = Instant::now();
        let mut run = Run::new(now);
        let lengths = runs(&mut run, &mut now, 10_000);
        assert_eq!(lengths[..4], [32, 64, 128, 256]);
        let (last, full) = lengths[5..].split_last().unwrap();
        assert!(full.iter().all(|length| *length == LONGEST) && *last <= LONGEST, "{lengths:?}");
        run.lost(now, Duration::ZERO, 1);
        assert_eq!(runs(&mut run, &mut now, 100)[..2], [32, 64]);
    }

    #[test]
    fn who_is_not_in_a_hurry_never_stands_back() {
        let mut now = Instant::now();
        let mut run = Run::new(now);
        for _ in 0..1000 {
            now += SAVE * 20;
            assert_eq!(run.stands_back(now), None);
            run.saved(now, now + SAVE);
        }
    }

    #[test]
    fn who_has_lost_looks_twice_while_another_stands_back() {
        let mut run = Run::new(Instant::now());
        assert_eq!(run.lost(Instant::now(), Duration::ZERO, 1), Duration::ZERO);
        let mut longest =
            |waited| (0..1000).map(|_| run.lost(Instant::now(), waited, 2)).max().unwrap_or_default();
        let (first, late) = (longest(Duration::ZERO), longest(Duration::from_secs(1)));
        assert!(first <= SAVE * STANDS_BACK / 2 && late <= SAVE, "{first:?} {late:?}");
    }
}
