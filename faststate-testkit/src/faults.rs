//! Stores and broadcasters that fail on demand.

mod broadcaster;
mod store;

pub use self::{
    broadcaster::{BroadcastFault, FaultyBroadcaster},
    store::{FaultyStore, StoreFault},
};
