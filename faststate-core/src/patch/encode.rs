//! Serializers that write a value as JSON, in its wire form or in its stored form, into one buffer.

mod buffer;
mod form;
mod json;
mod key;
mod value;

pub(crate) use self::buffer::INITIAL_CAPACITY;
pub(super) use self::{
    buffer::{EncodeBuffer, FieldSpan, FieldSpans},
    form::{StoreForm, WireForm},
    value::ValueSerializer,
};
