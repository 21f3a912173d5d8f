//! Encodes states and signals, compares two encodings, and merges patches as a browser does.

mod diff;
mod encode;
mod encoded_fields;
mod encoded_state;
mod error;
mod json_diff;
mod merge;
mod whole;

pub(crate) use self::{
    diff::{FieldChange, Residue, diff},
    encode::INITIAL_CAPACITY,
    encoded_state::{EncodedState, GROWTH_SLACK},
    whole::Whole,
};
pub use self::{
    encoded_fields::EncodedFields,
    error::EncodeError,
    json_diff::{Difference, json_diff},
    merge::merge,
};

#[cfg(test)]
mod tests;
