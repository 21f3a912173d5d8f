//! A state as encoded fields, the difference between two, and how a browser merges it.

mod diff;
mod encode;
mod encoded_fields;
mod itself;
mod json_diff;
mod merge;

pub(crate) use self::{
    diff::{Change, Residue, diff},
    encoded_fields::{MORE, ROOM, Stored},
};
pub use self::{
    encoded_fields::{EncodeError, EncodedFields},
    json_diff::{Difference, json_diff},
    merge::merge,
};

#[cfg(test)]
mod tests;
