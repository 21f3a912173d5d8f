//! What happens in a turn: an event from load to commit, or other work.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::{
    Context, ReactiveState, Reply,
    metrics::Stopwatch,
    patch::GROWTH_SLACK,
    registry::{
        Applied, Error, Outcome, ReplyStream,
        deadline::{pause, within},
        event::{
            commit::{commit, prepare_commit, publish_change, reply_view, send_ephemeral},
            delete::delete_record,
            pending::{AppliedCopy, Committed, PendingCommit},
            retry::{RetryBudget, pause_after_conflict},
        },
        instance::{
            Instance,
            queue::{Command, QueuedEvent},
            revision::{Current, encode},
            staleness::check_readable,
            table::InstanceTable,
        },
        load::{
            adopt::{adopt_arrived, send_elements},
            background::mark_stale,
            reload::{Absence, adopt_reloaded, note_kept, note_saved, reload, reload_as, renew_if_ahead},
        },
        panics::guard,
    },
    store::{CircuitOpen, SaveOutcome, StoreError},
    version::Version,
};

pub(in crate::registry) async fn execute<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    work: Command<S>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let outcome = match work {
        Command::Mutation(mut attempting) => {
            let span = std::mem::replace(&mut attempting.span, Span::none());
            #[cfg(feature = "inspector")]
            let began = Instant::now();
            // A future that is instrumented is moved once more: not for nothing.
            let outcome = if span.is_disabled() {
                process_event(table, instance, &attempting, deadline).await
            } else {
                let attempt = process_event(table, instance, &attempting, deadline);
                Box::pin(attempt.instrument(span.clone())).await
            };
            span.in_scope(|| match &outcome {
                Ok(outcome) => tracing::debug!(answer = ?outcome.answer, "accepted"),
                Err(error) => tracing::debug!(%error, "refused"),
            });
            #[cfg(feature = "inspector")]
            crate::registry::observe::report::watch_event(table, instance, &attempting, began, &outcome);
            outcome
        }
        Command::Refresh(asked) => {
            check_readable(table, instance)?;
            let known = instance.upkeep.lock().verified.is_some_and(|at| at > asked);
            let current = match instance.usable(Instant::now()).filter(|_| known) {
                Some(current) => Ok(current),
                None => reload(table, instance, None, deadline).await.map(|(current, _)| current),
            };
            current.map(|current| Outcome::quiet(Applied::Unchanged, current.version))
        }
        // In boxes: an event's future, of which there are more, is smaller for it.
        Command::Compare(seen) => Box::pin(renew_if_ahead(table, instance, seen, deadline)).await,
        Command::Found(found) => Box::pin(adopt_reloaded(table, instance, *found, deadline)).await,
        Command::Arrived => Box::pin(adopt_arrived(table, instance, deadline)).await,
        Command::Delete => Box::pin(delete_record(table, instance, deadline)).await,
    };
    match &outcome {
        // Only saves rest: what this node loaded is as good as before.
        Err(Error::Unavailable(StoreError::Unavailable(error)))
            if error.is::<CircuitOpen>() && !table.is_resting() => {}
        Err(Error::Unavailable(StoreError::Unavailable(_)) | Error::OutcomeUnknown) => {
            mark_stale(table, instance);
        }
        _ => {}
    }
    outcome
}

/// Receipt, authorize, apply on a copy, compare, save, commit; again from the receipt on after a
/// conflict or a failed save.
async fn process_event<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    attempting: &QueuedEvent<S>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let mut tries = RetryBudget::new(deadline);
    yield_to_nodes(table, instance, &mut tries, deadline).await;
    let outcome = save_loop(table, instance, attempting, &mut tries).await;
    tries.conclude(&instance.key, outcome)
}

