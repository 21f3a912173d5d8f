//! A state as encoded fields.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Serialize,
    ser::{self, Impossible, Serializer},
};

use super::{
    encode::{Fields, Items, Kept, Sent, Span, Value, Written},
    itself::is_itself,
};

/// A state's signals, encoded once by the wire's rules: one JSON object, and where each field is in it.
///
/// The rules: what is absent (`None`, `()`, a skipped field) is `""`, because Datastar deletes what is
/// `null`; integers beyond 2^53 are strings; JSON is strict and compact.
#[derive(Clone)]
pub struct EncodedFields {
    json: Bytes,
    fields: Arc<[Span]>,
    open: bool,
}

/// A field as it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Whether the value is a JSON object, which a browser merges instead of replacing it.
    pub(crate) fn is_object(&self) -> bool {
        self.value.first() == Some(&b'{')
    }
}

impl EncodedFields {
    /// Encodes a struct or map.
    ///
    /// # Errors
    /// What is not a struct or map at the top, an illegal or reserved name, a name given twice, a map
    /// whose keys are no text, a float that is not finite, and what a `Serialize` of the application
    /// refuses.
    pub fn of(signals: &impl Serialize) -> Result<Self, EncodeError> {
        Self::about(signals, ROOM)
    }

    /// As [`of`](Self::of), where about so many bytes are expected.
    pub(crate) fn about(signals: &impl Serialize, bytes: usize) -> Result<Self, EncodeError> {
        let mut out = Written::<Sent>::new(bytes);
        signals.serialize(Top(&mut out)).map_err(|Failed(error)| *error)?;
        // Nothing but a struct or map gets this far.
        out.fields.map(|fields| Self::new(out.json.into(), fields)).ok_or(EncodeError::Shape("nothing"))
    }

    fn new(json: Bytes, fields: Fields) -> Self {
        Self { json, fields: fields.spans.into(), open: fields.open }
    }

    /// The whole JSON object.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON object without its braces.
    pub(crate) fn inner(&self) -> &[u8] {
        &self.json[1..self.json.len() - 1]
    }

    /// Whether another value of the same type may have other fields: a map, or a struct that flattens one.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn field(&self, at: usize) -> Option<Field<'_>> {
        let span = self.fields.get(at)?;
        // `"name":value`
        let (name, value) = (&self.json[span.name.clone()], &self.json[span.name.end + 2..span.end]);
        Some(Field { name, value })
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        (0..self.len()).filter_map(|at| self.field(at))
    }
}

/// A state as a store keeps it.
#[derive(Clone)]
pub(crate) struct Stored {
    /// Plain JSON.
    pub(crate) data: Bytes,
    /// The same bytes as the signals of a state that is its own signals, unless those are other bytes.
    image: Option<EncodedFields>,
}

impl Stored {
    /// Encodes a state, but refuses what JSON (a float that is not finite) or a browser (a reserved key) could
    /// not give back. About so many `bytes` are expected.
    pub(crate) fn of(state: &impl Serialize, bytes: usize) -> Result<Self, EncodeError> {
        let mut out = Written::<Kept>::new(bytes);
        state.serialize(Value::new(&mut out)).map_err(|Failed(error)| *error)?;
        let data = Bytes::from(out.json);
        let fields = out.fields.filter(|_| !out.form.differs);
        Ok(Self { image: fields.map(|fields| EncodedFields::new(data.clone(), fields)), data })
    }

    /// A state that was loaded.
    pub(crate) const fn loaded(data: Bytes) -> Self {
        Self { data, image: None }
    }

    /// The signals of the state that was encoded: not once more where they are the state itself.
    pub(crate) fn image<S: Serialize>(
        &self,
        state: &S,
        signals: &impl Serialize,
    ) -> Result<EncodedFields, EncodeError> {
        match &self.image {
            Some(image) if is_itself(state, signals) => Ok(image.clone()),
            _ => EncodedFields::about(signals, self.data.len() + MORE),
        }
    }
}

impl fmt::Debug for EncodedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} fields, {} bytes)", self.len(), self.json.len())
    }
}

