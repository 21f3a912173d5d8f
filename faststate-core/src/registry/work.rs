//! What happens in a turn: an event from load to commit, a deletion, or a look at the store.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::{Instrument as _, Span};

use super::{
    Answer, Error, Outcome, ReplyPieces,
    instance::{Current, Instance, encode},
    look::Absence,
    shared::guard,
    states::States,
    step::Step,
    turn::{Attempting, Work},
};
use crate::{
    Context, ReactiveState, Reply,
    broadcast::Change,
    event::{Aftermath, Effects},
    metrics::Stopwatch,
    patch::MORE,
    store::{Expect, Record, Resting, Saving, StoreError},
    version::Version,
};

/// How long a turn waits before it looks again after an outcome it does not know.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of one try on a copy.
struct Tried<S> {
    /// What is to be saved, if anything is.
    next: Option<Arc<Current<S>>>,
    answer: Answer,
    effects: Effects,
    aftermath: Aftermath<S>,
}

/// A change that is ready to be saved.
struct Unsaved<S> {
    next: Arc<Current<S>>,
    step: Step<S>,
    record: Record,
    accepted: Accepted<S>,
}

/// An event that is accepted once it is saved: its answer, and what it wants done then.
struct Accepted<S> {
    answer: Outcome,
    effects: Effects,
    aftermath: Aftermath<S>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl<S: ReactiveState> States<S> {
    pub(super) async fn work(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        work: Work<S>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let outcome = match work {
            Work::Attempt(mut attempting) => {
                let span = std::mem::replace(&mut attempting.span, Span::none());
                #[cfg(feature = "inspector")]
                let began = Instant::now();
                // A future that is instrumented is moved once more: not for nothing.
                let outcome = if span.is_disabled() {
                    self.attempt(instance, &attempting, deadline).await
                } else {
                    let attempt = self.attempt(instance, &attempting, deadline);
                    Box::pin(attempt.instrument(span.clone())).await
                };
                span.in_scope(|| match &outcome {
                    Ok(outcome) => tracing::debug!(answer = ?outcome.answer, "accepted"),
                    Err(error) => tracing::debug!(%error, "refused"),
                });
                #[cfg(feature = "inspector")]
                self.watch_event(instance, &attempting, began, &outcome);
                outcome
            }
            Work::Refresh(asked) => {
                self.check_readable(instance)?;
                let known = instance.upkeep.lock().verified.is_some_and(|at| at > asked);
                let current = match instance.usable(Instant::now()).filter(|_| known) {
                    Some(current) => Ok(current),
                    None => self.refresh(instance, None, deadline).await.map(|(current, _)| current),
                };
                current.map(|current| Outcome::quiet(Answer::Unchanged, current.version))
            }
            // In boxes: an event's future, of which there are more, is smaller for it.
            Work::Compare(seen) => Box::pin(self.compare(instance, seen, deadline)).await,
            Work::Found(found) => Box::pin(self.take_found(instance, *found, deadline)).await,
            Work::Arrived => Box::pin(self.adopt_arrived(instance, deadline)).await,
            Work::Delete => Box::pin(self.delete(instance, deadline)).await,
        };
        match &outcome {
            // Only saves rest: what this node loaded is as good as before.
            Err(Error::Unavailable(StoreError::Unavailable(error)))
                if error.is::<Resting>() && !self.is_resting() => {}
            Err(Error::Unavailable(StoreError::Unavailable(_)) | Error::OutcomeUnknown) => {
                self.unanswered(instance);
            }
            _ => {}
        }
        outcome
    }

    /// Receipt, authorize, apply on a copy, compare, save, commit; again from the receipt on after a
    /// conflict or an unknown outcome.
    async fn attempt(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        attempting: &Attempting<S>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let receipt = &attempting.receipt;
        // A browser's viewer has a session, so one without is the application.
        let is_application = attempting.viewer.session_id().is_none();
        let absence = if is_application { Absence::Created } else { Absence::Begins };
        // Whether the store has confirmed, within this turn, the version that is looked at.
        let mut verified = false;
        let mut conflicts = 0;
        // Whether a save of this turn has an unknown outcome, and what is to be done if it succeeded.
        let mut unknown = false;
        let mut doubtful = None;
        let mut began = None;
        self.stand_back(instance, deadline).await;
        loop {
            let now = Instant::now();
            let began = *began.get_or_insert(now);
            if now >= deadline {
                return Err(if unknown { Error::OutcomeUnknown } else { Error::TimedOut });
            }
            let current = match instance.usable(now) {
                Some(current) => current,
                None => match self.refresh_as(instance, Some(receipt), deadline, absence).await {
                    Ok((current, true)) => return self.applied(instance, &current, attempting, doubtful),
                    Ok((current, false)) => {
                        verified = true;
                        current
                    }
                    Err(_) if unknown && Instant::now() + PAUSE < deadline => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(_) if unknown => return Err(Error::OutcomeUnknown),
                    Err(error) => return Err(error),
                },
            };
            // A block and a box: while the store is waited for, the future keeps one word of all this.
            let unsaved = {
                let tried = self.try_on(instance, &current, attempting);
                // Refused or even a defect now, it may be the repeat of an event that was applied before.
                let saves_nothing = !matches!(&tried, Ok(Tried { next: Some(_), .. }));
                let must_confirm = !receipt.is_minted() || self.nodes().is_some();
                if saves_nothing && must_confirm && !verified {
                    let (confirmed, repeated) = self.refresh(instance, Some(receipt), deadline).await?;
                    if repeated {
                        return self.applied(instance, &confirmed, attempting, doubtful);
                    }
                    verified = true;
                    if confirmed.version != current.version {
                        continue;
                    }
                }
                let Tried { next, answer, effects, aftermath } = tried?;
                let permits = self.shared.room_for(aftermath.pieces())?;
                let shown = next.as_ref().unwrap_or(&current);
                let view = self.reply_view(instance, shown, attempting.wants_view)?;
                let answer = Outcome { view, ..Outcome::quiet(answer, shown.version) };
                let Some(next) = next else {
                    self.send_ephemeral(instance, &effects.followers);
                    self.send_elements(instance, &current, &effects.followers);
                    let accepted = Accepted { answer, effects, aftermath, permits };
                    return Ok(self.finish(instance, attempting, accepted));
                };
                let step = self.step(instance, &current, &next, &effects.followers)?;
                let record = next.record(self.config.ttl);
                let accepted = Accepted { answer, effects, aftermath, permits };
                Box::new(Unsaved { next, step, record, accepted })
            };
            let watch = Stopwatch::start();
            let asked = self.nodes().map(|_| Instant::now());
            let save = self.store.save(&instance.key, &unsaved.record, current.expect(), Some(receipt));
            let saved = within(deadline, save).await;
            self.store_meter.saves.observe(watch);
            match saved {
                Ok(Saving::Saved) => {
                    let Unsaved { next, step, accepted, .. } = *unsaved;
                    tracing::debug!(version = %next.version, "saved");
                    if let Some(asked) = asked {
                        instance.run.lock().saved(asked, Instant::now());
                    }
                    self.saved(instance, now, self.config.ttl);
                    self.commit(instance, step);
                    #[cfg(feature = "inspector")]
                    let _ = attempting.step.set((Arc::clone(&current), Arc::clone(&next)));
                    self.send_elements(instance, &next, &accepted.effects.followers);
                    self.publish(instance, current.version, &next);
                    return Ok(self.finish(instance, attempting, accepted));
                }
                Ok(Saving::Conflict) => {
                    tracing::debug!(conflicts, "another node was faster");
                    self.shared.conflicts.fetch_add(1, Ordering::Relaxed);
                    instance.upkeep.lock().suspect = true;
                    verified = false;
                    conflicts += 1;
                    let wait = instance.run.lock().lost(Instant::now(), began.elapsed(), conflicts);
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                Ok(Saving::Duplicate) => {
                    let (current, _) = self.refresh(instance, None, deadline).await?;
                    return self.applied(instance, &current, attempting, doubtful);
                }
                Err(StoreError::Unavailable(error)) if unknown || !error.is::<Resting>() => {
                    self.store_meter.failed_saves.add(1);
                    tracing::warn!(key = ?instance.key, %error, "a save has an unknown outcome");
                    instance.upkeep.lock().doubt(current.expect());
                    (verified, unknown) = (false, true);
                    doubtful = Some(unsaved);
                    // Saves may rest although loads are answered: without a pause, this would spin.
                    tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
                }
                Err(error) => {
                    self.store_meter.failed_saves.add(1);
                    return Err(Error::Unavailable(error));
                }
            }
        }
    }

    /// Lets other nodes have the key for a moment, if this one has had it for long enough.
    async fn stand_back(&self, instance: &Instance<S>, deadline: Instant) {
        if self.nodes().is_none() {
            return;
        }
        let now = Instant::now();
        let pause = instance.run.lock().stands_back(now);
        if let Some(pause) = pause.filter(|pause| now + *pause < deadline) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Authorize and apply, on a copy.
    fn try_on(
        &self,
        instance: &Instance<S>,
        current: &Current<S>,
        attempting: &Attempting<S>,
    ) -> Result<Tried<S>, Error> {
        if current.read_only {
            return Err(Error::Busy("a newer version of the application wrote this state"));
        }
        let Attempting { attempt, viewer, id, receipt, now, .. } = attempting;
        let environment = Arc::clone(&self.shared.environment);
        let mut context = Context::new(instance.key.clone(), viewer.clone(), id.clone(), *now, environment);
        let state = guard("an event panicked", || {
            attempt.authorize(&current.state, viewer)?;
            let mut copy = (*current.state).clone();
            attempt.apply(&mut copy, &mut context).map(|()| copy)
        })??;
        let encoded = encode(&state, current.encoded.data.len() + MORE)?;
        let Context { effects, aftermath, .. } = context;
        effects.check()?;
        let answer = if encoded.data == current.encoded.data { Answer::Unchanged } else { Answer::Changed };
        // What others notice is done once per event (law 3), so its receipt is saved whatever changed.
        let is_noticed = aftermath.pieces() > 0 || !effects.followers.is_empty();
        let is_saved = answer == Answer::Changed || (is_noticed && !receipt.is_minted());
        let next = is_saved.then(|| Arc::new(current.next(state, encoded)));
        Ok(Tried { next, answer, effects, aftermath })
    }

    /// The answer to an event whose receipt is there. If it was this turn's own save that nobody knew
    /// of, it has only just been accepted; else it is a repeat: the present view, and nothing done again.
    fn applied(
        &self,
        instance: &Instance<S>,
        current: &Arc<Current<S>>,
        attempting: &Attempting<S>,
        doubtful: Option<Box<Unsaved<S>>>,
    ) -> Result<Outcome, Error> {
        if let Some(saved) = doubtful.filter(|unsaved| unsaved.next.version == current.version) {
            let elements = &saved.accepted.effects.followers;
            self.send_ephemeral(instance, elements);
            self.send_elements(instance, current, elements);
            return Ok(self.finish(instance, attempting, saved.accepted));
        }
        Ok(Outcome {
            view: self.reply_view(instance, current, attempting.wants_view)?,
            fields: attempting.fields,
            ..Outcome::quiet(Answer::Repeated, current.version)
        })
    }

    /// Starts the work that an accepted event left behind, and completes its answer.
    fn finish(&self, instance: &Instance<S>, attempting: &Attempting<S>, accepted: Accepted<S>) -> Outcome {
        let Accepted { answer, effects, aftermath, permits } = accepted;
        self.shared.events.fetch_add(1, Ordering::Relaxed);
        let mut outcome = Outcome { elements: effects.caller, fields: attempting.fields, ..answer };
        if permits.is_empty() {
            return outcome;
        }
        let Some(handle) = self.shared.handle(&instance.key) else { return outcome };
        let mut permits = permits.into_iter();
        if let Some(streaming) = aftermath.streaming
            && let Some(permit) = permits.next()
        {
            let (reply, pieces) = Reply::channel();
            outcome.stream = Some(ReplyPieces(pieces));
            let handle = handle.clone();
            self.shared.background(permit, move || streaming(handle, reply));
        }
        for (work, permit) in aftermath.background.into_iter().zip(permits) {
            let handle = handle.clone();
            self.shared.background(permit, move || work(handle));
        }
        outcome
    }

    /// Deletes the record; followers see the first state again, under a new epoch.
    async fn delete(&self, instance: &Arc<Instance<S>>, deadline: Instant) -> Result<Outcome, Error> {
        let mut conflicts = 0;
        loop {
            let (before, stored) = match self.refresh(instance, None, deadline).await {
                Ok((current, _)) => {
                    let stored = current.stored.then_some(current.version);
                    (Some(current), stored)
                }
                // What cannot be read can go all the same, if the store tells its version.
                Err(Error::Unavailable(StoreError::Corrupt { .. })) => {
                    let record = within(deadline, self.store.load(&instance.key, None)).await?.record;
                    (instance.current.read().clone(), record.map(|record| record.version))
                }
                Err(error) => return Err(error),
            };
            let asked = Instant::now();
            let deletion = async {
                match stored {
                    Some(version) => self.store.delete(&instance.key, version).await,
                    None => Ok(true),
                }
            };
            match within(deadline, deletion).await {
                Ok(true) => {}
                Ok(false) if Instant::now() < deadline => {
                    conflicts += 1;
                    back_off(conflicts).await;
                    continue;
                }
                Ok(false) => return Err(Error::TimedOut),
                Err(error) => {
                    instance.upkeep.lock().doubt_deletion(stored.map_or(Expect::Absent, Expect::Version));
                    return Err(Error::Unavailable(error));
                }
            }
            // The record is gone, whatever comes of the rest.
            instance.upkeep.lock().deleted();
            let first = self.begin_absent(instance, before.as_deref(), Absence::Deleted, deadline);
            let first = match first.await {
                Err(Error::Unknown) => {
                    let Some(before) = before else { return Err(Error::Unknown) };
                    let version = self.vanish(instance, &before)?;
                    return Ok(Outcome::quiet(Answer::Changed, version));
                }
                first => first?,
            };
            let next = Arc::new(Current::start(first)?);
            match &before {
                Some(before) => self.take_over(instance, before, &next),
                None => *instance.current.write() = Some(Arc::clone(&next)),
            }
            self.saved(instance, asked, None);
            self.publish(instance, before.map_or(next.version, |before| before.version), &next);
            return Ok(Outcome::quiet(Answer::Changed, next.version));
        }
    }

    pub(super) fn publish(&self, instance: &Instance<S>, from: Version, next: &Current<S>) {
        if self.config.each_node {
            return;
        }
        self.shared.publish(|| Change {
            key: instance.key.clone(),
            from,
            to: next.version,
            schema: S::SCHEMA,
            data: next.stored.then(|| next.encoded.data.clone()),
        });
    }
}

impl Outcome {
    pub(super) const fn quiet(answer: Answer, version: Version) -> Self {
        Self { answer, version, view: None, elements: Vec::new(), stream: None, fields: &[] }
    }
}

/// Lets others have their way before the next try: not after one conflict, at most 20 ms after many.
async fn back_off(conflicts: u32) {
    if conflicts > 1 {
        let longest = 20_000.min(50 << conflicts.min(10));
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..longest))).await;
    }
}

/// One call of the store, within the deadline.
pub(super) async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(StoreError::Unavailable(elapsed.into())),
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}
