//! The store calls of one event: how many it makes, how it paces them, and which of its saves may still take
//! effect.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Key, ReactiveState,
    registry::{
        Error, Outcome,
        cluster::fairness::KeyQuota,
        event::pending::PendingCommit,
        instance::{Instance, table::InstanceTable},
    },
    store::Precondition,
    version::Version,
};

/// How many calls to the store an event makes at most, whatever fails and however fast (law 13), unless other nodes
/// change the key meanwhile.
const MAX_CALLS: u32 = 10;
/// How often the limit is raised by a round (a load and a save) because another node has changed the key meanwhile:
/// the store works, and the event only has to wait for its turn among the nodes.
const MAX_CONTENDED_ROUNDS: u32 = 15;
/// The pause after the first failed call. It doubles with each further one, and is up to half as long again or
/// half as short, at random.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The store calls of one event.
pub(in crate::registry) struct RetryBudget<S> {
    deadline: Instant,
    calls: u32,
    /// In a box: most events have none.
    trouble: Option<Box<Trouble<S>>>,
}

/// What went wrong so far.
struct Trouble<S> {
    /// Saves of unknown outcome that may still take effect. They all expect the same version.
    pending: Vec<PendingCommit<S>>,
    failures: u32,
    failed_saves: u32,
    /// Why the last call failed.
    error: Option<Error>,
    conflicts: u32,
    /// How often the event waited for the end of another node's run.
    waits: u32,
    /// How many loads found that another node had changed the key since the load or save before.
    contended_rounds: u32,
    /// The newest version that this node knew, and when that was.
    seen: Option<(Version, Instant)>,
}

impl<S> RetryBudget<S> {
    pub(in crate::registry) const fn new(deadline: Instant) -> Self {
        Self { deadline, calls: 0, trouble: None }
    }

    pub(in crate::registry) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the store may be loaded. That may take a second call: a store that went back in time starts a new
    /// epoch.
    pub(in crate::registry) fn may_load(&self) -> bool {
        self.calls + 2 <= self.limit()
    }

    pub(in crate::registry) fn may_save(&self) -> bool {
        self.calls < self.limit()
    }

    fn limit(&self) -> u32 {
        let rounds = self.trouble.as_ref().map_or(0, |trouble| trouble.contended_rounds);
        MAX_CALLS + 2 * rounds.min(MAX_CONTENDED_ROUNDS)
    }

    /// Counts a load. It may have been two calls, if it failed or began a new epoch.
    pub(in crate::registry) const fn count_load(&mut self, may_be_two: bool) {
        self.calls += if may_be_two { 2 } else { 1 };
    }

    pub(in crate::registry) const fn count_save(&mut self) {
        self.calls += 1;
    }

