//! Datastar 1.0.4 on the wire: frames, attributes, input.

mod attribute;
pub mod frame;
mod input;

pub use self::{
    attribute::attribute,
    frame::{Frame, Nest},
    input::{Decoded, Input, InputError},
};
