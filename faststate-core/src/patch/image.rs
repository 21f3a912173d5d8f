//! A state as encoded fields.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{
    Serialize,
    ser::{self, Impossible, SerializeMap, SerializeStruct, Serializer},
};

use super::encode::{Kept, MapKey, Sent, Value};
use crate::key::check_name;

/// A state's signals, encoded once by the wire's rules: one JSON object, and where each field is in it.
///
/// The rules: what is absent (`None`, `()`, a skipped field) is `""`, because Datastar deletes what is
/// `null`; integers beyond 2^53 are strings; JSON is strict and compact.
#[derive(Clone)]
pub struct Image {
    json: Bytes,
    fields: Arc<[Span]>,
    open: bool,
}

/// Where a field is in the JSON object.
#[derive(Clone, Debug)]
struct Span {
    name: Range<usize>,
    end: usize,
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

impl Image {
    /// Encodes a struct or map.
    ///
    /// # Errors
    /// What is not a struct or map at the top, an illegal or reserved name, a name given twice, a map
    /// whose keys are no text, a float that is not finite, and what a `Serialize` of the application
    /// refuses.
    pub fn of(signals: &impl Serialize) -> Result<Self, ImageError> {
        Self::about(signals, ROOM)
    }

    /// As [`of`](Self::of), where about so many bytes are expected.
    pub(crate) fn about(signals: &impl Serialize, bytes: usize) -> Result<Self, ImageError> {
        signals.serialize(Top { bytes }).map_err(|Failed(error)| *error)
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

/// A state as a store keeps it: plain JSON, but refused where JSON (a float that is not finite) or a
/// browser (a reserved key) could not give it back. About so many `bytes` are expected.
pub(crate) fn stored(state: &impl Serialize, bytes: usize) -> Result<Bytes, ImageError> {
    let mut out = Vec::with_capacity(bytes);
    state.serialize(Value::<Kept>::new(&mut out)).map_err(|Failed(error)| *error)?;
    Ok(out.into())
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} fields, {} bytes)", self.len(), self.json.len())
    }
}

/// Why signals cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
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

/// An [`ImageError`] as serializers pass it on: one word, so that what does not fail stays in registers.
#[derive(Debug)]
pub(super) struct Failed(Box<ImageError>);

impl Failed {
    fn within(self, field: &str) -> Self {
        ImageError::Field { field: field.to_owned(), source: self.0 }.into()
    }
}

impl From<ImageError> for Failed {
    #[cold]
    fn from(error: ImageError) -> Self {
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
        ImageError::Custom(message.to_string()).into()
    }
}

/// Takes a struct or map apart into fields.
struct Top {
    bytes: usize,
}

/// Where most states fit without growing.
pub(crate) const ROOM: usize = 128;

/// Each field begins with a comma, of which the first becomes the brace.
struct Fields {
    out: Vec<u8>,
    fields: Vec<Span>,
    open: bool,
    /// Whether each name so far is greater than the one before it.
    sorted: bool,
}

impl Fields {
    fn new(bytes: usize, fields: usize, open: bool) -> Self {
        Self { out: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields), open, sorted: true }
    }

    /// The name that ends the buffer and has just passed `check`.
    fn name(&self, name: &Range<usize>) -> &str {
        std::str::from_utf8(&self.out[name.clone()]).unwrap_or_default()
    }

    fn value(&mut self, name: Range<usize>, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        if let Err(error) = value.serialize(Value::<Sent>::new(&mut self.out)) {
            return Err(error.within(self.name(&name)));
        }
        self.fields.push(Span { name, end: self.out.len() });
        Ok(())
    }

    fn static_name(&mut self, name: &'static str) -> Result<Range<usize>, Failed> {
        check_name(name).map_err(|_| ImageError::Name(name.to_owned()))?;
        self.out.extend_from_slice(b",\"");
        let start = self.out.len();
        self.out.extend_from_slice(name.as_bytes());
        let end = self.out.len();
        self.out.extend_from_slice(b"\":");
        Ok(start..end)
    }

    fn finish(mut self) -> Image {
        match self.out.first_mut() {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
        Image { json: self.out.into(), fields: self.fields.into(), open: self.open }
    }
}

impl SerializeStruct for Fields {
    type Ok = Image;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        let name = self.static_name(name)?;
        self.value(name, value)
    }

    /// A field that `skip_serializing_if` leaves out is absent like `None`: were it left out here, a
    /// follower that has an old value would keep it.
    fn skip_field(&mut self, name: &'static str) -> Result<(), Failed> {
        let name = self.static_name(name)?;
        self.value(name, "")
    }

    fn end(self) -> Result<Image, Failed> {
        Ok(self.finish())
    }
}

impl SerializeMap for Fields {
    type Ok = Image;
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.out.push(b',');
        let start = self.out.len() + 1;
        key.serialize(MapKey::new(&mut self.out))?;
        let name = start..self.out.len() - 1;
        let text = self.name(&name);
        if check_name(text).is_err() {
            return Err(ImageError::Name(text.to_owned()).into());
        }
        // A name greater than all before it is certainly new; otherwise look at each.
        let bytes = text.as_bytes();
        let sorted =
            self.sorted && self.fields.last().is_none_or(|last| self.out[last.name.clone()] < *bytes);
        if !sorted && self.fields.iter().any(|span| self.out[span.name.clone()] == *bytes) {
            return Err(ImageError::Repeated(text.to_owned()).into());
        }
        self.sorted = sorted;
        self.fields.push(Span { name, end: 0 });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        match self.fields.pop() {
            Some(Span { name, end: 0 }) => {
                self.out.push(b':');
                self.value(name, value)
            }
            _ => Err(ser::Error::custom("a map gave a value without a key")),
        }
    }

    fn end(self) -> Result<Image, Failed> {
        match self.fields.last() {
            Some(Span { end: 0, .. }) => Err(ser::Error::custom("a map gave a key without a value")),
            _ => Ok(self.finish()),
        }
    }
}

macro_rules! refused {
    ($($method:ident($($argument:ty),*) = $what:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<Image, Failed> {
            Err(ImageError::Shape($what).into())
        }
    )*};
}

impl Serializer for Top {
    type Ok = Image;
    type Error = Failed;
    type SerializeSeq = Impossible<Image, Failed>;
    type SerializeTuple = Impossible<Image, Failed>;
    type SerializeTupleStruct = Impossible<Image, Failed>;
    type SerializeTupleVariant = Impossible<Image, Failed>;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Image, Failed>;

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

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Image, Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Image, Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Image, Failed> {
        Err(ImageError::Shape("an enum").into())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Failed> {
        Err(ImageError::Shape("a list").into())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Failed> {
        Err(ImageError::Shape("a tuple").into())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Failed> {
        Err(ImageError::Shape("a tuple").into())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Failed> {
        Err(ImageError::Shape("an enum").into())
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Fields, Failed> {
        Ok(Fields::new(self.bytes, len.unwrap_or_default(), true))
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Fields, Failed> {
        Ok(Fields::new(self.bytes, len, false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Failed> {
        Err(ImageError::Shape("an enum").into())
    }
}
