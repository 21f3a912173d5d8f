//! The limits of an event's store calls: how many it makes, how it paces them, and which of its saves may still take
//! effect.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Key, ReactiveState,
    registry::{
        Error, Outcome,
        cluster::fairness::KeyQuota,
        event::commit::PendingCommit,
        instance::{Instance, table::InstanceTable},
    },
    store::Precondition,
    version::Version,
};

/// The most store calls of one event, whatever fails and however fast (law 13), unless other nodes change the key in the
/// meantime.
const MAX_CALLS: u32 = 10;
/// How often the limit is raised by one round (a load and a save) because another node has changed the key in the
/// meantime. The store works then, and the event only waits for its turn among the nodes.
const MAX_CONTENDED_ROUNDS: u32 = 15;
/// The pause after the first failed call. It doubles with each further failure, and is changed by a random factor from
/// 0.5 to 1.5.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The store calls of one event.
pub(super) struct RetryBudget<S> {
    deadline: Instant,
    calls: u32,
    /// Boxed because most events have none.
    trouble: Option<Box<Trouble<S>>>,
}

/// The failures and conflicts of one event.
struct Trouble<S> {
    /// Saves of unknown outcome that may still take effect. They all expect the same version.
    pending: Vec<PendingCommit<S>>,
    failures: u32,
    failed_saves: u32,
    /// The error of the last failed call.
    error: Option<Error>,
    conflicts: u32,
    /// How often the event waited for the end of another node's run.
    waits: u32,
    /// The number of loads that found a change by another node since the load or save before.
    contended_rounds: u32,
    /// The newest version that this node knew, and the time at which it was loaded.
    seen: Option<(Version, Instant)>,
}

impl<S> RetryBudget<S> {
    pub(super) const fn new(deadline: Instant) -> Self {
        Self { deadline, calls: 0, trouble: None }
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the event may load the record. A load may take two calls, because a store that went back in time starts a
    /// new epoch.
    pub(super) fn may_load(&self) -> bool {
        self.calls + 2 <= self.limit()
    }

    pub(super) fn may_save(&self) -> bool {
        self.calls < self.limit()
    }

    fn limit(&self) -> u32 {
        let rounds = self.trouble.as_ref().map_or(0, |trouble| trouble.contended_rounds);
        MAX_CALLS + 2 * rounds.min(MAX_CONTENDED_ROUNDS)
    }

    /// Counts a load, which may have taken two calls if it failed or began a new epoch.
    pub(super) const fn count_load(&mut self, may_be_two: bool) {
        self.calls += if may_be_two { 2 } else { 1 };
    }

    pub(super) const fn count_save(&mut self) {
        self.calls += 1;
    }

    /// Whether a save of this event may still take effect.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.pending.is_empty())
    }

    /// Remembers a save of unknown outcome.
    pub(super) fn doubt(&mut self, pending: PendingCommit<S>) {
        self.trouble().pending.push(pending);
    }

    /// Forgets the saves that can no longer take effect, because the store has `found` and not the event's receipt.
    pub(super) fn rule_out_saves(&mut self, found: Precondition) {
        if let Some(trouble) = &mut self.trouble {
            trouble.pending.retain(|pending| pending.expect == found);
        }
    }

    /// Takes the save of unknown outcome that took effect, once the event's receipt was found at `version`. The receipt
    /// of an internal event is known to this node alone, so it proves one of these saves at any version.
    pub(super) fn take_landed(&mut self, version: Version, is_internal: bool) -> Option<PendingCommit<S>> {
        let pending = std::mem::take(&mut self.trouble.as_mut()?.pending);
        pending.into_iter().find(|pending| is_internal || pending.next.version == version)
    }

    /// Counts a failed save. Returns how long to pause.
    pub(super) fn save_failed(&mut self, error: Error) -> Duration {
        self.trouble().failed_saves += 1;
        self.failed(error)
    }

    /// Counts a failed call. Returns how long to pause.
    pub(super) fn failed(&mut self, error: Error) -> Duration {
        let trouble = self.trouble();
        let pause = FIRST_PAUSE.saturating_mul(1 << trouble.failures.min(10));
        trouble.failures += 1;
        trouble.error = Some(error);
        self.in_time(pause.mul_f64(rand::random_range(0.5..1.5)))
    }

