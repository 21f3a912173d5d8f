//! A value as JSON, in one of two forms, written straight into one buffer.

use std::ops::Range;

use serde::{
    Serialize,
    ser::{
        self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

use super::{EncodeError, encoded_fields::Failed};
use crate::key::{check_name, pollutes};

/// Up to 2 to this, every integer is a JavaScript number of its own.
const EXACT_BITS: u32 = 53;

/// What differs between what a browser is sent and what a store keeps. Both refuse what JSON or a
/// browser could not give back.
pub(super) trait Form: Default {
    /// What stands for `None` and `()`.
    const ABSENT: &'static str;
    /// Whether integers beyond 2^53 are texts, a field that is skipped is absent, and fields are signals.
    const IS_SENT: bool;

    /// Notes that the other form is written in another way.
    fn differs(&mut self) {}
}

/// What a browser is sent.
#[derive(Default)]
pub(super) struct Sent;

/// What a store keeps.
#[derive(Default)]
pub(super) struct Kept {
    /// Whether a browser would be sent something else.
    pub(super) differs: bool,
}

impl Form for Sent {
    const ABSENT: &'static str = "\"\"";
    const IS_SENT: bool = true;
}

impl Form for Kept {
    const ABSENT: &'static str = "null";
    const IS_SENT: bool = false;

    fn differs(&mut self) {
        self.differs = true;
    }
}

/// What has been written of a value.
pub(super) struct Written<F> {
    pub(super) json: Vec<u8>,
    /// Where the value's own fields are, if it is a struct or a map.
    pub(super) fields: Option<Fields>,
    pub(super) form: F,
}

/// The fields of a struct or map.
pub(super) struct Fields {
    pub(super) spans: Vec<Span>,
    /// Whether another value of the same type may have others: a map, or a struct that flattens one.
    pub(super) open: bool,
    /// Whether each name so far is greater than the one before it.
    sorted: bool,
}

/// Where a field is in the JSON object.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) name: Range<usize>,
    /// 0 until the value is written.
    pub(super) end: usize,
}

/// Writes one value.
pub(super) struct Value<'a, F> {
    out: &'a mut Written<F>,
}

/// Writes a list, a map or a struct, item by item. Each begins with a comma, of which the first becomes the
/// bracket.
pub(super) struct Items<'a, F> {
    out: &'a mut Written<F>,
    start: usize,
    open: u8,
    close: &'static [u8],
}

/// Writes a map's key.
pub(super) struct MapKey<'a> {
    out: &'a mut Vec<u8>,
}

impl<F: Form> Written<F> {
    /// Nothing yet, with room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { json: Vec::with_capacity(bytes), fields: None, form: F::default() }
    }

    /// Expects fields if what comes now is the value itself, and not something in it.
    fn expect_fields(&mut self, len: usize, open: bool) {
        if self.json.is_empty() {
            self.fields = Some(Fields { spans: Vec::with_capacity(len), open, sorted: true });
        }
    }

    /// A struct's own field.
    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        let start = self.json.len() + 2;
        if check_name(name).is_ok() {
            self.json.extend_from_slice(b",\"");
            self.json.extend_from_slice(name.as_bytes());
            self.json.extend_from_slice(b"\":");
        } else {
            self.unsent(EncodeError::Name(name.to_owned()))?;
            self.json.push(b',');
            text_key(&mut self.json, name)?;
            self.json.push(b':');
        }
        self.value(start..self.json.len() - 2, value)
    }

    /// A map's own key, which has just been written.
    fn key(&mut self, name: Range<usize>) -> Result<(), Failed> {
        let Some(fields) = &mut self.fields else { return Ok(()) };
        let bytes = &self.json[name.clone()];
        fields.sorted &= fields.spans.last().is_none_or(|last| self.json[last.name.clone()] < *bytes);
        let text = text(bytes);
        let error = check_name(text).err().map(|_| EncodeError::Name(text.to_owned()));
        fields.spans.push(Span { name, end: 0 });
        error.map_or(Ok(()), |error| self.unsent(error))
    }

    /// Refuses a name that a map has given twice.
    fn check_unique(&mut self) -> Result<(), Failed> {
        let Some(fields) = self.fields.as_ref().filter(|fields| !fields.sorted) else { return Ok(()) };
        let mut names: Vec<_> = fields.spans.iter().map(|span| &self.json[span.name.clone()]).collect();
        // The names of a flattened map come sorted after the struct's own, and a stable sort merges the two.
        names.sort();
        let repeated = names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(EncodeError::Repeated(text(one).to_owned())),
            _ => None,
        });
        repeated.map_or(Ok(()), |error| self.unsent(error))
    }

    /// The value of a struct's or map's own field, whose name has just been written.
    fn value(&mut self, name: Range<usize>, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        if let Err(error) = value.serialize(Value::new(self)) {
            return Err(error.within(text(&self.json[name])));
        }
        if let Some(fields) = &mut self.fields {
            fields.spans.push(Span { name, end: self.json.len() });
        }
        Ok(())
    }

    /// What is no signal: that is refused, unless it need not be one.
    fn unsent(&mut self, error: EncodeError) -> Result<(), Failed> {
        if F::IS_SENT {
            return Err(error.into());
        }
        self.form.differs();
        Ok(())
    }
}

