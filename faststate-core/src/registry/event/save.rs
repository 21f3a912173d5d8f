//! The loop that saves an event: load, apply, save, settle.
//!
//! Most events go through it once. It runs again after a conflict with another node, and after a failed save.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use crate::{
    ReactiveState, Rejection,
    metrics::Stopwatch,
    registry::{
        Applied, Error, Outcome,
        deadline::{pause, within},
        event::{
            after::{Committed, start_aftermath},
            apply::{AppliedCopy, apply_to_copy},
            commit::{PendingCommit, commit, prepare_commit, publish_change, reply_view, send_ephemeral},
            retry::{RetryBudget, pause_after_conflict, wait_for_save_trial, yield_to_nodes},
        },
        instance::{Instance, queue::QueuedEvent, revision::Revision, table::InstanceTable},
        load::{
            adopt::send_elements,
            reload::{Absence, note_kept, note_saved, reload, reload_as},
        },
        messages::{
            announce::announce,
            answer::{decode_answer, encode_answer},
        },
    },
    store::{Precondition, Record, SaveOutcome, StoreError},
};

/// Applies and saves an event in its turn.
///
/// # Errors
/// [`Error::OutcomeUnknown`] if a save may still take effect. After any other error, nothing has changed.
pub(in crate::registry) async fn save_event<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    event: &QueuedEvent<S>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let mut budget = RetryBudget::new(deadline);
    yield_to_nodes(table, instance, &mut budget).await;
    let mut save_loop = SaveLoop { table, instance, event, budget, is_verified: false };
    let outcome = loop {
        match save_loop.attempt().await {
            Ok(outcome) => break Ok(outcome),
            Err(Interruption::Retry) => {}
            Err(Interruption::Done(outcome)) => break Ok(*outcome),
            Err(Interruption::Failed(error)) => break Err(error),
        }
    };
    save_loop.budget.conclude(&instance.key, outcome)
}

/// An event in its turn, and the state of its attempts.
struct SaveLoop<'a, S: ReactiveState> {
    table: &'a Arc<InstanceTable<S>>,
    instance: &'a Arc<Instance<S>>,
    event: &'a QueuedEvent<S>,
    budget: RetryBudget<S>,
    /// Whether the store has confirmed the current version during this turn.
    is_verified: bool,
}

/// The reason why an attempt ended before its change was committed.
enum Interruption {
    /// Another attempt is necessary.
    Retry,
    /// The event has an outcome without a save. Boxed because it is rare and larger than the other variants.
    Done(Box<Outcome>),
    /// The event has failed.
    Failed(Error),
}

