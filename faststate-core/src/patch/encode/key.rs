//! Serializes the key of a map.

use serde::{
    Serialize,
    ser::{Impossible, Serializer},
};

use super::json::{push_key, push_plain, push_quoted};
use crate::patch::{EncodeError, error::BoxedEncodeError};

/// Writes the key of a map as a string.
pub(super) struct KeySerializer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> KeySerializer<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }
}

macro_rules! quoted_keys {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, key: $type) -> Result<(), BoxedEncodeError> {
            push_quoted(self.out, &key)
        }
    )*};
}

macro_rules! refused_keys {
    ($($method:ident($($argument:ty),*) -> $result:ty = $what:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, BoxedEncodeError> {
            Err(EncodeError::Key($what).into())
        }
    )*};
}

impl Serializer for KeySerializer<'_> {
    type Ok = ();
    type Error = BoxedEncodeError;
    type SerializeSeq = Impossible<(), BoxedEncodeError>;
    type SerializeTuple = Impossible<(), BoxedEncodeError>;
    type SerializeTupleStruct = Impossible<(), BoxedEncodeError>;
    type SerializeTupleVariant = Impossible<(), BoxedEncodeError>;
    type SerializeMap = Impossible<(), BoxedEncodeError>;
    type SerializeStruct = Impossible<(), BoxedEncodeError>;
    type SerializeStructVariant = Impossible<(), BoxedEncodeError>;

    quoted_keys! {
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

    refused_keys! {
        serialize_f32(f32) -> () = "floats";
        serialize_f64(f64) -> () = "floats";
        serialize_bytes(&[u8]) -> () = "bytes";
        serialize_none() -> () = "`None`";
        serialize_unit() -> () = "`()`";
        serialize_unit_struct(&'static str) -> () = "structs";
        serialize_seq(Option<usize>) -> Self::SerializeSeq = "lists";
        serialize_tuple(usize) -> Self::SerializeTuple = "tuples";
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct = "tuples";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant = "enums with content";
        serialize_map(Option<usize>) -> Self::SerializeMap = "maps";
        serialize_struct(&'static str, usize) -> Self::SerializeStruct = "structs";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant = "enums with content";
    }

    fn serialize_char(self, key: char) -> Result<(), BoxedEncodeError> {
        push_plain(self.out, &key)
    }

    fn serialize_str(self, key: &str) -> Result<(), BoxedEncodeError> {
        push_key(self.out, key)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), BoxedEncodeError> {
        push_key(self.out, variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<(), BoxedEncodeError> {
        key.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<(), BoxedEncodeError> {
        key.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), BoxedEncodeError> {
        Err(EncodeError::Key("enums with content").into())
    }
}
