//! Items that `faststate-http`, `faststate-testkit` and the benchmarks need. No version guarantees any of them.

#[cfg(feature = "metrics")]
pub use crate::metrics::{Exposition, MetricKind};
pub use crate::{
    action::IN_ORDER,
    clock::follow_tokio_time,
    key::{check_name, segment},
    metrics::Count,
    patch::{Difference, EncodeError, EncodedFields, json_diff, merge},
    registry::{Caps, NewSession, NewSessions},
    wire::{Frame, SignalPath, frame},
};
