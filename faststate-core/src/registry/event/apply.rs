//! The application of an event to a copy of the state.

use std::sync::Arc;

use crate::{
    Context, ReactiveState,
    event::{Aftermath, Effects},
    patch::GROWTH_SLACK,
    registry::{
        Applied, Error,
        instance::{
            Instance,
            queue::QueuedEvent,
            revision::{Revision, encode},
            table::InstanceTable,
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
    let QueuedEvent { mutation, viewer, id, receipt, now, .. } = event;
    let environment = Arc::clone(&table.shared.environment);
    let mut context = Context::new(instance.key.clone(), viewer.clone(), id.clone(), *now, environment);
    let state = guard("an event panicked", || {
        mutation.authorize(&current.state, viewer)?;
        let mut copy = (*current.state).clone();
        mutation.apply(&mut copy, &mut context).map(|()| copy)
    })??;
    let encoded = encode(&state, current.encoded.data.len() + GROWTH_SLACK)?;
    let Context { effects, aftermath, .. } = context;
    effects.check()?;
    let answer = if encoded.data == current.encoded.data { Applied::Unchanged } else { Applied::Changed };
    // Elements and background work must happen once per event (law 3), so such an event always saves a new version.
    let has_effects = aftermath.pieces() > 0 || !effects.followers.is_empty();
    let next = match answer {
        Applied::Unchanged if receipt.is_internal() => None,
        // Only the receipt is new. The same version is saved again, so neither followers nor other nodes are notified.
        Applied::Unchanged if !has_effects && current.is_upgraded() => Some(Revision::kept(current)),
        _ => Some(Arc::new(current.next(state, encoded))),
    };
    Ok(AppliedCopy { next, answer, effects, aftermath })
}