/// RetryBudget an event until it has an outcome, or its time or its calls to the store are used up.
async fn save_loop<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    attempting: &QueuedEvent<S>,
    tries: &mut RetryBudget<S>,
) -> Result<Outcome, Error> {
    let receipt = &attempting.receipt;
    // Whether the store has confirmed, within this turn, the version that is looked at.
    let mut verified = false;
    loop {
        let now = Instant::now();
        if now >= tries.deadline() {
            return Err(tries.give_up());
        }
        let current = match instance.usable(now) {
            Some(current) => current,
            None if !tries.may_load() => return Err(tries.give_up()),
            None => match load_for_event(table, instance, attempting, tries).await {
                Ok((current, true)) => return repeated_outcome(table, instance, &current, attempting, tries),
                Ok((current, false)) => {
                    let wait = table
                        .nodes()
                        .and_then(|_| tries.steps_aside(&mut instance.run.lock(), current.version));
                    if let Some(wait) = wait {
                        instance.upkeep.lock().suspect = true;
                        pause(wait).await;
                        continue;
                    }
                    verified = true;
                    current
                }
                Err(error) if tries.is_in_doubt() => {
                    pause(tries.failed(error)).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        // A block and a box: while the store is waited for, the future keeps one word of all this.
        let unsaved = {
            let tried = apply_to_copy(table, instance, &current, attempting);
            // Refused or even a defect now, it may be the repeat of an event that was applied before.
            let saves_nothing = !matches!(&tried, Ok(AppliedCopy { next: Some(_), .. }));
            let must_confirm = !receipt.is_internal() || table.nodes().is_some();
            if saves_nothing && must_confirm && !verified {
                let (confirmed, repeated) =
                    Box::pin(load_for_event(table, instance, attempting, tries)).await?;
                if repeated {
                    return repeated_outcome(table, instance, &confirmed, attempting, tries);
                }
                verified = true;
                if confirmed.version != current.version {
                    continue;
                }
            }
            let AppliedCopy { next, answer, effects, aftermath } = tried?;
            let permits = table.shared.room_for(aftermath.pieces())?;
            let shown = next.as_ref().unwrap_or(&current);
            let view = reply_view(table, instance, shown, attempting.wants_view)?;
            let answer = Outcome { view, ..Outcome::quiet(answer, shown.version) };
            let Some(next) = next else {
                send_ephemeral(table, instance, &effects.followers);
                send_elements(table, instance, &current, &effects.followers);
                let accepted = Committed { answer, effects, aftermath, permits };
                return Ok(start_aftermath(table, instance, attempting, accepted));
            };
            let is_change = next.version != current.version;
            let step =
                is_change.then(|| prepare_commit(table, instance, &current, &next, &effects.followers));
            let step = step.transpose()?;
            let record = next.record(table.config.ttl);
            let accepted = Committed { answer, effects, aftermath, permits };
            Box::new(PendingCommit { expect: current.expect(), next, step, record, accepted })
        };
        if !tries.may_save() {
            return Err(tries.give_up());
        }
        let watch = Stopwatch::start();
        let asked = table.nodes().map(|_| Instant::now());
        let save = table.store.save(&instance.key, &unsaved.record, unsaved.expect, Some(receipt));
        let saved = within(tries.deadline(), save).await;
        table.store_meter.saves.observe(watch);
        if !saved.as_ref().is_err_and(StoreError::is_resting) {
            tries.count_save();
        }
        if let Some(asked) = asked.filter(|_| saved.is_ok()) {
            instance.run.lock().measure_save(asked.elapsed());
        }
        match saved {
            Ok(SaveOutcome::Saved) => {
                let PendingCommit { next, step, accepted, .. } = *unsaved;
                tracing::debug!(version = %next.version, "saved");
                let Some(step) = step else {
                    note_kept(table, instance, &next, now);
                    return Ok(start_aftermath(table, instance, attempting, accepted));
                };
                if asked.is_some() {
                    instance.run.lock().saved(Instant::now());
                }
                note_saved(table, instance, now, table.config.ttl);
                commit(table, instance, step);
                #[cfg(feature = "inspector")]
                let _ = attempting.step.set((Arc::clone(&current), Arc::clone(&next)));
                send_elements(table, instance, &next, &accepted.effects.followers);
                publish_change(table, instance, current.version, &next);
                return Ok(start_aftermath(table, instance, attempting, accepted));
            }
            Ok(SaveOutcome::Conflict) => {
                tracing::debug!("another node was faster");
                table.shared.conflicts.fetch_add(1, Ordering::Relaxed);
                instance.upkeep.lock().suspect = true;
                verified = false;
                pause(pause_after_conflict(table, instance, tries, current.version)).await;
            }
            Ok(SaveOutcome::Duplicate) => {
                instance.upkeep.lock().suspect = true;
                // The event was applied, whatever becomes of the load.
                if !tries.may_load() {
                    return Err(Error::OutcomeUnknown);
                }
                return match reload(table, instance, None, tries.deadline()).await {
                    Ok((current, _)) => repeated_outcome(table, instance, &current, attempting, tries),
                    Err(Error::Unknown) => Err(Error::Unknown),
                    Err(_) => Err(Error::OutcomeUnknown),
                };
            }
            Err(error) => {
                table.store_meter.failed_saves.add(1);
                if error.is_outcome_unknown() {
                    instance.upkeep.lock().doubt(unsaved.expect);
                    tries.doubt(*unsaved);
                } else if !tries.is_in_doubt() && !error.may_pass_soon() {
                    return Err(Error::Unavailable(error));
                }
                instance.upkeep.lock().suspect = true;
                verified = false;
                let wait = tries.save_failed(Error::Unavailable(error));
                if !tries.may_load() {
                    return Err(tries.give_up());
                }
                pause(wait).await;
                wait_for_save_trial(table, tries.in_time(table.shared.deadline)).await;
            }
        }
    }
}

/// A look at the store for an event: what is there now, and whether the event was applied before.
async fn load_for_event<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    attempting: &QueuedEvent<S>,
    tries: &mut RetryBudget<S>,
) -> Result<(Arc<Current<S>>, bool), Error> {
    // A browser's viewer has a session, so one without is the application.
    let is_application = attempting.viewer.session_id().is_none();
    let absence = if is_application { Absence::Created } else { Absence::Begins };
    let asked = Instant::now();
    let looked = reload_as(table, instance, Some(&attempting.receipt), tries.deadline(), absence).await;
    if looked.is_ok() && table.nodes().is_some() {
        instance.run.lock().measure_load(asked.elapsed());
    }
    let began_epoch = |current: &Current<S>| current.stored && current.version.seq == 0;
    tries.count_load(looked.as_ref().map_or(true, |(current, _)| began_epoch(current)));
    if let Ok((current, false)) = &looked {
        tries.settle(current.expect());
    }
    looked
}

/// Waits until a resting store may be tried with a save, at most for so long.
async fn wait_for_save_trial<S: ReactiveState>(table: &InstanceTable<S>, patience: Duration) {
    if let Some(guard) = table.guard.as_ref().filter(|guard| guard.is_save_resting()) {
        let _ = Box::pin(tokio::time::timeout(patience, guard.until_saves_are_tried())).await;
    }
}

/// Lets other nodes have the key for a moment, if this one has had it for long enough.
async fn yield_to_nodes<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    tries: &mut RetryBudget<S>,
    deadline: Instant,
) {
    if table.nodes().is_none() {
        return;
    }
    let Some(version) = instance.current.read().as_ref().map(|current| current.version) else { return };
    let now = Instant::now();
    let pause = instance.run.lock().stands_back(now, version.seq);
    let Some(pause) = pause.filter(|pause| now + *pause < deadline) else { return };
    tokio::time::sleep(pause).await;
    if instance.run.lock().is_contended(Instant::now()) {
        // A load costs less than the conflict that a save would probably be.
        instance.upkeep.lock().suspect = true;
        tries.stood_back(version);
    }
}

/// Authorize and apply, on a copy.
fn apply_to_copy<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    current: &Arc<Current<S>>,
    attempting: &QueuedEvent<S>,
) -> Result<AppliedCopy<S>, Error> {
    if current.is_read_only() {
        return Err(Error::Busy("a newer version of the application wrote this state"));
    }
    let QueuedEvent { attempt, viewer, id, receipt, now, .. } = attempting;
    let environment = Arc::clone(&table.shared.environment);
    let mut context = Context::new(instance.key.clone(), viewer.clone(), id.clone(), *now, environment);
    let state = guard("an event panicked", || {
        attempt.authorize(&current.state, viewer)?;
        let mut copy = (*current.state).clone();
        attempt.apply(&mut copy, &mut context).map(|()| copy)
    })??;
    let encoded = encode(&state, current.encoded.data.len() + GROWTH_SLACK)?;
    let Context { effects, aftermath, .. } = context;
    effects.check()?;
    let answer = if encoded.data == current.encoded.data { Applied::Unchanged } else { Applied::Changed };
    // What others notice is done once per event (law 3), so its receipt is saved whatever changed.
    let is_noticed = aftermath.pieces() > 0 || !effects.followers.is_empty();
    let next = match answer {
        Applied::Unchanged if receipt.is_internal() => None,
        // The receipt alone: the same version is saved again, so neither followers nor other nodes notice.
        Applied::Unchanged if !is_noticed && current.is_upgraded() => Some(Current::kept(current)),
        _ => Some(Arc::new(current.next(state, encoded))),
    };
    Ok(AppliedCopy { next, answer, effects, aftermath })
}

