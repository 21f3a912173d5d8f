//! Serializes a value and the items or fields in it.

use std::{fmt, ops::Range};

use serde::{
    Serialize,
    ser::{
        self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

use super::{
    buffer::EncodeBuffer,
    form::Form,
    json::{push_key, push_plain, push_quoted},
    key::KeySerializer,
};
use crate::patch::{EncodeError, error::BoxedEncodeError};

/// JavaScript represents each integer exactly up to 2 to the power of this.
const EXACT_BITS: u32 = 53;

/// Writes one value.
pub(in crate::patch) struct ValueSerializer<'a, F> {
    out: &'a mut EncodeBuffer<F>,
}

/// Writes the items of a list or the fields of a map or struct.
///
/// Each item is written with a leading comma. The first comma is then replaced by the opening bracket.
pub(in crate::patch) struct CompoundSerializer<'a, F> {
    out: &'a mut EncodeBuffer<F>,
    start: usize,
    open: u8,
    close: &'static [u8],
}

impl<'a, F: Form> ValueSerializer<'a, F> {
    pub(in crate::patch) const fn new(out: &'a mut EncodeBuffer<F>) -> Self {
        Self { out }
    }

    /// Writes `None` or `()`.
    fn absent(self) -> Result<(), BoxedEncodeError> {
        self.out.form.mark_different();
        self.out.json.extend_from_slice(F::ABSENT.as_bytes());
        Ok(())
    }

    /// Writes a number, string or boolean as serde_json does.
    fn plain(self, value: &(impl Serialize + ?Sized)) -> Result<(), BoxedEncodeError> {
        push_plain(&mut self.out.json, value)
    }

    /// Writes an integer that JavaScript cannot represent exactly.
    fn inexact(self, value: &(impl Serialize + ?Sized)) -> Result<(), BoxedEncodeError> {
        self.out.form.mark_different();
        if F::IS_WIRE { push_quoted(&mut self.out.json, value) } else { self.plain(value) }
    }

    fn compound(self, open: u8, close: &'static [u8]) -> CompoundSerializer<'a, F> {
        CompoundSerializer { start: self.out.json.len(), out: self.out, open, close }
    }

    /// Writes `{"variant":`, which precedes the content of the variant.
    fn variant(self, variant: &'static str) -> Result<Self, BoxedEncodeError> {
        self.out.json.push(b'{');
        push_key(&mut self.out.json, variant)?;
        self.out.json.push(b':');
        Ok(self)
    }
}

macro_rules! serialize_plain {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), BoxedEncodeError> {
            self.plain(&value)
        }
    )*};
}

macro_rules! serialize_integer {
    ($($method:ident($type:ty) $(. $magnitude:ident)?;)*) => {$(
        fn $method(self, value: $type) -> Result<(), BoxedEncodeError> {
            let exact = value$(.$magnitude())? <= 1 << EXACT_BITS;
            if exact { self.plain(&value) } else { self.inexact(&value) }
        }
    )*};
}

macro_rules! serialize_float {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), BoxedEncodeError> {
            if value.is_finite() { self.plain(&value) } else { Err(EncodeError::NotFinite.into()) }
        }
    )*};
}

impl<'a, F: Form> Serializer for ValueSerializer<'a, F> {
    type Ok = ();
    type Error = BoxedEncodeError;
    type SerializeSeq = CompoundSerializer<'a, F>;
    type SerializeTuple = CompoundSerializer<'a, F>;
    type SerializeTupleStruct = CompoundSerializer<'a, F>;
    type SerializeTupleVariant = CompoundSerializer<'a, F>;
    type SerializeMap = CompoundSerializer<'a, F>;
    type SerializeStruct = CompoundSerializer<'a, F>;
    type SerializeStructVariant = CompoundSerializer<'a, F>;