    /// Limits a pause to half of the remaining time, so that another attempt is possible.
    pub(super) fn in_time(&self, pause: Duration) -> Duration {
        pause.min(self.deadline.saturating_duration_since(Instant::now()) / 2)
    }

    /// Records that this node yielded at `version`, so that another node may be in its run by now.
    fn yielded(&mut self, version: Version) {
        self.trouble().seen = Some((version, Instant::now()));
    }

    /// Counts a save that found another version than it expected. Returns how long to pause: not at all after the first
    /// conflict, because most events have only one.
    fn conflicted(&mut self) -> Duration {
        let trouble = self.trouble();
        trouble.conflicts += 1;
        if trouble.conflicts < 2 {
            return Duration::ZERO;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (trouble.conflicts - 2).min(10));
        self.in_time(pause.mul_f64(rand::random_range(0.5..1.5)))
    }

    /// Like [`conflicted`](Self::conflicted) if other nodes may change the key. The pause ends with the run of the node
    /// that was faster.
    fn conflicted_with_node(&mut self, quota: &mut KeyQuota, version: Version) -> Duration {
        let now = Instant::now();
        quota.conflicted();
        self.conflicted();
        let trouble = self.trouble();
        trouble.seen.get_or_insert((version, now));
        if trouble.conflicts < 2 && trouble.waits == 0 {
            return Duration::ZERO;
        }
        quota.contend(now);
        trouble.waits += 1;
        let wait = quota.wait(version.seq, trouble.waits - 1);
        self.in_time(wait)
    }

    /// Returns how long to wait before `version`, which was just loaded, is loaded again, because another node is in its
    /// run and a save would only cause a conflict.
    pub(super) fn wait_during_other_run(
        &mut self,
        quota: &mut KeyQuota,
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
        let is_first = trouble.conflicts == 1 && trouble.waits == 0 && !quota.is_contended(now);
        if is_first || !may_load || quota.is_end(version.seq) || !quota.is_busy(changes, now - at) {
            return None;
        }
        quota.contend(now);
        trouble.waits += 1;
        let wait = quota.wait(version.seq, trouble.waits - 1);
        Some(self.in_time(wait))
    }

    /// Returns the error of an event whose time or calls are used up.
    pub(super) fn give_up(&mut self) -> Error {
        self.trouble.as_mut().and_then(|trouble| trouble.error.take()).unwrap_or(Error::TimedOut)
    }

    /// Returns the outcome for the caller. An error becomes [`Error::OutcomeUnknown`] if a save may still take effect.
    /// Logs the failed saves, once for the event.
    pub(super) fn conclude(self, key: &Key, outcome: Result<Outcome, Error>) -> Result<Outcome, Error> {
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

/// Counts a save or deletion that found another version than `expected`. Returns how long to pause.
pub(super) fn pause_after_conflict<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    budget: &mut RetryBudget<S>,
    expected: Version,
) -> Duration {
    match table.nodes() {
        Some(_) => budget.conflicted_with_node(&mut instance.quota.lock(), expected),
        None => budget.conflicted(),
    }
}

/// Waits for the next trial save of a store whose circuit breaker refuses saves, for at most `patience`.
pub(super) async fn wait_for_save_trial<S: ReactiveState>(table: &InstanceTable<S>, patience: Duration) {
    if let Some(guard) = table.guard.as_ref().filter(|guard| guard.is_save_resting()) {
        let _ = Box::pin(tokio::time::timeout(patience, guard.until_saves_are_tried())).await;
    }
}

/// Lets other nodes change the key for a moment, if this node has used up its quota.
pub(super) async fn yield_to_nodes<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    budget: &mut RetryBudget<S>,
) {
    if table.nodes().is_none() {
        return;
    }
    let Some(version) = instance.current.read().as_ref().map(|current| current.version) else { return };
    let now = Instant::now();
    let pause = instance.quota.lock().pause_at_run_end(now, version.seq);
    let Some(pause) = pause.filter(|pause| now + *pause < budget.deadline()) else { return };
    tokio::time::sleep(pause).await;
    if instance.quota.lock().is_contended(Instant::now()) {
        // A load costs less than the conflict that a save would probably cause.
        instance.freshness.lock().suspect = true;
        budget.yielded(version);
    }
}
