//! A state as encoded fields, the difference between two, and how a browser merges it.

mod image;
mod merge;

pub use self::{
    image::{Image, ImageError},
    merge::merge,
};
