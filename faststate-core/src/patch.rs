//! A state as encoded fields, the difference between two, and how a browser merges it.

mod difference;
mod differences;
mod encode;
mod image;
mod itself;
mod merge;

pub(crate) use self::{
    difference::{Change, Remains, difference},
    image::{MORE, ROOM, Stored},
};
pub use self::{
    differences::{Difference, differences},
    image::{Image, ImageError},
    merge::merge,
};

#[cfg(test)]
mod tests;
