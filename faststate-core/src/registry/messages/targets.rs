//! The checks of messages, timers and jobs when an event requests them, so that a mistake fails the event.

use crate::{
    BoxError, ReactiveState,
    event::{DraftedEdit, EncodedEvent, OutboxEdit},
    registry::instance::table::InstanceTable,
};

/// Checks that the targets, events and jobs are registered.
///
/// # Errors
/// The text states what to register.
pub(in crate::registry) fn check_edits<S: ReactiveState>(
    edits: &[DraftedEdit],
    table: &InstanceTable<S>,
) -> Result<(), BoxError> {
    edits.iter().try_for_each(|DraftedEdit { edit, .. }| check_edit(edit, table))
}

fn check_edit<S: ReactiveState>(edit: &OutboxEdit, table: &InstanceTable<S>) -> Result<(), BoxError> {
    let messages = &table.shared.messages;
    let own = |event: &EncodedEvent| {
        if table.events.contains_key(&*event.event) {
            return Ok(());
        }
        Err(not_registered(S::NAME, &event.event).into())
    };
    match edit {
        OutboxEdit::Send { to, event, then, or_else } => {
            declared(table)?;
            let Some(target) = messages.table(to.state()) else {
                return Err(format!(
                    "no state is named `{}`: add it with `RegistryBuilder::state`",
                    to.state()
                )
                .into());
            };
            let scope = target.config().scope;
            if scope != to.scope() {
                let wanted = format!("{scope:?}").to_lowercase();
                return Err(
                    format!("`{}` has the scope {scope:?}: use `Address::{wanted}`", to.state()).into()
                );
            }
            target.receives(&event.event)?;
            then.iter().chain(or_else).try_for_each(own)
        }
        OutboxEdit::Schedule { event, .. } => {
            declared(table)?;
            own(event)
        }
        OutboxEdit::Run { job, .. } => {
            declared(table)?;
            if messages.has_job(job) {
                return Ok(());
            }
            Err(format!("no job is named `{job}`: add it with `RegistryBuilder::job`").into())
        }
        OutboxEdit::Cancel { .. }
        | OutboxEdit::Finish(_)
        | OutboxEdit::Park { .. }
        | OutboxEdit::ParkFollowUp { .. }
        | OutboxEdit::Postpone { .. }
        | OutboxEdit::Unpark(_) => Ok(()),
    }
}

/// Returns the mistake of a message to an event that is not registered.
pub(in crate::registry) fn not_registered(state: &str, event: &str) -> String {
    format!(
        "the state `{state}` has no event named `{event}`: add it with `StateBuilder::event` or `::message`"
    )
}

/// Checks that the state declares that it sends messages, without which no node looks for them.
fn declared<S: ReactiveState>(table: &InstanceTable<S>) -> Result<(), BoxError> {
    if table.config.sends_messages {
        return Ok(());
    }
    Err(format!(
        "an event of `{}` requests a message, timer or job: add `.sends_messages()` to its `StateConfig`",
        S::NAME
    )
    .into())
}