/// A name that has passed a check.
fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

impl<'a, F: Form> Value<'a, F> {
    pub(super) const fn new(out: &'a mut Written<F>) -> Self {
        Self { out }
    }

    fn absent(self) -> Result<(), Failed> {
        self.out.form.differs();
        self.out.json.extend_from_slice(F::ABSENT.as_bytes());
        Ok(())
    }

    /// A number, text or boolean, as serde_json writes it.
    fn plain(self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        plain(&mut self.out.json, value)
    }

    /// An integer that is no JavaScript number of its own.
    fn beyond(self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.out.form.differs();
        if F::IS_SENT { quoted(&mut self.out.json, value) } else { self.plain(value) }
    }

    fn items(self, open: u8, close: &'static [u8]) -> Items<'a, F> {
        Items { start: self.out.json.len(), out: self.out, open, close }
    }

    /// `{"variant":` before the variant's content.
    fn variant(self, variant: &'static str) -> Result<Self, Failed> {
        self.out.json.push(b'{');
        text_key(&mut self.out.json, variant)?;
        self.out.json.push(b':');
        Ok(self)
    }
}

fn plain(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
    value.serialize(&mut serde_json::Serializer::new(out)).map_err(ser::Error::custom)
}

fn quoted(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
    out.push(b'"');
    plain(out, value)?;
    out.push(b'"');
    Ok(())
}

fn text_key(out: &mut Vec<u8>, key: &str) -> Result<(), Failed> {
    if pollutes(key) {
        return Err(EncodeError::Reserved(key.to_owned()).into());
    }
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return plain(out, key);
    }
    // Most keys are names of fields: nothing to escape.
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    Ok(())
}

macro_rules! plainly {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), Failed> {
            self.plain(&value)
        }
    )*};
}

macro_rules! exactly {
    ($($method:ident($type:ty) $(. $magnitude:ident)?;)*) => {$(
        fn $method(self, value: $type) -> Result<(), Failed> {
            let exact = value$(.$magnitude())? <= 1 << EXACT_BITS;
            if exact { self.plain(&value) } else { self.beyond(&value) }
        }
    )*};
}

macro_rules! finite {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), Failed> {
            if value.is_finite() { self.plain(&value) } else { Err(EncodeError::NotFinite.into()) }
        }
    )*};
}