    serialize_plain! {
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

    serialize_integer! {
        serialize_i64(i64).unsigned_abs;
        serialize_i128(i128).unsigned_abs;
        serialize_u64(u64);
        serialize_u128(u128);
    }

    serialize_float! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    fn serialize_none(self) -> Result<(), BoxedEncodeError> {
        self.absent()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), BoxedEncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), BoxedEncodeError> {
        self.absent()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), BoxedEncodeError> {
        self.absent()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), BoxedEncodeError> {
        self.plain(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), BoxedEncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), BoxedEncodeError> {
        let Self { out } = self.variant(variant)?;
        value.serialize(ValueSerializer::new(out))?;
        out.json.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        Ok(self.compound(b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        Ok(self.compound(b'[', b"]"))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        Ok(self.compound(b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        Ok(self.variant(variant)?.compound(b'[', b"]}"))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        self.out.expect_fields(len.unwrap_or_default(), true);
        Ok(self.compound(b'{', b"}"))
    }

    fn serialize_struct(
        self,
        _: &'static str,
        len: usize,
    ) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        self.out.expect_fields(len, false);
        Ok(self.compound(b'{', b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<CompoundSerializer<'a, F>, BoxedEncodeError> {
        Ok(self.variant(variant)?.compound(b'{', b"}}"))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), BoxedEncodeError> {
        serde_json::Serializer::new(&mut self.out.json).collect_str(value).map_err(ser::Error::custom)
    }
}

impl<F: Form> CompoundSerializer<'_, F> {
    /// Returns whether this is the top-level value.
    const fn is_top_level(&self) -> bool {
        self.start == 0
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), BoxedEncodeError> {
        self.out.json.push(b',');
        value.serialize(ValueSerializer::new(self.out))
    }

    fn field(
        &mut self,
        name: &'static str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), BoxedEncodeError> {
        if self.is_top_level() {
            return self.top_level_field(name, value);
        }
        self.out.json.push(b',');
        push_key(&mut self.out.json, name)?;
        self.out.json.push(b':');
        value.serialize(ValueSerializer::new(self.out))
    }

    fn top_level_field(
        &mut self,
        name: &'static str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), BoxedEncodeError> {
        let name = self.out.begin_field(name)?;
        self.top_level_value(name, value)
    }

    /// Writes the value of a top-level field or entry whose name has just been written.
    fn top_level_value(
        &mut self,
        name: Range<usize>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), BoxedEncodeError> {
        if let Err(error) = value.serialize(ValueSerializer::new(self.out)) {
            return Err(error.within(self.out.name(name)));
        }
        self.out.end_field(name);
        Ok(())
    }

    /// Encodes a top-level field that `skip_serializing_if` omits as absent, like `None`.
    ///
    /// If the wire form omitted the field, a follower would keep its previous value. In nested values, the diff
    /// clears such fields.
    fn skip(&mut self, name: &'static str) -> Result<(), BoxedEncodeError> {
        if !self.is_top_level() {
            return Ok(());
        }
        self.out.form.mark_different();
        if F::IS_WIRE { self.top_level_field(name, "") } else { Ok(()) }
    }

    fn close(self) {
        match self.out.json.get_mut(self.start) {
            Some(comma) => *comma = self.open,
            None => self.out.json.push(self.open),
        }
        self.out.json.extend_from_slice(self.close);
    }
}

macro_rules! impl_list {
    ($($compound:ident::$method:ident;)*) => {$(
        impl<F: Form> $compound for CompoundSerializer<'_, F> {
            type Ok = ();
            type Error = BoxedEncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BoxedEncodeError> {
                self.item(value)
            }

            fn end(self) -> Result<(), BoxedEncodeError> {
                self.close();
                Ok(())
            }
        }
    )*};
}

macro_rules! impl_struct {
    ($($compound:ident;)*) => {$(
        impl<F: Form> $compound for CompoundSerializer<'_, F> {
            type Ok = ();
            type Error = BoxedEncodeError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), BoxedEncodeError> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), BoxedEncodeError> {
                self.skip(name)
            }

            fn end(self) -> Result<(), BoxedEncodeError> {
                self.close();
                Ok(())
            }
        }
    )*};
}

impl_list! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

impl_struct! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<F: Form> SerializeMap for CompoundSerializer<'_, F> {
    type Ok = ();
    type Error = BoxedEncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), BoxedEncodeError> {
        self.out.json.push(b',');
        let start = self.out.json.len() + 1;
        key.serialize(KeySerializer::new(&mut self.out.json))?;
        if self.is_top_level() { self.out.begin_entry(start..self.out.json.len() - 1) } else { Ok(()) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BoxedEncodeError> {
        self.out.json.push(b':');
        if !self.is_top_level() {
            return value.serialize(ValueSerializer::new(self.out));
        }
        match self.out.take_pending_key() {
            Some(name) => self.top_level_value(name, value),
            None => Err(ser::Error::custom("a map serialized a value without a key")),
        }
    }

    fn end(self) -> Result<(), BoxedEncodeError> {
        if self.is_top_level() {
            if self.out.has_pending_key() {
                return Err(ser::Error::custom("a map serialized a key without a value"));
            }
            self.out.check_unique()?;
        }
        self.close();
        Ok(())
    }
}
