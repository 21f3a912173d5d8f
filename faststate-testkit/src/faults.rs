//! Stores and broadcasters that fail on demand.

mod broadcaster;
mod overridden;
mod store;

pub use self::{
    broadcaster::{BroadcastFault, FaultyBroadcaster},
    overridden::{Overridden, StoreOverride},
    store::{FaultyStore, StoreFault},
};
