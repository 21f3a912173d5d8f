//! A state in its stored form.

use bytes::Bytes;
use serde::Serialize;

use super::{
    EncodeError, EncodedFields,
    encode::{EncodeBuffer, StoreForm, ValueSerializer},
    error::BoxedEncodeError,
    whole::is_whole,
};

/// Bytes by which a state may grow in one change before its buffer is reallocated.
pub(crate) const GROWTH_SLACK: usize = 32;

/// A state as a store keeps it.
#[derive(Clone)]
pub(crate) struct EncodedState {
    /// Plain JSON.
    pub(crate) data: Bytes,
    /// The fields of `data`, if the wire form of the state is the same bytes.
    fields: Option<EncodedFields>,
}

impl EncodedState {
    /// Encodes a state into a buffer with an initial capacity in bytes.
    ///
    /// # Errors
    /// A value that cannot be read back from JSON (a float that is not finite) or that no browser can hold
    /// (a reserved key).
    pub(crate) fn of(state: &impl Serialize, capacity: usize) -> Result<Self, EncodeError> {
        let mut out = EncodeBuffer::<StoreForm>::with_capacity(capacity);
        state.serialize(ValueSerializer::new(&mut out)).map_err(BoxedEncodeError::into_inner)?;
        let data = Bytes::from(out.json);
        let fields = out.fields.filter(|_| !out.form.differs);
        Ok(Self { fields: fields.map(|fields| EncodedFields::new(data.clone(), fields)), data })
    }

    /// Wraps data that was loaded from a store.
    pub(crate) const fn loaded(data: Bytes) -> Self {
        Self { data, fields: None }
    }

    /// Encodes the signals of the encoded state, of type `S`.
    ///
    /// Reuses the stored bytes if `signals` comes from the provided `ReactiveState::signals` and its wire form
    /// is the same.
    pub(crate) fn signals<S>(&self, signals: &impl Serialize) -> Result<EncodedFields, EncodeError> {
        match &self.fields {
            Some(fields) if is_whole::<S, _>(signals) => Ok(fields.clone()),
            _ => EncodedFields::with_capacity(signals, self.data.len() + GROWTH_SLACK),
        }
    }
}
