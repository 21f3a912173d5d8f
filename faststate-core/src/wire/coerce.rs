//! Converts input values to the types that an event's fields request.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::Value;

use super::{decode_pass::DecodePass, fault::Fault};

/// 2^53: up to this value, a float represents each integer exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

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

    /// Whether a field for a number was left blank.
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

    /// Whether a field is `null`, which means absent for every type.
    ///
    /// If so, this pass continues with an empty value in its place, and the next pass omits the field.
    fn is_null_field(&self) -> bool {
        let is_null = self.value.is_null() && self.entry;
        if is_null {
            self.pass.record_blank(self.value);
        }
        is_null
    }

    fn float(&self) -> Result<f64, Fault> {
        let float = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        float.filter(|float| float.is_finite()).ok_or_else(|| Fault::must_be("a number"))
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
            return visitor.visit_seq(ListAccess { items: [].iter().enumerate(), pass: self.pass });
        }
        let items = self.value.as_array().ok_or_else(|| Fault::must_be("a list"))?;
        if let Some(len) = len.filter(|len| *len != items.len()) {
            return Err(Fault::must_be(format_args!("a list of {len}")));
        }
        visitor.visit_seq(ListAccess { items: items.iter().enumerate(), pass: self.pass })
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

/// Converts a value to an integer type.
macro_rules! whole {
    ($value:expr, $type:ty) => {{
        let range =
            || Fault::must_be(format_args!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX));
        match $value {
            Value::Number(number) if number.is_i64() => {
                <$type>::try_from(number.as_i64().unwrap_or_default()).map_err(|_| range())
            }
            Value::Number(number) if number.is_u64() => {
                <$type>::try_from(number.as_u64().unwrap_or_default()).map_err(|_| range())
            }
            Value::Number(number) => match number.as_f64().and_then(exact) {
                Some(whole) => <$type>::try_from(whole).map_err(|_| range()),
                None => Err(Fault::must_be("a whole number")),
            },
            Value::String(text) => match text.trim().parse::<$type>() {
                Ok(whole) => Ok(whole),
                Err(_) => match text.trim().parse().ok().and_then(exact) {
                    Some(whole) => <$type>::try_from(whole).map_err(|_| range()),
                    None if text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'-')
                        && text.trim() != "" =>
                    {
                        Err(range())
                    }
                    None => Err(Fault::must_be("a whole number")),
                },
            },
            _ => Err(Fault::must_be("a whole number")),
        }
    }};
}

/// Returns the integer that equals `float`, if exactly one integer converts to this float.
fn exact(float: f64) -> Option<i64> {
    let whole = float.fract() == 0.0 && float.abs() <= MAX_EXACT;
    // The value is in range, so the conversion is exact.
    #[expect(clippy::cast_possible_truncation)]
    whole.then_some(float as i64)
}

macro_rules! integers {
    ($($method:ident -> $visit:ident($type:ty);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            if self.is_blank_number() {
                return visitor.$visit(0);
            }
            visitor.$visit(whole!(self.value, $type)?)
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
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_blank_number() {
            return visitor.visit_f32(0.0);
        }
        let float = self.float()?;
        if float.abs() > f64::from(f32::MAX) {
            return Err(Fault::must_be(format_args!("a number from {:e} to {:e}", f32::MIN, f32::MAX)));
        }
        visitor.visit_f64(float)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_bool(false);
        }
        let flag = match self.value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) => match text.trim() {
                "on" | "true" | "1" => Some(true),
                "off" | "false" | "0" | "" => Some(false),
                _ => None,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        visitor.visit_bool(flag.ok_or_else(|| Fault::must_be("true or false"))?)
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
        let text = match self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        };
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(only), None) => visitor.visit_char(only),
            _ => Err(Fault::must_be("one character")),
        }
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
                visitor.visit_enum(VariantContent {
                    name,
                    content: Self { value: content, entry: false, ..self },
                })
            }
            _ => Err(de::Error::unknown_variant("", variants)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

/// The entries of an object, without the values that count as absent.
pub(super) struct ObjectAccess<'a, 'r> {
    rest: std::vec::IntoIter<(&'a str, &'a Value)>,
    current: Option<(&'a str, &'a Value)>,
    /// Whether the names are the names of a struct's fields.
    are_fields: bool,
    pass: &'r DecodePass,
}

impl<'a, 'r> ObjectAccess<'a, 'r> {
    pub(super) fn new(entries: impl Iterator<Item = (&'a str, &'a Value)>, pass: &'r DecodePass) -> Self {
        let present: Vec<_> = entries.filter(|(_, value)| !pass.is_absent(value)).collect();
        Self { rest: present.into_iter(), current: None, are_fields: false, pass }
    }

    /// Marks the names as the names of a struct's fields, which need no conversion.
    pub(super) fn with_field_names(self) -> Self {
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
struct ListAccess<'a, 'r> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    pass: &'r DecodePass,
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
struct VariantContent<'a, 'r> {
    name: &'a str,
    content: CoercingDeserializer<'a, 'r>,
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