impl<S: ReactiveState> SaveLoop<'_, S> {
    /// Goes through the four steps once.
    async fn attempt(&mut self) -> Result<Outcome, Interruption> {
        let begun = Instant::now();
        if begun >= self.budget.deadline() {
            return Err(self.budget.give_up().into());
        }
        let current = self.load(begun).await?;
        let pending = self.apply(&current).await?;
        if !self.budget.may_save() {
            return Err(self.budget.give_up().into());
        }
        let saved = self.save(&pending.record, pending.expect).await;
        self.settle(begun, current, pending, saved).await
    }

    /// Returns the current state, from the store if the state in memory may be outdated.
    async fn load(&mut self, begun: Instant) -> Result<Arc<Revision<S>>, Interruption> {
        let instance = self.instance;
        if let Some(current) = instance.usable(begun) {
            return Ok(current);
        }
        let current = self.load_with_receipt().await?;
        let nodes = self.table.nodes();
        if let Some(wait) =
            nodes.and_then(|_| self.budget.wait_during_other_run(&mut instance.quota.lock(), current.version))
        {
            instance.freshness.lock().suspect = true;
            pause(wait).await;
            return Err(Interruption::Retry);
        }
        self.is_verified = true;
        Ok(current)
    }

    /// Applies the event to a copy, and prepares its save. Ends the event if there is nothing to save.
    async fn apply(&mut self, current: &Arc<Revision<S>>) -> Result<Box<PendingCommit<S>>, Interruption> {
        let (table, instance, event) = (self.table, self.instance, self.event);
        let applied = apply_to_copy(table, instance, current, event);
        if !matches!(&applied, Ok(AppliedCopy { next: Some(_), .. })) {
            self.confirm(current).await?;
        }
        if let Err(Error::Rejected(rejection)) = &applied
            && event.receipt.is_message()
        {
            Box::pin(self.refuse(rejection)).await?;
        }
        let AppliedCopy { next, answer, effects, aftermath } = applied?;
        let permits = table.shared.room_for(aftermath.pieces())?;
        let shown = next.as_ref().unwrap_or(current);
        let view = reply_view(instance, shown, event.wants_view)?;
        let outcome = Outcome { view, ..Outcome::quiet(answer, shown.version) };
        let Some(next) = next else {
            send_ephemeral(instance, &effects.followers);
            send_elements(table, instance, current, &effects.followers);
            let committed = Committed { outcome, effects, aftermath, permits };
            return Err(Interruption::Done(Box::new(start_aftermath(table, instance, event, committed))));
        };
        let is_change = next.version != current.version;
        let commit = is_change.then(|| prepare_commit(table, instance, current, &next, &effects.followers));
        let commit = commit.transpose()?;
        let record = next.record(table.config.ttl);
        let committed = Committed { outcome, effects, aftermath, permits };
        // Boxed, so that the future keeps one word of it during the save.
        Ok(Box::new(PendingCommit { expect: current.expect(), next, commit, record, committed }))
    }

    /// Saves the record and the event's receipt, if the store still has the version that was read.
    async fn save(&mut self, record: &Record, expect: Precondition) -> Result<SaveOutcome, StoreError> {
        let (table, instance, event) = (self.table, self.instance, self.event);
        let watch = Stopwatch::start();
        let asked = table.nodes().map(|_| Instant::now());
        let save = table.store.save(&instance.key, record, expect, Some(&event.receipt));
        let saved = within(self.budget.deadline(), save).await;
        table.store_meter.saves.observe(watch);
        if !saved.as_ref().is_err_and(StoreError::is_resting) {
            self.budget.count_save();
        }
        if let Some(asked) = asked.filter(|_| saved.is_ok()) {
            instance.quota.lock().measure_save(asked.elapsed());
        }
        saved
    }

    /// Commits a change that was saved. Otherwise, prepares the next attempt or ends the event.
    async fn settle(
        &mut self,
        begun: Instant,
        before: Arc<Revision<S>>,
        pending: Box<PendingCommit<S>>,
        saved: Result<SaveOutcome, StoreError>,
    ) -> Result<Outcome, Interruption> {
        let (table, instance) = (self.table, self.instance);
        match saved {
            Ok(SaveOutcome::Saved) => Ok(self.commit(begun, &before, *pending)),
            Ok(SaveOutcome::Conflict) => {
                tracing::debug!("another node was faster");
                table.shared.conflicts.fetch_add(1, Ordering::Relaxed);
                self.require_load();
                pause(pause_after_conflict(table, instance, &mut self.budget, before.version)).await;
                Err(Interruption::Retry)
            }
            Ok(SaveOutcome::Duplicate) => {
                self.require_load();
                // The event was applied, so an error of the load must not say that it was not.
                if !self.budget.may_load() {
                    return Err(Error::OutcomeUnknown.into());
                }
                let receipt = self.event.receipt.is_message().then_some(&self.event.receipt);
                match reload(table, instance, receipt, self.budget.deadline()).await {
                    Ok((current, answer)) => {
                        Ok(self.repeated(&current, &answer.unwrap_or_default(), begun)?)
                    }
                    Err(Error::Unknown) => Err(Error::Unknown.into()),
                    Err(_) => Err(Error::OutcomeUnknown.into()),
                }
            }
            Err(error) => {
                table.store_meter.failed_saves.add(1);
                if error.is_outcome_unknown() {
                    instance.freshness.lock().doubt(pending.expect);
                    self.budget.doubt(*pending);
                } else if !self.budget.is_in_doubt() && !error.may_pass_soon() {
                    return Err(Error::Unavailable(error).into());
                }
                self.require_load();
                let wait = self.budget.save_failed(Error::Unavailable(error));
                if !self.budget.may_load() {
                    return Err(self.budget.give_up().into());
                }
                pause(wait).await;
                wait_for_save_trial(table, self.budget.in_time(table.shared.deadline)).await;
                Err(Interruption::Retry)
            }
        }
    }

    /// Loads the record and looks for the event's receipt, if the budget permits it. Ends the event if it was already
    /// applied.
    async fn load_with_receipt(&mut self) -> Result<Arc<Revision<S>>, Interruption> {
        let (table, instance, event) = (self.table, self.instance, self.event);
        if !self.budget.may_load() {
            return Err(self.budget.give_up().into());
        }
        // The viewer of a browser has a session, so a viewer without one is the application.
        let is_application = event.viewer.session_id().is_none();
        let absence = if is_application { Absence::Created } else { Absence::Begins };
        let asked = Instant::now();
        let deadline = self.budget.deadline();
        let loaded = reload_as(table, instance, Some(&event.receipt), deadline, absence).await;
        if loaded.is_ok() && table.nodes().is_some() {
            instance.quota.lock().measure_load(asked.elapsed());
        }
        let began_epoch = |current: &Revision<S>| current.stored && current.version.seq == 0;
        self.budget.count_load(loaded.as_ref().map_or(true, |(current, _)| began_epoch(current)));
        let (current, answer) = match loaded {
            // A later load may find out whether the save took effect.
            Err(error) if self.budget.is_in_doubt() => {
                pause(self.budget.failed(error)).await;
                return Err(Interruption::Retry);
            }
            loaded => loaded?,
        };
        if let Some(answer) = answer {
            return Err(Interruption::Done(Box::new(self.repeated(&current, &answer, asked)?)));
        }
        self.budget.rule_out_saves(current.expect());
        Ok(current)
    }

    /// Confirms the current version before the event ends without a save: an event that is refused, or fails, may be
    /// the repeat of an event that was applied before.
    async fn confirm(&mut self, current: &Revision<S>) -> Result<(), Interruption> {
        let must_confirm = !self.event.receipt.is_internal() || self.table.nodes().is_some();
        if self.is_verified || !must_confirm {
            return Ok(());
        }
        // Boxed because it is rare: the future of every event would be larger.
        let confirmed = Box::pin(self.load_with_receipt()).await?;
        self.is_verified = true;
        if confirmed.version == current.version { Ok(()) } else { Err(Interruption::Retry) }
    }

    /// Saves the rejection of a message with its receipt, so that each delivery of the message has the same answer.
    async fn refuse(&mut self, rejection: &Rejection) -> Result<(), Interruption> {
        let (table, instance, event) = (self.table, self.instance, self.event);
        if !self.budget.may_save() {
            return Err(self.budget.give_up().into());
        }
        let answer = encode_answer(rejection);
        let refusal = table.store.refuse(&instance.key, &event.receipt, &answer);
        let refused = within(self.budget.deadline(), refusal).await;
        self.budget.count_save();
        match refused {
            Ok(true) => Ok(()),
            // Another delivery was faster.
            Ok(false) => {
                self.require_load();
                Err(Interruption::Retry)
            }
            Err(error) => Err(Error::Unavailable(error).into()),
        }
    }

    /// Makes the next attempt load the record.
    fn require_load(&mut self) {
        self.instance.freshness.lock().suspect = true;
        self.is_verified = false;
    }

    /// Commits a saved change, and notifies followers and other nodes.
    fn commit(&self, begun: Instant, before: &Arc<Revision<S>>, pending: PendingCommit<S>) -> Outcome {
        let (table, instance, event) = (self.table, self.instance, self.event);
        let PendingCommit { next, commit: change, committed, .. } = pending;
        tracing::debug!(version = %next.version, "saved");
        let Some(change) = change else {
            note_kept(table, instance, &next, begun);
            return start_aftermath(table, instance, event, committed);
        };
        if table.nodes().is_some() {
            instance.quota.lock().saved(Instant::now());
        }
        note_saved(table, instance, begun, next.lifetime(table.config.ttl));
        commit(table, instance, change);
        #[cfg(feature = "inspector")]
        let _ = event.step.set((Arc::clone(before), Arc::clone(&next)));
        send_elements(table, instance, &next, &committed.effects.followers);
        publish_change(table, instance, before.version, &next);
        if let Some(outbox) = &next.outbox {
            announce(&table.shared, &table.time, &instance.key, before.outbox.as_deref(), outbox, begun);
        }
        start_aftermath(table, instance, event, committed)
    }

    /// Returns the outcome of an event whose receipt is stored. If this turn's own save took effect unnoticed, the event
    /// has just been accepted. Otherwise it is a repeat, which returns the current view and has no further effect. A
    /// message that was refused has an answer, and is refused again. The receipt was found by a call that began at `asked`.
    fn repeated(&mut self, current: &Revision<S>, answer: &[u8], asked: Instant) -> Result<Outcome, Error> {
        let (table, instance, event) = (self.table, self.instance, self.event);
        if !answer.is_empty() {
            return Err(decode_answer(answer).into());
        }
        let landed = self.budget.take_landed(current.version, event.receipt.is_internal());
        if let Some(PendingCommit { next, committed, .. }) = landed {
            if let Some(outbox) = &next.outbox {
                // The outbox before the event is not known, so messages that another node delivers may be claimed, too.
                announce(&table.shared, &table.time, &instance.key, None, outbox, asked);
            }
            let elements = &committed.effects.followers;
            send_ephemeral(instance, elements);
            send_elements(table, instance, current, elements);
            return Ok(start_aftermath(table, instance, event, committed));
        }
        Ok(Outcome {
            view: reply_view(instance, current, event.wants_view)?,
            fields: event.fields,
            ..Outcome::quiet(Applied::Repeated, current.version)
        })
    }
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
