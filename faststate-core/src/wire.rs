//! Datastar 1.0.4 on the wire: frames, attributes, input.

mod attribute;
mod coerce;
mod decode_event;
mod events;
#[doc(hidden)]
pub mod frame;
mod input;
mod parse_json;

#[doc(hidden)]
pub use self::frame::{Frame, SignalPath};
pub use self::{
    attribute::attribute,
    input::{Decoded, Input, InputError},
};
