//! The turns of one state's instances that send, receive and settle messages.

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use futures::future::join_all;

use super::{
    answer::decode_answer,
    jobs::retry_pause,
    outbox::{Outbox, OutboxEntry, Work},
    settle::{FollowUp, PreparedSettlement, Settle, event_of},
    settlement::{Delivery, DueProgress, SettledAs, Settlement, Take},
};
use crate::{
    EventId, Key, PrepareContext, ReactiveState, Viewer,
    event::{Cause, EncodedEvent, Mutation},
    registry::{
        Error, Outcome,
        event::admit::{EventRequest, MessageOrigin, send_event},
        instance::{queue::Command, table::InstanceTable},
        load::read::read_current,
        panics::{catch_panic, guard},
    },
    store::Receipt,
    wire::InputError,
};

/// Applies a message in a turn of its target.
pub(in crate::registry) async fn deliver_message<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
    Delivery { id, event, cause }: Delivery,
) -> Result<Outcome, Error> {
    let mutation = decode_event(table, &event)?;
    let origin = MessageOrigin { receipt: Receipt::message(key, id), cause };
    let id = Some(EventId::of_message(id));
    let request = EventRequest { id, message: Some(origin), ..EventRequest::by_application(mutation) };
    send_event(table, key, request).await
}

/// Settles messages, timers and jobs of one instance, and applies the events that follow them.
pub(in crate::registry) async fn settle_messages<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
    settlements: Vec<Settlement>,
) -> Result<(), Error> {
    let Some(outbox) = current_outbox(table, key).await? else { return Ok(()) };
    let prepare = |settlement: &Settlement| prepare_settlement(table, key, &outbox, settlement.clone());
    let prepared = join_all(settlements.iter().map(prepare)).await;
    let Err(error) = settle_prepared(table, key, prepared).await else { return Ok(()) };
    if error.is_temporary() {
        return Err(error);
    }
    // The result of one of the events cannot be saved, for example because it is too large. That event is parked.
    for settlement in settlements {
        let prepared = prepare(&settlement).await;
        let Err(error) = settle_prepared(table, key, vec![prepared]).await else { continue };
        let mut prepared = prepare(&settlement).await;
        let Some(follow_up) = prepared.follow_up.as_mut().filter(|_| !error.is_temporary()) else {
            return Err(error);
        };
        follow_up.mutation = Err(error.to_string());
        settle_prepared(table, key, vec![prepared]).await?;
    }
    Ok(())
}

/// Fires the timers of an instance that are due at `now`, and takes its due messages and jobs for this node.
pub(in crate::registry) async fn take_due<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
    now: SystemTime,
) -> Result<DueProgress, Error> {
    let due_in = |outbox: Option<Arc<Outbox>>| outbox.map(|outbox| outbox.due(now)).unwrap_or_default();
    let mut due = due_in(current_outbox(table, key).await?);
    if due.is_empty() {
        // The store knows more than this node's memory.
        let instance = table.instance(key)?;
        table.take_turn(&instance, Command::refresh(), table.deadline()).await?;
        due = due_in(outbox_in_memory(table, key));
    }
    let (timers, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|entry| entry.is_timer());
    let others: Vec<_> =
        others.into_iter().filter(|entry| !table.shared.messages.is_claimed(key, entry.id)).collect();
    let mut progress = DueProgress::default();
    let mut failure = None;
    for timer in timers {
        // A timer that fails does not stop the others.
        match settle_messages(table, key, vec![Settlement { id: timer.id, result: SettledAs::Fired }]).await {
            Ok(()) => progress.fired = true,
            Err(error) => failure = Some(error),
        }
    }
    if others.is_empty() {
        return failure.map_or(Ok(progress), Err);
    }
    let take = |entry: &Arc<OutboxEntry>| {
        let millis = entry.lease().as_millis() as u64;
        (entry.id, Take { millis, from: entry.from, is_taken: Arc::default() })
    };
    let takes: Vec<_> = others.iter().map(take).collect();
    let settlement =
        |(id, take): &(u128, Take)| Settlement { id: *id, result: SettledAs::Taken(take.clone()) };
    settle_messages(table, key, takes.iter().map(settlement).collect()).await?;
    let taken = takes.iter().filter(|(_, take)| take.is_taken.load(Ordering::Relaxed));
    progress.taken = taken.map(|(id, _)| *id).collect();
    Ok(progress)
}

