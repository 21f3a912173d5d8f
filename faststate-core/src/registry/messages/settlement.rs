//! A delivery of a message, and the result of a delivery at the sender.

use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    Rejection,
    event::{Cause, EncodedEvent},
};

/// A message that has arrived at its target.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Delivery {
    pub(in crate::registry) id: u128,
    pub(in crate::registry) event: EncodedEvent,
    pub(in crate::registry) cause: Arc<Cause>,
}

/// The end of a message, a timer or a job, or the time at which it is tried again.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Settlement {
    pub(in crate::registry) id: u128,
    pub(in crate::registry) result: SettledAs,
}

/// The result of delivering a message, firing a timer or running a job.
#[derive(Clone, Debug)]
pub(in crate::registry) enum SettledAs {
    /// The target accepted the message, or the job succeeded.
    Accepted,
    /// The target rejected the message.
    Rejected(Rejection),
    /// The timer's time has come.
    Fired,
    /// An operator drops it.
    Dropped,
    /// Nothing can handle it.
    Parked(String),
    /// It is tried again after this many milliseconds.
    Retried { millis: u64 },
    /// This node keeps it to itself for this many milliseconds.
    Claimed { millis: u64 },
    /// Like [`Claimed`](Self::Claimed), unless another node has taken it since this node found it due.
    Taken(Take),
    /// An operator retries it.
    Unparked,
}

/// The take-over of a message or job that this node has found due.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Take {
    pub(in crate::registry) millis: u64,
    /// The time of the entry when this node found it due.
    pub(in crate::registry) from: u64,
    /// Whether this node has taken it. Relaxed, because the turn's end orders the memory.
    pub(in crate::registry) is_taken: Arc<AtomicBool>,
}

/// What a node has done for a due record.
#[derive(Debug, Default)]
pub(in crate::registry) struct DueProgress {
    /// Whether timers have fired.
    pub(in crate::registry) fired: bool,
    /// The ids of the messages and jobs that this node has taken.
    pub(in crate::registry) taken: Vec<u128>,
}
