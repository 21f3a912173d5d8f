//! Datastar 1.0.4 on the wire: frames, attributes, input.

mod attribute;
mod convert;
mod events;
pub(crate) mod frame;
mod input;
mod lenient;
mod strict;

pub use self::{
    attribute::attribute,
    frame::{Frame, Nest},
    input::{Decoded, Input, InputError},
};