/// The outcome of an event whose receipt is stored. If this turn's own save took effect unnoticed, the event has just
/// been accepted. Otherwise it is a repeat, which returns the present view and has no further effect.
fn repeated_outcome<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    current: &Arc<Current<S>>,
    attempting: &QueuedEvent<S>,
    tries: &mut RetryBudget<S>,
) -> Result<Outcome, Error> {
    let is_internal = attempting.receipt.is_internal();
    if let Some(landed) = tries.take_landed(current.version, is_internal) {
        let elements = &landed.accepted.effects.followers;
        send_ephemeral(table, instance, elements);
        send_elements(table, instance, current, elements);
        return Ok(start_aftermath(table, instance, attempting, landed.accepted));
    }
    Ok(Outcome {
        view: reply_view(table, instance, current, attempting.wants_view)?,
        fields: attempting.fields,
        ..Outcome::quiet(Applied::Repeated, current.version)
    })
}

/// Starts the work that an accepted event left behind, and completes its answer.
fn start_aftermath<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    attempting: &QueuedEvent<S>,
    accepted: Committed<S>,
) -> Outcome {
    let Committed { answer, effects, aftermath, permits } = accepted;
    table.shared.events.fetch_add(1, Ordering::Relaxed);
    let mut outcome = Outcome { elements: effects.caller, fields: attempting.fields, ..answer };
    if permits.is_empty() {
        return outcome;
    }
    let Some(handle) = table.shared.handle(&instance.key) else { return outcome };
    let mut permits = permits.into_iter();
    if let Some(streaming) = aftermath.streaming
        && let Some(permit) = permits.next()
    {
        let (reply, pieces) = Reply::channel();
        outcome.stream = Some(ReplyStream(pieces));
        let handle = handle.clone();
        table.shared.background(permit, move || streaming(handle, reply));
    }
    for (work, permit) in aftermath.background.into_iter().zip(permits) {
        let handle = handle.clone();
        table.shared.background(permit, move || work(handle));
    }
    outcome
}

impl Outcome {
    pub(in crate::registry) const fn quiet(answer: Applied, version: Version) -> Self {
        Self { answer, version, view: None, elements: Vec::new(), stream: None, fields: &[] }
    }
}
