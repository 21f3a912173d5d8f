//! The wire format of Datastar 1.0.4: frames, attributes and input.

pub(crate) mod attribute;
mod coerce;
mod decode_event;
mod decode_pass;
mod events;
mod fault;
pub(crate) mod frame;
mod input;
mod input_error;
mod parse_json;
pub(crate) mod signal_path;

pub(crate) use self::{decode_event::Decoded, frame::Frame, signal_path::SignalPath};
pub use self::{input::Input, input_error::InputError};
