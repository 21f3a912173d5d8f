//! The application of an event to a copy of the state.

use std::sync::Arc;

use crate::{
    Context, ReactiveState, Version, Viewer,
    event::{Aftermath, Effects, OutboxDraft},
    patch::GROWTH_SLACK,
    registry::{
        Applied, Error,
        instance::{
            Instance,
            queue::QueuedEvent,
            revision::{Revision, encode},
            table::InstanceTable,
        },
        messages::{
            outbox::{Author, EditedOutbox, Outbox},
            targets::check_edits,
        },
        panics::guard,
    },
};

/// The result of applying an event to a copy.
pub(super) struct AppliedCopy<S> {
    /// The state to save, or `None` if there is nothing to save.
    pub(super) next: Option<Arc<Revision<S>>>,
    pub(super) answer: Applied,
    pub(super) effects: Effects,
    pub(super) aftermath: Aftermath<S>,
}

/// Runs `authorize` and `apply` on a copy of the state, and encodes the result. A panic of either is an error.
pub(super) fn apply_to_copy<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    current: &Arc<Revision<S>>,
    event: &QueuedEvent<S>,
) -> Result<AppliedCopy<S>, Error> {
    if current.is_read_only() {
        return Err(Error::Busy("a newer version of the application wrote this state"));
    }
    let QueuedEvent { mutation, viewer, id, receipt, now, cause, .. } = event;
    let environment = Arc::clone(&table.shared.environment);
    let (key, outbox) = (instance.key.clone(), current.outbox.clone());
    let mut context = Context::new(key, viewer.clone(), id.clone(), *now, environment, cause.clone(), outbox);
    let state = guard("an event panicked", || {
        mutation.authorize(&current.state, viewer)?;
        let mut copy = (*current.state).clone();
        mutation.apply(&mut copy, &mut context).map(|()| copy)
    })??;
    let encoded = encode(&state, current.encoded.data.len() + GROWTH_SLACK)?;
    let Context { effects, aftermath, draft, .. } = context;
    effects.check()?;
    let version = current.version.next();
    let edited = edit_outbox(table, instance, current, draft, version, viewer)?;
    let answer = if encoded.data == current.encoded.data { Applied::Unchanged } else { Applied::Changed };
    // Elements and background work must happen once per event (law 3), so such an event always saves a new version.
    let has_effects = aftermath.pieces() > 0 || !effects.followers.is_empty() || edited.is_changed;
    let next = match answer {
        Applied::Unchanged if receipt.is_internal() && !edited.is_changed => None,
        // Only the receipt is new. The same version is saved again, so neither followers nor other nodes are notified.
        Applied::Unchanged if !has_effects && current.is_upgraded() => Some(Revision::kept(current)),
        _ => Some(Arc::new(Revision::next(state, encoded, version, edited.outbox))),
    };
    Ok(AppliedCopy { next, answer, effects, aftermath })
}

/// Applies an event's edits to the messages, timers and jobs of its instance.
fn edit_outbox<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    current: &Revision<S>,
    draft: OutboxDraft,
    version: Version,
    viewer: &Viewer,
) -> Result<EditedOutbox, Error> {
    if draft.is_empty() {
        return Ok(EditedOutbox { outbox: current.outbox.clone(), is_changed: false });
    }
    let is_full = current.outbox.as_ref().is_some_and(|outbox| outbox.is_full());
    if is_full && draft.adds() {
        return Err(Error::Busy("the instance has 4,096 unfinished messages, timers and jobs"));
    }
    let author = Author { key: &instance.key, version, now: table.time.now(), viewer };
    draft
        .into_edits()
        .and_then(|edits| {
            check_edits(&edits, table)?;
            Outbox::edited(current.outbox.as_ref(), edits, &author)
        })
        .map_err(|error| {
            Error::internal("an event requests a message, timer or job that is not possible", &error)
        })
}