/// Why signals cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Neither a struct nor a map.
    #[error("signals are a struct or a map with text keys, not {0}: put it into a field of a struct")]
    Shape(&'static str),
    /// A name that no signal can have.
    #[error(
        "`{0}` cannot name a signal: use `[a-z][a-z0-9_]*` without `__`, and not `constructor` or `prototype`"
    )]
    Name(String),
    /// A key inside a field that would pollute a prototype in the browser.
    #[error(
        "`{0}` cannot be a key: every JavaScript object inherits something of this name, and dots separate names"
    )]
    Reserved(String),
    /// A name that a map gives twice.
    #[error("`{0}` is there twice: a flattened map must not repeat the struct's own fields")]
    Repeated(String),
    /// A map inside a field whose keys are neither texts nor integers.
    #[error("a map's keys are texts, integers, characters or booleans, not {0}")]
    Key(&'static str),
    /// JSON has no such number.
    #[error("a float is not finite: store an `Option` or check it in `apply`")]
    NotFinite,
    /// A `Serialize` of the application refused.
    #[error("{0}")]
    Custom(String),
    /// Something is wrong inside a field.
    #[error("in `{field}`: {source}")]
    Field {
        /// The field at the top.
        field: String,
        /// What is wrong.
        source: Box<Self>,
    },
}

/// An [`EncodeError`] as serializers pass it on: one word, so that what does not fail stays in registers.
#[derive(Debug)]
pub(super) struct Failed(Box<EncodeError>);

impl Failed {
    pub(super) fn within(self, field: &str) -> Self {
        EncodeError::Field { field: field.to_owned(), source: self.0 }.into()
    }
}

impl From<EncodeError> for Failed {
    #[cold]
    fn from(error: EncodeError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: fmt::Display>(message: T) -> Self {
        EncodeError::Custom(message.to_string()).into()
    }
}

/// Where most states fit without growing.
pub(crate) const ROOM: usize = 128;

/// By how many bytes a state may grow before its buffer does.
pub(crate) const MORE: usize = 32;

/// Lets a struct or map pass.
struct Top<'a>(&'a mut Written<Sent>);

macro_rules! refused {
    ($($method:ident($($argument:ty),*) = $what:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<(), Failed> {
            Err(EncodeError::Shape($what).into())
        }
    )*};
}

impl<'a> Serializer for Top<'a> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Impossible<(), Failed>;
    type SerializeTuple = Impossible<(), Failed>;
    type SerializeTupleStruct = Impossible<(), Failed>;
    type SerializeTupleVariant = Impossible<(), Failed>;
    type SerializeMap = Items<'a, Sent>;
    type SerializeStruct = Items<'a, Sent>;
    type SerializeStructVariant = Impossible<(), Failed>;

    refused! {
        serialize_bool(bool) = "a boolean";
        serialize_i8(i8) = "a number";
        serialize_i16(i16) = "a number";
        serialize_i32(i32) = "a number";
        serialize_i64(i64) = "a number";
        serialize_i128(i128) = "a number";
        serialize_u8(u8) = "a number";
        serialize_u16(u16) = "a number";
        serialize_u32(u32) = "a number";
        serialize_u64(u64) = "a number";
        serialize_u128(u128) = "a number";
        serialize_f32(f32) = "a number";
        serialize_f64(f64) = "a number";
        serialize_char(char) = "a character";
        serialize_str(&str) = "a text";
        serialize_bytes(&[u8]) = "bytes";
        serialize_none() = "`None`";
        serialize_unit() = "nothing";
        serialize_unit_struct(&'static str) = "a struct without braces: write `struct Name {}`";
        serialize_unit_variant(&'static str, u32, &'static str) = "an enum";
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Failed> {
        Err(EncodeError::Shape("an enum").into())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Failed> {
        Err(EncodeError::Shape("a list").into())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Failed> {
        Err(EncodeError::Shape("a tuple").into())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Failed> {
        Err(EncodeError::Shape("a tuple").into())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Failed> {
        Err(EncodeError::Shape("an enum").into())
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Items<'a, Sent>, Failed> {
        Value::new(self.0).serialize_map(len)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Items<'a, Sent>, Failed> {
        Value::new(self.0).serialize_struct(name, len)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Failed> {
        Err(EncodeError::Shape("an enum").into())
    }
}
