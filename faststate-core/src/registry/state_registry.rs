//! The engine.
/// The engine.
#[derive(Debug)]
pub struct StateRegistry {}
