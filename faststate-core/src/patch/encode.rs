//! A value as JSON, in one of two forms, written straight into one buffer.

use std::marker::PhantomData;

use serde::{
    Serialize,
    ser::{
        self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

use super::{ImageError, image::Failed};
use crate::key::pollutes;

/// Up to 2 to this, every integer is a JavaScript number of its own.
const EXACT_BITS: u32 = 53;

/// What differs between what a browser is sent and what a store keeps. Both refuse what JSON or a
/// browser could not give back.
pub(super) trait Form {
    /// What stands for `None` and `()`.
    const ABSENT: &'static str;
    /// Whether integers beyond 2^53 are texts.
    const EXACT: bool;
}

/// What a browser is sent.
pub(super) enum Sent {}

/// What a store keeps.
pub(super) enum Kept {}

impl Form for Sent {
    const ABSENT: &'static str = "\"\"";
    const EXACT: bool = true;
}

impl Form for Kept {
    const ABSENT: &'static str = "null";
    const EXACT: bool = false;
}

/// Writes one value.
pub(super) struct Value<'a, F> {
    out: &'a mut Vec<u8>,
    form: PhantomData<F>,
}

/// Writes a list, a map or a struct, item by item. Each begins with a comma, of which the first becomes the
/// bracket.
pub(super) struct Items<'a, F> {
    out: &'a mut Vec<u8>,
    form: PhantomData<F>,
    start: usize,
    open: u8,
    close: &'static [u8],
}

/// Writes a map's key.
pub(super) struct MapKey<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a, F: Form> Value<'a, F> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, form: PhantomData }
    }

    fn absent(self) -> Result<(), Failed> {
        self.out.extend_from_slice(F::ABSENT.as_bytes());
        Ok(())
    }

    /// A number, text or boolean, as serde_json writes it.
    fn plain(self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        plain(self.out, value)
    }

    fn quoted(self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.out.push(b'"');
        plain(self.out, value)?;
        self.out.push(b'"');
        Ok(())
    }

    fn items(self, open: u8, close: &'static [u8]) -> Items<'a, F> {
        Items { start: self.out.len(), out: self.out, form: PhantomData, open, close }
    }

    /// `{"variant":` before the variant's content.
    fn variant(self, variant: &'static str) -> Result<Self, Failed> {
        self.out.push(b'{');
        text_key(self.out, variant)?;
        self.out.push(b':');
        Ok(self)
    }
}

fn plain(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
    value.serialize(&mut serde_json::Serializer::new(out)).map_err(ser::Error::custom)
}

fn text_key(out: &mut Vec<u8>, key: &str) -> Result<(), Failed> {
    if pollutes(key) {
        return Err(ImageError::Reserved(key.to_owned()).into());
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
            if exact || !F::EXACT { self.plain(&value) } else { self.quoted(&value) }
        }
    )*};
}

macro_rules! finite {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<(), Failed> {
            if value.is_finite() { self.plain(&value) } else { Err(ImageError::NotFinite.into()) }
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
        let Self { out, .. } = self.variant(variant)?;
        value.serialize(Value::<F>::new(out))?;
        out.push(b'}');
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

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'a, F>, Failed> {
        Ok(self.items(b'{', b"}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a, F>, Failed> {
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
        serde_json::Serializer::new(self.out).collect_str(value).map_err(ser::Error::custom)
    }
}

impl<F: Form> Items<'_, F> {
    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.out.push(b',');
        value.serialize(Value::<F>::new(self.out))
    }

    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.out.push(b',');
        text_key(self.out, name)?;
        self.out.push(b':');
        value.serialize(Value::<F>::new(self.out))
    }

    fn close(self) {
        match self.out.get_mut(self.start) {
            Some(comma) => *comma = self.open,
            None => self.out.push(self.open),
        }
        self.out.extend_from_slice(self.close);
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
        self.out.push(b',');
        key.serialize(MapKey::new(self.out))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.out.push(b':');
        value.serialize(Value::<F>::new(self.out))
    }

    fn end(self) -> Result<(), Failed> {
        self.close();
        Ok(())
    }
}

impl<'a> MapKey<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }
}

macro_rules! quoted {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, key: $type) -> Result<(), Failed> {
            Value::<Kept>::new(self.out).quoted(&key)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($argument:ty),*) -> $result:ty = $what:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, Failed> {
            Err(ImageError::Key($what).into())
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
        Err(ImageError::Key("enums with content").into())
    }
}
