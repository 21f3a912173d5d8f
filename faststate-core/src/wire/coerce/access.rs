//! Access to the entries, items and variants inside a value.

use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess};
use serde_json::Value;

use super::CoercingDeserializer;
use crate::wire::{decode_pass::DecodePass, fault::Fault};

/// The entries of an object, without the values that count as absent.
pub(in crate::wire) struct ObjectAccess<'a, 'r> {
    rest: std::vec::IntoIter<(&'a str, &'a Value)>,
    current: Option<(&'a str, &'a Value)>,
    /// Whether the names are the names of a struct's fields.
    are_fields: bool,
    pass: &'r DecodePass,
}

impl<'a, 'r> ObjectAccess<'a, 'r> {
    pub(in crate::wire) fn new(
        entries: impl Iterator<Item = (&'a str, &'a Value)>,
        pass: &'r DecodePass,
    ) -> Self {
        let present: Vec<_> = entries.filter(|(_, value)| !pass.is_absent(value)).collect();
        Self { rest: present.into_iter(), current: None, are_fields: false, pass }
    }

    /// Marks the names as the names of a struct's fields, which need no conversion.
    pub(in crate::wire) fn with_field_names(self) -> Self {
        Self { are_fields: true, ..self }
    }
}

impl<'de> MapAccess<'de> for ObjectAccess<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        if self.are_fields {
            return seed.deserialize(name.into_deserializer()).map(Some);
        }
        // A name is a string, but the key of a map may have another type.
        let name = Value::from(name);
        seed.deserialize(CoercingDeserializer::of(&name, self.pass)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((name, value)) = self.current.take() else {
            return Err(de::Error::custom("a value was requested before its name"));
        };
        seed.deserialize(CoercingDeserializer::of_entry(value, self.pass)).map_err(|fault| fault.within(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The items of a list.
pub(super) struct ListAccess<'a, 'r> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    pass: &'r DecodePass,
}

impl<'a, 'r> ListAccess<'a, 'r> {
    pub(super) fn new(items: &'a [Value], pass: &'r DecodePass) -> Self {
        Self { items: items.iter().enumerate(), pass }
    }
}

impl<'de> SeqAccess<'de> for ListAccess<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((at, item)) = self.items.next() else { return Ok(None) };
        let item = seed.deserialize(CoercingDeserializer::of(item, self.pass));
        item.map(Some).map_err(|fault| fault.within(at.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A variant that has content.
pub(super) struct VariantContent<'a, 'r> {
    name: &'a str,
    content: CoercingDeserializer<'a, 'r>,
}

impl<'a, 'r> VariantContent<'a, 'r> {
    pub(super) const fn new(name: &'a str, content: CoercingDeserializer<'a, 'r>) -> Self {
        Self { name, content }
    }
}

impl<'de, 'a, 'r> EnumAccess<'de> for VariantContent<'a, 'r> {
    type Error = Fault;
    type Variant = CoercingDeserializer<'a, 'r>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, CoercingDeserializer<'a, 'r>), Fault> {
        let variant = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(self.name))?;
        Ok((variant, self.content))
    }
}