impl<'a, F: Form> Serializer for Value<'a, F> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Items<'a, F>;
    type SerializeTuple = Items<'a, F>;
    type SerializeTupleStruct = Items<'a, F>;
    type SerializeTupleVariant = Items<'a, F>;
    type SerializeMap = Items<'a, F>;
    type SerializeStruct = Items<'a, F>;
    type SerializeStructVariant = Items<'a, F>;

    plainly! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
    }

    exactly! {
        serialize_i64(i64).unsigned_abs;
        serialize_i128(i128).unsigned_abs;
        serialize_u64(u64);
        serialize_u128(u128);
    }

    finite! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    fn serialize_none(self) -> Result<(), Failed> {
        self.absent()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failed> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Failed> {
        self.absent()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failed> {
        self.absent()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Failed> {
        self.plain(variant)
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
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        let Self { out } = self.variant(variant)?;
        value.serialize(Value::new(out))?;
        out.json.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a, F>, Failed> {
        Ok(self.items(b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a, F>, Failed> {
        Ok(self.items(b'[', b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a, F>, Failed> {
        Ok(self.items(b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a, F>, Failed> {
        Ok(self.variant(variant)?.items(b'[', b"]}"))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Items<'a, F>, Failed> {
        self.out.expect_fields(len.unwrap_or_default(), true);
        Ok(self.items(b'{', b"}"))
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Items<'a, F>, Failed> {
        self.out.expect_fields(len, false);
        Ok(self.items(b'{', b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a, F>, Failed> {
        Ok(self.variant(variant)?.items(b'{', b"}}"))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Failed> {
        serde_json::Serializer::new(&mut self.out.json).collect_str(value).map_err(ser::Error::custom)
    }
}

impl<F: Form> Items<'_, F> {
    /// Whether these are the fields of the value itself, and not of something in it.
    const fn is_whole(&self) -> bool {
        self.start == 0
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.out.json.push(b',');
        value.serialize(Value::new(self.out))
    }

    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        if self.is_whole() {
            return self.out.field(name, value);
        }
        self.out.json.push(b',');
        text_key(&mut self.out.json, name)?;
        self.out.json.push(b':');
        value.serialize(Value::new(self.out))
    }

    /// A field that `skip_serializing_if` leaves out is absent like `None`: were it left out of what is sent, a
    /// follower that has an old value would keep it. Inside a field, that is cleared where it must be.
    fn skip(&mut self, name: &'static str) -> Result<(), Failed> {
        if !self.is_whole() {
            return Ok(());
        }
        self.out.form.differs();
        if F::IS_SENT { self.out.field(name, "") } else { Ok(()) }
    }

    fn close(self) {
        match self.out.json.get_mut(self.start) {
            Some(comma) => *comma = self.open,
            None => self.out.json.push(self.open),
        }
        self.out.json.extend_from_slice(self.close);
    }
}

macro_rules! items {
    ($($compound:ident::$method:ident;)*) => {$(
        impl<F: Form> $compound for Items<'_, F> {
            type Ok = ();
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
                self.item(value)
            }

            fn end(self) -> Result<(), Failed> {
                self.close();
                Ok(())
            }
        }
    )*};
}

macro_rules! fields {
    ($($compound:ident;)*) => {$(
        impl<F: Form> $compound for Items<'_, F> {
            type Ok = ();
            type Error = Failed;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Failed> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Failed> {
                self.skip(name)
            }

            fn end(self) -> Result<(), Failed> {
                self.close();
                Ok(())
            }
        }
    )*};
}

items! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<F: Form> SerializeMap for Items<'_, F> {
    type Ok = ();
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.out.json.push(b',');
        let start = self.out.json.len() + 1;
        key.serialize(MapKey { out: &mut self.out.json })?;
        if self.is_whole() { self.out.key(start..self.out.json.len() - 1) } else { Ok(()) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.out.json.push(b':');
        if !self.is_whole() {
            return value.serialize(Value::new(self.out));
        }
        match self.out.fields.as_mut().and_then(|fields| fields.spans.pop()) {
            Some(Span { name, end: 0 }) => self.out.value(name, value),
            _ => Err(ser::Error::custom("a map gave a value without a key")),
        }
    }

    fn end(self) -> Result<(), Failed> {
        let last = self.out.fields.as_ref().and_then(|fields| fields.spans.last());
        if self.is_whole() && last.is_some_and(|last| last.end == 0) {
            return Err(ser::Error::custom("a map gave a key without a value"));
        }
        if self.is_whole() {
            self.out.check_unique()?;
        }
        self.close();
        Ok(())
    }
}

macro_rules! quoted {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, key: $type) -> Result<(), Failed> {
            quoted(self.out, &key)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($argument:ty),*) -> $result:ty = $what:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, Failed> {
            Err(EncodeError::Key($what).into())
        }
    )*};
}

impl Serializer for MapKey<'_> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Impossible<(), Failed>;
    type SerializeTuple = Impossible<(), Failed>;
    type SerializeTupleStruct = Impossible<(), Failed>;
    type SerializeTupleVariant = Impossible<(), Failed>;
    type SerializeMap = Impossible<(), Failed>;
    type SerializeStruct = Impossible<(), Failed>;
    type SerializeStructVariant = Impossible<(), Failed>;

    quoted! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
    }

    refused! {
        serialize_f32(f32) -> () = "floats";
        serialize_f64(f64) -> () = "floats";
        serialize_bytes(&[u8]) -> () = "bytes";
        serialize_none() -> () = "`None`";
        serialize_unit() -> () = "nothing";
        serialize_unit_struct(&'static str) -> () = "structs";
        serialize_seq(Option<usize>) -> Self::SerializeSeq = "lists";
        serialize_tuple(usize) -> Self::SerializeTuple = "tuples";
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct = "tuples";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant = "enums with content";
        serialize_map(Option<usize>) -> Self::SerializeMap = "maps";
        serialize_struct(&'static str, usize) -> Self::SerializeStruct = "structs";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant = "enums with content";
    }

    fn serialize_char(self, key: char) -> Result<(), Failed> {
        plain(self.out, &key)
    }

    fn serialize_str(self, key: &str) -> Result<(), Failed> {
        text_key(self.out, key)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Failed> {
        text_key(self.out, variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<(), Failed> {
        key.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> Result<(), Failed> {
        key.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Failed> {
        Err(EncodeError::Key("enums with content").into())
    }
}
