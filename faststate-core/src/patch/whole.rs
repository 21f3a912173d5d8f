//! The signals of a state that does not override `ReactiveState::signals`.

use serde::{Serialize, Serializer};

/// All of a state, as the provided [`ReactiveState::signals`](crate::ReactiveState::signals) returns it.
///
/// No code outside this crate can construct this type. A `signals` method of `S` that returns `Whole<S>` is
/// therefore the provided one, and the stored form of the state can be sent without encoding it again.
pub(crate) struct Whole<'a, S>(&'a S);

impl<'a, S> Whole<'a, S> {
    pub(crate) const fn of(state: &'a S) -> Self {
        Self(state)
    }
}

impl<S: Serialize> Serialize for Whole<'_, S> {
    fn serialize<F: Serializer>(&self, serializer: F) -> Result<F::Ok, F::Error> {
        self.0.serialize(serializer)
    }
}

/// Returns whether the type of `signals` is [`Whole<S>`](Whole). Constant for each pair of types.
pub(super) fn is_whole<S, T>(_signals: &T) -> bool {
    typeid::of::<T>() == typeid::of::<Whole<'_, S>>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, de::DeserializeOwned};

    use super::*;
    use crate::{
        ReactiveState,
        patch::{EncodedFields, EncodedState, INITIAL_CAPACITY},
    };

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Provided {
        number: u32,
    }

    impl ReactiveState for Provided {
        const NAME: &'static str = "provided";
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Flattened {
        own: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }

    impl ReactiveState for Flattened {
        const NAME: &'static str = "flattened";
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Newtype(BTreeMap<String, u8>);

    impl ReactiveState for Newtype {
        const NAME: &'static str = "newtype";
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Generic<T> {
        content: T,
    }

    impl<T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static> ReactiveState for Generic<T> {
        const NAME: &'static str = "generic";
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Overriding {
        secret: u32,
    }

    impl ReactiveState for Overriding {
        const NAME: &'static str = "overriding";

        fn signals(&self) -> impl Serialize {
            BTreeMap::from([("shown", 1)])
        }
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Delegating {
        inner: Provided,
    }

    impl ReactiveState for Delegating {
        const NAME: &'static str = "delegating";

        fn signals(&self) -> impl Serialize {
            self.inner.signals()
        }
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct HandWritten {
        number: u32,
    }

    impl ReactiveState for HandWritten {
        const NAME: &'static str = "hand_written";

        fn signals(&self) -> impl Serialize {
            self
        }
    }

    /// Returns whether the signals of a default `S` are its stored bytes. Checks that they are correct in any case.
    fn shares_bytes<S: ReactiveState>() -> bool {
        let state = S::default();
        let stored = EncodedState::of(&state, INITIAL_CAPACITY).unwrap();
        let signals = stored.signals::<S>(&state.signals()).unwrap();
        assert_eq!(signals.json(), EncodedFields::of(&state.signals()).unwrap().json());
        signals.json().as_ptr() == stored.data.as_ptr()
    }

    #[test]
    fn provided_signals_share_the_stored_bytes() {
        assert!(shares_bytes::<Provided>());
        assert!(shares_bytes::<Flattened>());
        assert!(shares_bytes::<Newtype>());
        assert!(shares_bytes::<Generic<u8>>() && shares_bytes::<Generic<Provided>>());
    }

    #[test]
    fn overridden_signals_are_encoded_separately() {
        assert!(!shares_bytes::<Overriding>());
        assert!(!shares_bytes::<Delegating>());
        assert!(!shares_bytes::<HandWritten>());
    }
}
