//! The wire format of Datastar 1.0.4: frames, attributes and input.

mod attribute;
mod coerce;
mod decode_event;
mod decode_pass;
mod events;
mod fault;
#[doc(hidden)]
pub mod frame;
mod input;
mod input_error;
mod parse_json;
mod signal_path;

pub use self::{attribute::attribute, decode_event::Decoded, input::Input, input_error::InputError};
#[doc(hidden)]
pub use self::{frame::Frame, signal_path::SignalPath};