/// Settles messages in one turn.
async fn settle_prepared<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
    prepared: Vec<PreparedSettlement<S>>,
) -> Result<(), Error> {
    let request = EventRequest::by_application(Box::new(Settle(prepared)));
    send_event(table, key, request).await.map(drop)
}

/// Returns the outbox of an instance, which is loaded if it is not in memory.
pub(in crate::registry) async fn current_outbox<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
) -> Result<Option<Arc<Outbox>>, Error> {
    if let Some(outbox) = outbox_in_memory(table, key) {
        return Ok(Some(outbox));
    }
    Ok(read_current(table, key, table.deadline()).await?.current.outbox.clone())
}

/// Returns the outbox of an instance in memory.
pub(in crate::registry) fn outbox_in_memory<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
) -> Option<Arc<Outbox>> {
    table.loaded(key)?.current.read().as_ref()?.outbox.clone()
}

/// Decodes and prepares the event that a settlement applies.
async fn prepare_settlement<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    key: &Key,
    outbox: &Outbox,
    settlement: Settlement,
) -> PreparedSettlement<S> {
    let Some((entry, encoded)) = outbox.get(settlement.id).zip(event_of(outbox, &settlement)) else {
        return PreparedSettlement { settlement, follow_up: None };
    };
    let mut cause = Cause::new(key.clone(), entry.viewer.viewer(), entry.hops);
    cause.rejection = match (&settlement.result, &entry.work) {
        (SettledAs::Rejected(rejection), _) => Some(rejection.clone()),
        (_, Work::FollowUp { rejection: Some(answer), .. }) => Some(decode_answer(answer.get().as_bytes())),
        _ => None,
    };
    let is_optional = matches!(settlement.result, SettledAs::Fired);
    let mut follow_up = FollowUp {
        encoded: encoded.clone(),
        mutation: Err(String::new()),
        refusal: None,
        cause: Arc::new(cause),
        is_optional,
    };
    match decode_event(table, encoded) {
        Err(error) => follow_up.mutation = Err(error.to_string()),
        Ok(mutation) => {
            let scene = PrepareContext {
                key: key.clone(),
                viewer: Viewer::application(),
                environment: Arc::clone(&table.shared.environment),
            };
            let preparing = catch_panic("`prepare` panicked", mutation.prepare(scene));
            match tokio::time::timeout_at(table.deadline(), preparing).await {
                Ok(Ok((mutation, prepared))) => {
                    (follow_up.mutation, follow_up.refusal) = (Ok(mutation), prepared.err());
                }
                Ok(Err(error)) => follow_up.mutation = Err(error.to_string()),
                // A timer can wait. A message was delivered, so only the event that follows it can be tried again.
                Err(_) if matches!(settlement.result, SettledAs::Fired) => {
                    let millis = retry_pause(entry.attempts);
                    let settlement = Settlement { result: SettledAs::Retried { millis }, ..settlement };
                    return PreparedSettlement { settlement, follow_up: None };
                }
                Err(_) => follow_up.mutation = Err("`prepare` took too long".to_owned()),
            }
        }
    }
    PreparedSettlement { settlement, follow_up: Some(follow_up) }
}

/// Decodes an event of this state from a message.
fn decode_event<S: ReactiveState>(
    table: &InstanceTable<S>,
    event: &EncodedEvent,
) -> Result<Box<dyn Mutation<S>>, Error> {
    let entry = table.events.get(&*event.event).ok_or(Error::Unknown)?;
    let decoded = guard("the input of a message panicked", || (entry.decode_message)(event.input.get()))?;
    decoded.map_err(|error| Error::Input(InputError::undecodable(&error)))
}
