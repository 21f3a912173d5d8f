//! A state as encoded fields, the difference between two, and how a browser merges it.

mod difference;
mod encode;
mod image;
mod merge;

pub(crate) use self::{
    difference::{Change, Remains, difference},
    image::stored,
};
pub use self::{
    image::{Image, ImageError},
    merge::merge,
};

#[cfg(test)]
mod tests;
