//! One value of the input, converted to the type that is asked for.

use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor};
use serde_json::Value;

use super::decode_event::{Entries, Fault, Run};

/// Up to here every integer is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value that becomes what it is asked for, where that is clear.
pub(super) struct Lenient<'a, 'r> {
    value: &'a Value,
    /// Whether it is a field's value, which can be absent; an item of a list cannot.
    entry: bool,
    run: &'r Run,
}

impl<'a, 'r> Lenient<'a, 'r> {
    pub(super) const fn of(value: &'a Value, run: &'r Run) -> Self {
        Self { value, entry: false, run }
    }

    pub(super) const fn of_entry(value: &'a Value, run: &'r Run) -> Self {
        Self { value, entry: true, run }
    }

    /// Whether this is a number that was not filled in. The reading goes on with a 0 in its place, and is
    /// repeated without the field.
    fn is_blank_number(&self) -> bool {
        let blank = match self.value {
            Value::Null => true,
            Value::String(text) => text.trim().is_empty(),
            _ => false,
        };
        let blank = blank && self.entry;
        if blank {
            self.run.found_blank(self.value);
        }
        blank
    }

    /// Whether this is a field that is `null`, which is absent whatever its type. The reading goes on with
    /// something empty in its place, and is repeated without the field.
    fn is_null_field(&self) -> bool {
        let is_null = self.value.is_null() && self.entry;
        if is_null {
            self.run.found_blank(self.value);
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

    fn object(&self) -> Result<Entries<'a, 'r>, Fault> {
        if self.is_null_field() {
            return Ok(Entries::new(std::iter::empty(), self.run));
        }
        let object = self.value.as_object().ok_or_else(|| Fault::must_be("an object with named fields"))?;
        Ok(Entries::new(object.iter().map(|(name, value)| (name.as_str(), value)), self.run))
    }

    fn list<'de, V: Visitor<'de>>(&self, len: Option<usize>, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null_field() {
            return visitor.visit_seq(Items { items: [].iter().enumerate(), run: self.run });
        }
        let items = self.value.as_array().ok_or_else(|| Fault::must_be("a list"))?;
        if let Some(len) = len.filter(|len| *len != items.len()) {
            return Err(Fault::must_be(format_args!("a list of {len}")));
        }
        visitor.visit_seq(Items { items: items.iter().enumerate(), run: self.run })
    }

    fn is_nothing(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
        }
    }
}

/// An integer, unless the value is none or too large for any type.
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

/// The integer that a float stands for, if it stands for one alone.
fn exact(float: f64) -> Option<i64> {
    let whole = float.fract() == 0.0 && float.abs() <= EXACT;
    // In range, so that the conversion is exact.
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

impl<'de> de::Deserializer<'de> for Lenient<'_, '_> {
    type Error = Fault;

    /// Whoever asks for anything gets the value exactly as it came.
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
            Value::Null | Value::Array(_) | Value::Object(_) => Err(Fault::must_be("a text")),
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
        if self.is_nothing() { visitor.visit_unit() } else { Err(Fault::must_be("empty")) }
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

    /// A variant without content is its name; one with content is an object with that one name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null if self.is_null_field() => Err(Fault::must_be("there")),
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Value::Object(map) if map.len() == 1 => {
                let entry = map.iter().next().map(|(name, content)| (name.as_str(), content));
                let (name, content) = entry.unwrap_or(("", &Value::Null));
                visitor.visit_enum(Variant { name, content: Self { value: content, entry: false, ..self } })
            }
            _ => Err(de::Error::unknown_variant("", variants)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Items<'a, 'r> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    run: &'r Run,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((at, item)) = self.items.next() else { return Ok(None) };
        let item = seed.deserialize(Lenient::of(item, self.run));
        item.map(Some).map_err(|fault| fault.within(at.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A variant with content.
struct Variant<'a, 'r> {
    name: &'a str,
    content: Lenient<'a, 'r>,
}

impl<'de, 'a, 'r> EnumAccess<'de> for Variant<'a, 'r> {
    type Error = Fault;
    type Variant = Lenient<'a, 'r>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Lenient<'a, 'r>), Fault> {
        let variant = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(self.name))?;
        Ok((variant, self.content))
    }
}

impl<'de> VariantAccess<'de> for Lenient<'_, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        if self.is_nothing() { Ok(()) } else { Err(Fault::must_be("without content")) }
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
