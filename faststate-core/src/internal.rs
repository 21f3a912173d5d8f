//! Items that `faststate-http`, `faststate-testkit` and the benchmarks need. No version guarantees any of them.

#[cfg(feature = "metrics")]
pub use crate::metrics::{Exposition, MetricKind};
#[cfg(feature = "inspector")]
pub use crate::registry::observe::trace::{EventObserver, EventTrace};
pub use crate::{
    action::IN_ORDER,
    clock::{follow_tokio_time, now},
    key::{check_name, segment},
    metrics::Count,
    patch::{Difference, EncodeError, EncodedFields, json_diff, merge},
    registry::{
        instances::Instances,
        interface::{Engine, StreamRevoker},
        messages::gate::{MessageGate, Passage},
        mistakes::Part,
        new_sessions::{Caps, NewSession, NewSessions},
        request::{HandleRequest, Rendered, ReplyView, Route, TopicName, TopicNameError},
    },
    topics::{Follower, SnapshotFailed},
    wire::{attribute::attribute, frame::Frame, signal_path::SignalPath},
};

/// The encoding of frames and of single SSE events.
pub mod frame {
    pub use crate::wire::frame::{PING, append_elements, elements, push_signals, signals};
}
