//! A state as encoded fields.
use bytes::Bytes;
use serde::Serialize;

/// A state's signals, encoded once by the wire's rules: one JSON object, and where each field is in it.
#[derive(Clone, Debug)]
pub struct Image {}

impl Image {
    /// Encodes a struct or map.
    ///
    /// # Errors
    /// What is not a struct or map at the top, an illegal or reserved name, a float that is not finite.
    pub fn of(_signals: &impl Serialize) -> Result<Self, ImageError> {
        todo!()
    }

    /// The whole JSON object.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        todo!()
    }
}

/// Why signals cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {}