    /// Whether a save of this event may still take effect.
    pub(in crate::registry) fn is_in_doubt(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.pending.is_empty())
    }

    /// A save has an unknown outcome.
    pub(in crate::registry) fn doubt(&mut self, unsaved: PendingCommit<S>) {
        self.trouble().pending.push(unsaved);
    }

    /// The store has this, and no receipt: a save that expects something else cannot take effect any more.
    pub(in crate::registry) fn settle(&mut self, found: Precondition) {
        if let Some(trouble) = &mut self.trouble {
            trouble.pending.retain(|unsaved| unsaved.expect == found);
        }
    }

    /// The receipt is there: the save of this event that led to `version`, if it was one. Of an event that only
    /// the engine knows, it was one of them whatever the version is.
    pub(in crate::registry) fn take_landed(
        &mut self,
        version: Version,
        is_internal: bool,
    ) -> Option<PendingCommit<S>> {
        let pending = std::mem::take(&mut self.trouble.as_mut()?.pending);
        let mut pending = pending.into_iter();
        pending.find(|unsaved| is_internal || unsaved.next.version == version)
    }

    /// How long to pause after a save that failed.
    pub(in crate::registry) fn save_failed(&mut self, error: Error) -> Duration {
        self.trouble().failed_saves += 1;
        self.failed(error)
    }

    /// How long to pause after a call that failed.
    pub(in crate::registry) fn failed(&mut self, error: Error) -> Duration {
        let trouble = self.trouble();
        let pause = FIRST_PAUSE.saturating_mul(1 << trouble.failures.min(10));
        trouble.failures += 1;
        trouble.error = Some(error);
        self.in_time(pause.mul_f64(rand::random_range(0.5..1.5)))
    }

    /// As much of a pause as leaves time for another try.
    pub(in crate::registry) fn in_time(&self, pause: Duration) -> Duration {
        pause.min(self.deadline.saturating_duration_since(Instant::now()) / 2)
    }

    /// This node stood back at `version`: another one may be in its run by now.
    pub(in crate::registry) fn stood_back(&mut self, version: Version) {
        self.trouble().seen = Some((version, Instant::now()));
    }

    /// A save found another version than it expected. Returns how long to pause: not after the first conflict, as
    /// most events have only one.
    pub(in crate::registry) fn conflicted(&mut self) -> Duration {
        let trouble = self.trouble();
        trouble.conflicts += 1;
        if trouble.conflicts < 2 {
            return Duration::ZERO;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (trouble.conflicts - 2).min(10));
        self.in_time(pause.mul_f64(rand::random_range(0.5..1.5)))
    }

    /// The same where other nodes change the key: the pause ends with the run of the one that was faster.
    pub(in crate::registry) fn lost(&mut self, run: &mut KeyQuota, version: Version) -> Duration {
        let now = Instant::now();
        run.lost();
        self.conflicted();
        let trouble = self.trouble();
        trouble.seen.get_or_insert((version, now));
        if trouble.conflicts < 2 && trouble.waits == 0 {
            return Duration::ZERO;
        }
        run.contend(now);
        trouble.waits += 1;
        let wait = run.wait(version.seq, trouble.waits - 1);
        self.in_time(wait)
    }

    /// How long to wait before `version`, just loaded, is loaded again, because another node is in its run: a save
    /// would only be a conflict.
    pub(in crate::registry) fn steps_aside(
        &mut self,
        run: &mut KeyQuota,
        version: Version,
    ) -> Option<Duration> {
        let now = Instant::now();
        let trouble = self.trouble.as_mut()?;
        let (seen, at) = trouble.seen?;
        trouble.seen = Some((version, now));
        let changes = if seen.epoch == version.epoch { version.seq.saturating_sub(seen.seq) } else { 0 };
        if changes > 0 && trouble.failures == 0 {
            trouble.contended_rounds += 1;
        }
        let may_load = self.may_load();
        let trouble = self.trouble.as_mut()?;
        let is_first = trouble.conflicts == 1 && trouble.waits == 0 && !run.is_contended(now);
        if is_first || !may_load || run.is_end(version.seq) || !run.is_busy(changes, now - at) {
            return None;
        }
        run.contend(now);
        trouble.waits += 1;
        let wait = run.wait(version.seq, trouble.waits - 1);
        Some(self.in_time(wait))
    }

    /// Why the event is not tried any more: its time or its calls are used up.
    pub(in crate::registry) fn give_up(&mut self) -> Error {
        self.trouble.as_mut().and_then(|trouble| trouble.error.take()).unwrap_or(Error::TimedOut)
    }

    /// The outcome as the caller gets it: an error says that nothing changed only if no save can take effect any
    /// more. Failed saves are logged here, once for the event.
    pub(in crate::registry) fn conclude(
        self,
        key: &Key,
        outcome: Result<Outcome, Error>,
    ) -> Result<Outcome, Error> {
        let Some(trouble) = self.trouble else { return outcome };
        if trouble.failed_saves > 0 {
            let (saves, error) = (trouble.failed_saves, trouble.error.as_ref().or(outcome.as_ref().err()));
            let error = error.map(|error| error as &dyn std::error::Error);
            tracing::warn!(?key, saves, error, is_accepted = outcome.is_ok(), "saves of an event failed");
        }
        if trouble.pending.is_empty() { outcome } else { outcome.map_err(|_| Error::OutcomeUnknown) }
    }

    fn trouble(&mut self) -> &mut Trouble<S> {
        self.trouble.get_or_insert_with(|| {
            Box::new(Trouble {
                pending: Vec::new(),
                failures: 0,
                failed_saves: 0,
                error: None,
                conflicts: 0,
                waits: 0,
                contended_rounds: 0,
                seen: None,
            })
        })
    }
}

/// Another version was stored than expected. Returns how long to pause.
pub(in crate::registry) fn pause_after_conflict<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    tries: &mut RetryBudget<S>,
    expected: Version,
) -> Duration {
    match table.nodes() {
        Some(_) => tries.lost(&mut instance.run.lock(), expected),
        None => tries.conflicted(),
    }
}
