//! Whether a state's signals are the state itself.

use std::{fmt, ops::Range};

use serde::{
    Serialize,
    ser::{self, Impossible, SerializeMap, SerializeStruct, Serializer},
};

/// Whether `signals` is a reference to `state`, as `ReactiveState::signals` gives it where nobody has written
/// another. It may say no of one that is.
///
/// No two values of a type share memory: a value of that type whose first field is inside the state is the state.
pub(super) fn is_itself<S: Serialize, T: Serialize>(state: &S, signals: &T) -> bool {
    let start = std::ptr::from_ref(state).addr();
    let memory = start..start + size_of::<S>();
    typeid::of::<T>() == typeid::of::<&S>() && matches!(signals.serialize(First { memory }), Err(Is(true)))
}

/// Looks at where the first field is, and stops.
struct First {
    memory: Range<usize>,
}

/// Whether the first field is there.
#[derive(Debug)]
struct Is(bool);

impl First {
    fn is<T: ?Sized>(&self, field: &T) -> Result<(), Is> {
        Err(Is(self.memory.contains(&std::ptr::from_ref(field).addr())))
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Is {}

impl ser::Error for Is {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(false)
    }
}

macro_rules! nowhere {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$result, Is> {
            Err(Is(false))
        }
    )*};
}

impl Serializer for First {
    type Ok = ();
    type Error = Is;
    type SerializeSeq = Impossible<(), Is>;
    type SerializeTuple = Impossible<(), Is>;
    type SerializeTupleStruct = Impossible<(), Is>;
    type SerializeTupleVariant = Impossible<(), Is>;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Is>;

    nowhere! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_i128(i128) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_u128(u128) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Is> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Is> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Is> {
        Err(Is(false))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Is> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Is> {
        Ok(self)
    }
}

impl SerializeStruct for First {
    type Ok = ();
    type Error = Is;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, field: &T) -> Result<(), Is> {
        self.is(field)
    }

    fn end(self) -> Result<(), Is> {
        Err(Is(false))
    }
}

impl SerializeMap for First {
    type Ok = ();
    type Error = Is;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Is> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, field: &T) -> Result<(), Is> {
        self.is(field)
    }

    fn end(self) -> Result<(), Is> {
        Err(Is(false))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Default, Serialize)]
    struct State {
        number: u32,
        inner: Inner,
    }

    #[derive(Clone, Default, Serialize)]
    struct Inner {
        number: u32,
    }

    #[derive(Serialize)]
    #[serde(transparent)]
    struct Whole(State);

    #[derive(Serialize)]
    struct Newtype(Option<Whole>);

    #[derive(Serialize)]
    struct Flat {
        own: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }

    #[test]
    fn only_a_reference_to_the_state_is_the_state() {
        let (state, other) = (State::default(), State::default());
        assert!(is_itself(&state, &&state));
        assert!(!is_itself(&state, &&other));
        // The same memory, but not the same value.
        assert!(!is_itself(&state, &&state.inner) && !is_itself(&state, &&Some(&state)));
        assert!(!is_itself(&state, &state.clone()));
        let newtype = Newtype(Some(Whole(state)));
        assert!(is_itself(&newtype, &&newtype));
        let flat = Flat { own: 1, rest: BTreeMap::from([("a".to_owned(), 1)]) };
        assert!(is_itself(&flat, &&flat));
        // What cannot be told.
        assert!(!is_itself(&flat.rest, &&flat.rest) && !is_itself(&5, &&5));
    }
}
