//! Items that `faststate-http`, `faststate-testkit` and the benchmarks need. No version guarantees any of them.

#[cfg(feature = "metrics")]
pub use crate::metrics::{Exposition, Kind};
pub use crate::{
    action::IN_ORDER,
    key::{check_name, segment},
    metrics::Count,
    patch::{Difference, Image, ImageError, differences, merge},
    registry::{Caps, NewSession, NewSessions},
    wire::{Frame, Nest, frame},
};
