//! Decodes an event from its input.

use std::collections::HashSet;

use serde::{
    de::{self, DeserializeOwned, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{InputError, coerce::ObjectAccess, decode_pass::DecodePass, fault::Fault};

/// Maximum number of passes over the input. Two suffice, unless a `Deserialize` implementation fails at a blank
/// field and so hides the blank fields after it.
const MAX_PASSES: usize = 8;

/// An event that was decoded from input.
#[derive(Debug)]
pub(crate) struct Decoded<E> {
    /// The event.
    pub(crate) event: E,
    /// The names of the event's fields.
    pub(crate) fields: &'static [&'static str],
}

/// Decodes an event. Each field comes from the first source that contains it.
pub(super) fn decode<E: DeserializeOwned>(sources: &[&Map<String, Value>]) -> Result<Decoded<E>, InputError> {
    let mut pass = DecodePass::default();
    for _ in 0..MAX_PASSES {
        let result = E::deserialize(EventDeserializer { sources, pass: &pass });
        let fields = pass.fields();
        pass = match pass.next() {
            Some(next) => next,
            None => {
                return result
                    .map(|event| Decoded { event, fields })
                    .map_err(|fault| fault.into_error(fields));
            }
        };
    }
    Err(InputError::new("too many fields are empty"))
}

/// Deserializes the event itself.
struct EventDeserializer<'a, 'r> {
    sources: &'r [&'a Map<String, Value>],
    pass: &'r DecodePass,
}

impl<'a, 'r> EventDeserializer<'a, 'r> {
    fn entries(&self, entries: impl Iterator<Item = (&'a str, &'a Value)>) -> ObjectAccess<'a, 'r> {
        ObjectAccess::new(entries, self.pass)
    }
}

impl<'de> de::Deserializer<'de> for EventDeserializer<'_, '_> {
    type Error = Fault;

    /// Visits all values, because an event that is tagged or flattens a field does not list its fields.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut seen = HashSet::new();
        let all = self.sources.iter().flat_map(|source| source.iter());
        let first = all.filter(|(name, _)| seen.insert(name.as_str()));
        visitor.visit_map(self.entries(first.map(|(name, value)| (name.as_str(), value))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.pass.set_fields(fields);
        let given = fields.iter().filter_map(|name| {
            let value = self.sources.iter().find_map(|source| source.get(*name))?;
            Some((*name, value))
        });
        visitor.visit_map(self.entries(given).with_field_names())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple
        tuple_struct map enum identifier ignored_any
    }
}
