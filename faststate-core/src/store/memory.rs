//! A store in this process's memory.
/// A store.
#[derive(Debug)]
pub struct MemoryStore {}
