//! A state as encoded fields, the difference between two, and how a browser merges it.

mod difference;
#[cfg(any(feature = "inspector", feature = "testing"))]
mod differences;
mod encode;
mod image;
mod itself;
#[cfg(any(feature = "testing", test))]
mod merge;

#[cfg(any(feature = "inspector", feature = "testing"))]
pub(crate) use self::differences::{Difference, differences};
pub use self::image::{Image, ImageError};
#[cfg(any(feature = "testing", test))]
pub(crate) use self::merge::merge;
pub(crate) use self::{
    difference::{Change, Remains, difference},
    image::{MORE, ROOM, Stored},
};

#[cfg(test)]
mod tests;
