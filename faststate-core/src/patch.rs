//! A state as encoded fields, the difference between two, and how a browser merges it.

mod difference;
#[cfg(any(feature = "inspector", feature = "testing"))]
mod differences;
mod encode;
mod image;
mod merge;

#[cfg(any(feature = "inspector", feature = "testing"))]
pub(crate) use self::differences::{Difference, differences};
pub(crate) use self::{
    difference::{Change, Remains, difference},
    image::{ROOM, stored},
};
pub use self::{
    image::{Image, ImageError},
    merge::merge,
};

#[cfg(test)]
mod tests;
