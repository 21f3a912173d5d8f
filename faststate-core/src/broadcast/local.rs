//! Between registries of one process.
/// Between registries of one process.
#[derive(Debug)]
pub struct LocalBroadcaster {}
