//! Datastar 1.0.4 on the wire: frames, attributes, input.

mod attribute;
mod convert;
mod events;
#[doc(hidden)]
pub mod frame;
mod input;
mod lenient;
mod strict;

#[doc(hidden)]
pub use self::frame::{Frame, Nest};
pub use self::{
    attribute::attribute,
    input::{Decoded, Input, InputError},
};
