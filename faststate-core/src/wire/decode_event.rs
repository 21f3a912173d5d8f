//! Input converted to the types that an event's fields ask for.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
};

use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{Decoded, InputError, coerce::Lenient};

/// How often an event is read again without the fields that turned out to be blank. Once is enough unless a
/// `Deserialize` stops at a blank one.
const RUNS: usize = 8;

/// Reads an event; a field is taken from the first source that has it.
pub(super) fn decode<E: DeserializeOwned>(sources: &[&Map<String, Value>]) -> Result<Decoded<E>, InputError> {
    let mut absent = HashSet::new();
    for _ in 0..RUNS {
        let run = Run { fields: Cell::new(&[]), absent, blank: RefCell::default() };
        let result = E::deserialize(Fields { sources, run: &run });
        let blank = run.blank.into_inner();
        if blank.is_empty() {
            let fields = run.fields.get();
            return result.map(|event| Decoded { event, fields }).map_err(|fault| fault.about(fields));
        }
        absent = run.absent;
        absent.extend(blank);
    }
    Err(InputError::new("too many fields are empty"))
}

/// One reading of an event.
pub(super) struct Run {
    fields: Cell<&'static [&'static str]>,
    /// Values that count as absent, by their address.
    absent: HashSet<*const Value>,
    /// Fields that this reading found to be `null`, or blank numbers.
    blank: RefCell<Vec<*const Value>>,
}

impl Run {
    pub(super) fn found_blank(&self, value: &Value) {
        self.blank.borrow_mut().push(value);
    }

    fn is_absent(&self, value: &Value) -> bool {
        self.absent.contains(&std::ptr::from_ref(value))
    }
}

/// Why a value does not fit: where, and what is wrong there.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the inside out.
    path: Vec<String>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// What the value at the path must be or is: `must be a number`.
    Predicate(String),
    /// What a `Deserialize` said.
    Sentence(String),
}

impl Fault {
    pub(super) fn must_be(what: impl fmt::Display) -> Self {
        Self { path: Vec::new(), problem: Problem::Predicate(format!("must be {what}")) }
    }

    pub(super) fn within(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }

    /// The error for a caller, about one of these fields if it is about one.
    fn about(self, fields: &[&str]) -> InputError {
        let field = self.path.last().filter(|name| fields.contains(&name.as_str())).cloned();
        InputError { message: self.to_string(), field }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
        match &self.problem {
            Problem::Sentence(sentence) if path.is_empty() => f.write_str(sentence),
            Problem::Sentence(sentence) => write!(f, "`{path}`: {sentence}"),
            Problem::Predicate(predicate) if path.is_empty() => write!(f, "the input {predicate}"),
            Problem::Predicate(predicate) => write!(f, "`{path}` {predicate}"),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), problem: Problem::Sentence(message.to_string()) }
    }

    fn missing_field(field: &'static str) -> Self {
        let problem = Problem::Predicate("is missing".to_owned());
        Self { path: vec![field.to_owned()], problem }
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let choices: Vec<_> = expected.iter().map(|choice| format!("`{choice}`")).collect();
        Self::must_be(format_args!("one of {}", choices.join(", ")))
    }
}

/// The event as a whole.
struct Fields<'a, 'r> {
    sources: &'r [&'a Map<String, Value>],
    run: &'r Run,
}

impl<'a, 'r> Fields<'a, 'r> {
    fn entries(&self, entries: impl Iterator<Item = (&'a str, &'a Value)>) -> Entries<'a, 'r> {
        Entries::new(entries, self.run)
    }
}

impl<'de> de::Deserializer<'de> for Fields<'_, '_> {
    type Error = Fault;

    /// The event has no list of fields (it flattens one, or is tagged): everything there is.
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
        self.run.fields.set(fields);
        let given = fields.iter().filter_map(|name| {
            let value = self.sources.iter().find_map(|source| source.get(*name))?;
            Some((*name, value))
        });
        visitor.visit_map(Entries { are_fields: true, ..self.entries(given) })
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

/// The fields of an object, without those that count as absent.
pub(super) struct Entries<'a, 'r> {
    rest: std::vec::IntoIter<(&'a str, &'a Value)>,
    current: Option<(&'a str, &'a Value)>,
    /// Whether the names are known to be those of a struct's fields.
    are_fields: bool,
    run: &'r Run,
}

impl<'a, 'r> Entries<'a, 'r> {
    pub(super) fn new(entries: impl Iterator<Item = (&'a str, &'a Value)>, run: &'r Run) -> Self {
        let present: Vec<_> = entries.filter(|(_, value)| !run.is_absent(value)).collect();
        Self { rest: present.into_iter(), current: None, are_fields: false, run }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        if self.are_fields {
            return seed.deserialize(name.into_deserializer()).map(Some);
        }
        // A name is a text, but a map's key may be of another type.
        let name = Value::from(name);
        seed.deserialize(Lenient::of(&name, self.run)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((name, value)) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its name"));
        };
        seed.deserialize(Lenient::of_entry(value, self.run)).map_err(|fault| fault.within(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
