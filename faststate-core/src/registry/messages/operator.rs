//! Unfinished messages, as operators see and resolve them.

use std::time::SystemTime;

use super::{
    outbox::{OutboxEntry, Work, time},
    settlement::{SettledAs, Settlement},
};
use crate::Key;

/// An unfinished message, timer or job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfinishedMessage {
    /// The instance that requested it.
    pub sender: Key,
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its kind, with its target: `message to account/r/bob`, `timer end`, `job send_mail`, or `follow-up` of a message.
    pub kind: String,
    /// The event that it carries. Empty for a job.
    pub event: String,
    /// When it was requested, by the store's clock.
    pub requested: SystemTime,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The reason why it is parked, if it is.
    pub parked: Option<String>,
}

/// What an operator does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageAction {
    /// Tries a parked message, timer or job again.
    Retry,
    /// Removes it. Neither of its follow-ups is applied.
    Drop,
}

impl UnfinishedMessage {
    pub(in crate::registry) fn of(sender: &Key, entry: &OutboxEntry) -> Self {
        let (kind, event) = match &entry.work {
            Work::Message { to, event, .. } => {
                // The text of a session's key gives access to the session.
                let target = to.parse::<Key>().map_or_else(|_| "?".to_owned(), |key| format!("{key:?}"));
                (format!("message to {target}"), event.event.clone())
            }
            Work::Timer { name, event } => (format!("timer {name}"), event.event.clone()),
            Work::Job { name, .. } => (format!("job {name}"), String::new()),
            Work::FollowUp { event, .. } => ("follow-up".to_owned(), event.event.clone()),
        };
        Self {
            sender: sender.clone(),
            id: format!("{:032x}", entry.id),
            kind,
            event,
            requested: time(entry.requested),
            attempts: entry.attempts,
            parked: entry.parked.clone(),
        }
    }
}

/// Returns the settlement of an action. `None` if the text is not the id of a message.
pub(in crate::registry) fn settlement(id: &str, action: MessageAction) -> Option<Settlement> {
    let id = u128::from_str_radix(id, 16).ok()?;
    let result = match action {
        MessageAction::Retry => SettledAs::Unparked,
        MessageAction::Drop => SettledAs::Dropped,
    };
    Some(Settlement { id, result })
}
