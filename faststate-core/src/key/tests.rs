use std::collections::HashMap;

use proptest::prelude::*;

use super::{name::is_reserved, *};

type Parts = (usize, Scope, Option<String>, Option<String>);
const STATES: [&str; 3] = ["a", "a_b", "ab"];

fn part() -> impl Strategy<Value = String> {
    prop_oneof!["[ab/:%_ A]{1,3}", "\\PC{1,6}", Just("constructor".to_owned()), Just("\0".to_owned())]
}

fn parts() -> impl Strategy<Value = Parts> {
    let scopes = prop_oneof![
        Just(Scope::Session),
        Just(Scope::User),
        Just(Scope::Global),
        Just(Scope::Record),
        Just(Scope::Component)
    ];
    (0..STATES.len(), scopes, part(), part()).prop_map(|(state, scope, owner, id)| {
        (state, scope, scope.has_owner().then_some(owner), scope.has_id().then_some(id))
    })
}

fn key((state, scope, owner, id): &Parts) -> Key {
    Key::new(STATES[*state], *scope, owner.as_deref(), id.as_deref()).unwrap()
}

proptest! {
    #[test]
    fn law_11_keys_are_injective(all in prop::collection::vec(parts(), 2..40)) {
        let mut seen: HashMap<String, Parts> = HashMap::new();
        for parts in all {
            let key = key(&parts);
            prop_assert_eq!(key.scope(), parts.1);
            let (owner, id) = (key.owner(), key.id());
            prop_assert_eq!(owner.as_deref(), parts.2.as_deref());
            prop_assert_eq!(id.as_deref(), parts.3.as_deref());
            prop_assert_eq!(key.as_str().parse(), Ok(key.clone()));
            // The text as a collation compares it that ignores case and trailing spaces.
            let folded = key.as_str().to_uppercase().trim_end().to_owned();
            if let Some(other) = seen.insert(folded, parts.clone()) {
                prop_assert_eq!(other, parts);
            }
        }
    }

    #[test]
    fn law_11_segments_are_injective_names(ids in prop::collection::vec(part(), 2..40)) {
        let mut seen = HashMap::new();
        for id in ids {
            let segment = segment(&id);
            prop_assert!(!segment.contains("__") && segment.starts_with(|c: char| c.is_ascii_lowercase()));
            prop_assert!(!is_reserved(&segment));
            if let Some(other) = seen.insert(segment, id.clone()) {
                prop_assert_eq!(other, id);
            }
        }
    }
}

#[test]
fn law_11_parts_are_required_and_bounded() {
    assert_eq!(Key::new("a", Scope::Global, Some("x"), None), Err(KeyMistake::Parts(Scope::Global).into()));
    assert_eq!(Key::new("a", Scope::Record, None, None), Err(KeyMistake::Parts(Scope::Record).into()));
    assert_eq!(Key::new("a", Scope::Record, None, Some("")), Err(KeyMistake::Length.into()));
    assert_eq!(Key::new("a", Scope::Record, None, Some(&"x".repeat(256))), Err(KeyMistake::Length.into()));
    assert_eq!(Key::new("a", Scope::User, Some(&"x".repeat(10_240)), None), Err(KeyMistake::Length.into()));
    for name in ["", "A", "1a", "a__b", "constructor", "_a", "a.b", &"a".repeat(65)] {
        assert_eq!(Key::new(name, Scope::Global, None, None), Err(KeyMistake::Name.into()), "{name}");
    }
    for text in ["a", "a/g/", "a/g/x", "a/r/A", "a/r/%41%", "a/x", "a/c/s", "a/r/%4A"] {
        assert!(text.parse::<Key>().is_err(), "{text}");
    }
}
