//! Converts input values to the types that an event's fields request.

mod access;
mod convert;

use serde::de::{self, DeserializeSeed, IntoDeserializer, VariantAccess, Visitor};
use serde_json::Value;

pub(super) use self::access::ObjectAccess;
use self::access::{ListAccess, VariantContent};
use super::{decode_pass::DecodePass, fault::Fault};

/// Deserializes a value, and converts it to the requested type if the conversion is unambiguous.
pub(super) struct CoercingDeserializer<'a, 'r> {
    value: &'a Value,
    /// Whether the value belongs to a field, which can be absent. An item of a list cannot.
    entry: bool,
    pass: &'r DecodePass,
}

impl<'a, 'r> CoercingDeserializer<'a, 'r> {
    pub(super) const fn of(value: &'a Value, pass: &'r DecodePass) -> Self {
        Self { value, entry: false, pass }
    }

    pub(super) const fn of_entry(value: &'a Value, pass: &'r DecodePass) -> Self {
        Self { value, entry: true, pass }
    }

    /// Returns whether a field for a number was left blank.
    ///
    /// If so, this pass continues with 0 in its place, and the next pass omits the field.
    fn is_blank_number(&self) -> bool {
        let blank = match self.value {
            Value::Null => true,
            Value::String(text) => text.trim().is_empty(),
            _ => false,
        };
        let blank = blank && self.entry;
        if blank {
            self.pass.record_blank(self.value);
        }
        blank
    }

    /// Returns whether a field is `null`, which means absent for every type.
    ///
    /// If so, this pass continues with an empty value in its place, and the next pass omits the field.
    fn is_null_field(&self) -> bool {
        let is_null = self.value.is_null() && self.entry;
        if is_null {
            self.pass.record_blank(self.value);
        }
        is_null
    }

    fn object(&self) -> Result<ObjectAccess<'a, 'r>, Fault> {
        if self.is_null_field() {
            return Ok(ObjectAccess::new(std::iter::empty(), self.pass));
        }
        let object = self.value.as_object().ok_or_else(|| Fault::must_be("an object with named fields"))?;
        Ok(ObjectAccess::new(object.iter().map(|(name, value)| (name.as_str(), value)), self.pass))
    }

    fn list<'de, V: Visitor<'de>>(&self, len: Option<usize>, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_seq(ListAccess::new(&[], self.pass));
        }
        let items = self.value.as_array().ok_or_else(|| Fault::must_be("a list"))?;
        if let Some(len) = len.filter(|len| *len != items.len()) {
            return Err(Fault::must_be(format_args!("a list of {len}")));
        }
        visitor.visit_seq(ListAccess::new(items, self.pass))
    }

    fn is_empty_value(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
        }
    }
}

macro_rules! integers {
    ($($method:ident -> $visit:ident($type:ty);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            if self.is_blank_number() {
                return visitor.$visit(0);
            }
            visitor.$visit(convert::integer(self.value, <$type>::MIN..=<$type>::MAX)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for CoercingDeserializer<'_, '_> {
    type Error = Fault;

    /// Returns the value unconverted, because the requested type is unknown.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let exact = self.value.clone();
        exact.deserialize_any(visitor).map_err(de::Error::custom)
    }

    integers! {
        deserialize_i8 -> visit_i8(i8);
        deserialize_i16 -> visit_i16(i16);
        deserialize_i32 -> visit_i32(i32);
        deserialize_i64 -> visit_i64(i64);
        deserialize_i128 -> visit_i128(i128);
        deserialize_u8 -> visit_u8(u8);
        deserialize_u16 -> visit_u16(u16);
        deserialize_u32 -> visit_u32(u32);
        deserialize_u64 -> visit_u64(u64);
        deserialize_u128 -> visit_u128(u128);
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_blank_number() {
            return visitor.visit_f64(0.0);
        }
        visitor.visit_f64(convert::float(self.value)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_blank_number() {
            return visitor.visit_f32(0.0);
        }
        visitor.visit_f64(convert::single_float(self.value)?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_bool(false);
        }
        visitor.visit_bool(convert::boolean(self.value)?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_str("");
        }
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(flag) => visitor.visit_string(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(Fault::must_be("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_char('\0');
        }
        visitor.visit_char(convert::character(self.value)?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_bytes(text.as_bytes()),
            _ => self.list(None, visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_none(),
            Value::String(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_empty_value() { visitor.visit_unit() } else { Err(Fault::must_be("empty")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.list(None, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.list(Some(len), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.list(Some(len), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(self.object()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_map(self.object()?)
    }

    /// A variant without content is its name. A variant with content is an object whose only name is the variant's.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null if self.is_null_field() => Err(Fault::must_be("present")),
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Value::Object(map) if map.len() == 1 => {
                let entry = map.iter().next().map(|(name, content)| (name.as_str(), content));
                let (name, content) = entry.unwrap_or(("", &Value::Null));
                let content = Self { value: content, entry: false, ..self };
                visitor.visit_enum(VariantContent::new(name, content))
            }
            _ => Err(de::Error::unknown_variant("", variants)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

impl<'de> VariantAccess<'de> for CoercingDeserializer<'_, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        if self.is_empty_value() { Ok(()) } else { Err(Fault::must_be("without content")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_struct(self, "", fields, visitor)
    }
}
