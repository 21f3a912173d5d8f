//! Which instance of a state.

use std::{borrow::Cow, fmt, fmt::Write as _, str::FromStr, sync::Arc};

use percent_encoding::percent_decode_str;

/// The longest owner or id, in bytes of UTF-8.
const LONGEST_PART: usize = 255;

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// One instance per browser session.
    Session,
    /// One instance per signed-in user.
    User,
    /// One instance for all.
    Global,
    /// One instance per id, shared.
    Record,
    /// One instance per id within a session: a part of a page.
    Component,
}

impl Scope {
    const fn letter(self) -> char {
        match self {
            Self::Session => 's',
            Self::User => 'u',
            Self::Global => 'g',
            Self::Record => 'r',
            Self::Component => 'c',
        }
    }

    pub(crate) const fn has_owner(self) -> bool {
        matches!(self, Self::Session | Self::User | Self::Component)
    }

    /// Whether keys of this scope carry an id from the path: records and components.
    #[must_use]
    pub const fn has_id(self) -> bool {
        matches!(self, Self::Record | Self::Component)
    }

    /// Whether several people reach the same instance: an access policy must be declared.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Global | Self::Record)
    }
}

/// Names one instance: state, scope, owner (session or user) and id.
///
/// Its text, as stores keep it, is `state/scope[/owner][/id]` with every byte but `a-z`, `0-9`, `_`
/// and `-` written as `%` and two lower-case hexadecimal digits. It is injective (law 11) and stays so
/// where a collation ignores case or trailing spaces. Owner and id have 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    text: Arc<str>,
    /// How long the state's name is: it is asked for again and again.
    state: u8,
}

impl Key {
    /// The key of `state` in `scope`, with an owner and an id where the scope has them.
    ///
    /// # Errors
    /// A missing, empty or over-long part, or a part that the scope does not have.
    pub fn new(state: &str, scope: Scope, owner: Option<&str>, id: Option<&str>) -> Result<Self, KeyError> {
        check_name(state)?;
        let mut text = String::with_capacity(state.len() + 40);
        text.push_str(state);
        text.push('/');
        text.push(scope.letter());
        for (part, wanted) in [(owner, scope.has_owner()), (id, scope.has_id())] {
            match part {
                Some(part) if wanted => {
                    if part.is_empty() || part.len() > LONGEST_PART {
                        return Err(KeyError::Length);
                    }
                    text.push('/');
                    escape(part, &mut text);
                }
                None if !wanted => {}
                _ => return Err(KeyError::Parts(scope)),
            }
        }
        // A name has at most 64 bytes.
        Ok(Self { text: text.into(), state: u8::try_from(state.len()).map_err(|_| KeyError::Name)? })
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The state's name.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.text[..self.state.into()]
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.text.as_bytes().get(usize::from(self.state) + 1) {
            Some(b's') => Scope::Session,
            Some(b'u') => Scope::User,
            Some(b'r') => Scope::Record,
            Some(b'c') => Scope::Component,
            _ => Scope::Global,
        }
    }

    /// The session's or user's id, where the scope has an owner.
    #[must_use]
    pub fn owner(&self) -> Option<Cow<'_, str>> {
        self.scope().has_owner().then(|| self.part(2)).flatten().map(unescape)
    }

    /// The record's or component's id.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        let at = match self.scope() {
            Scope::Record => 2,
            Scope::Component => 3,
            Scope::Session | Scope::User | Scope::Global => return None,
        };
        self.part(at).map(unescape)
    }

    /// Where this key's signals are: the state's name, and for records and components one segment
    /// that stands for the id.
    #[must_use]
    pub fn signal_path(&self) -> Vec<String> {
        let state = self.state().to_owned();
        match self.id() {
            Some(id) => vec![state, segment(&id)],
            None => vec![state],
        }
    }

    fn part(&self, index: usize) -> Option<&str> {
        self.text.split('/').nth(index)
    }
}

/// The key whose text this is, as another node sent it or a store holds it. Any text that [`Key::as_str`] never
/// gives is refused.
impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split('/');
        let (state, scope) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let scope = [Scope::Session, Scope::User, Scope::Global, Scope::Record, Scope::Component]
            .into_iter()
            .find(|s| scope.len() == 1 && scope.starts_with(s.letter()))
            .ok_or(KeyError::Text)?;
        let mut part = |wanted: bool| {
            let Some(raw) = wanted.then(|| parts.next()).flatten() else { return Ok(None) };
            percent_decode_str(raw).decode_utf8().map(Some).map_err(|_| KeyError::Text)
        };
        let (owner, id) = (part(scope.has_owner())?, part(scope.has_id())?);
        let key = Self::new(state, scope, owner.as_deref(), id.as_deref())?;
        if &*key.text == text { Ok(key) } else { Err(KeyError::Text) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.scope(), Scope::Session | Scope::Component) {
            return write!(f, "Key({}/{}/..)", self.state(), self.scope().letter());
        }
        write!(f, "Key({})", self.text)
    }
}

/// Why something is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not `[a-z][a-z0-9_]*`, or reserved.
    #[error("a name is `[a-z][a-z0-9_]*` without `__`, at most 64 bytes, and not a name JavaScript reserves")]
    Name,
    /// An owner or an id is empty or too long.
    #[error("an owner or id has 1 to {LONGEST_PART} bytes")]
    Length,
    /// An owner or id is missing, or is there and should not be.
    #[error("a key of scope {0:?} has other parts")]
    Parts(Scope),
    /// Not the text of a key.
    #[error("not the text of a key")]
    Text,
}

const ILLEGAL: u8 = 0;
const LETTER_OR_DIGIT: u8 = 1;
const UNDERSCORE: u8 = 2;

/// What each byte is in a name.
const NAME_CLASS: [u8; 256] = {
    let mut classes = [ILLEGAL; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' => LETTER_OR_DIGIT,
            b'_' => UNDERSCORE,
            _ => ILLEGAL,
        };
        byte += 1;
    }
    classes
};

/// Checks a name that becomes part of URLs, signals and stored keys.
///
/// # Errors
/// [`KeyError::Name`] unless it is `[a-z][a-z0-9_]*` without `__`, of at most 64 bytes and none of
/// `constructor` and `prototype`.
pub fn check_name(name: &str) -> Result<(), KeyError> {
    // One pass without branches: this runs for each field of each change.
    let bytes = name.as_bytes();
    let mut ok = matches!(bytes.first(), Some(b'a'..=b'z')) && bytes.len() <= 64;
    let mut after_underscore = false;
    for byte in bytes {
        let class = NAME_CLASS[usize::from(*byte)];
        let is_underscore = class == UNDERSCORE;
        ok &= class != ILLEGAL && !(is_underscore && after_underscore);
        after_underscore = is_underscore;
    }
    let legal = ok && !is_reserved(name);
    if legal { Ok(()) } else { Err(KeyError::Name) }
}

/// Whether every JavaScript object has or inherits something under this name, which Datastar would find
/// in place of a signal and write to.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "__proto__"
            | "constructor"
            | "prototype"
            | "toString"
            | "toLocaleString"
            | "valueOf"
            | "hasOwnProperty"
            | "isPrototypeOf"
            | "propertyIsEnumerable"
            | "__defineGetter__"
            | "__defineSetter__"
            | "__lookupGetter__"
            | "__lookupSetter__"
    )
}

/// Whether Datastar would write to a prototype when it meets this property name: it also splits names
/// at their dots when it reports a change, so `a.__proto__.b` is as bad as `__proto__`.
pub(crate) fn pollutes(name: &str) -> bool {
    // The shortest reserved name has seven bytes. This runs for each key of each change.
    name.len() >= 7 && (is_reserved(name) || (name.contains('.') && name.split('.').any(is_reserved)))
}

/// An id as one segment of a signal's path: `[a-z][a-z0-9_]*` without `__`, injective.
///
/// `a-z` and `0-9` stand for themselves, any other byte is `_` and two hexadecimal digits. A first
/// byte that is not a letter, an `x`, or the start of a reserved name is `x` and two digits, so that
/// the segment starts with a letter and nothing collides: `p1` is `p1`, `1` is `x31`, `Ab` is `x41b`.
#[must_use]
pub fn segment(id: &str) -> String {
    let mut out = String::with_capacity(id.len() + 2);
    let reserved = is_reserved(id);
    for (at, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let _ = match at {
            0 if byte == b'x' || !byte.is_ascii_lowercase() || reserved => write!(out, "x{byte:02x}"),
            _ if plain => out.write_char(char::from(byte)),
            _ => write!(out, "_{byte:02x}"),
        };
    }
    out
}

fn escape(part: &str, out: &mut String) {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if part.bytes().all(is_plain) {
        out.push_str(part);
        return;
    }
    for byte in part.bytes() {
        let _ = if is_plain(byte) { out.write_char(char::from(byte)) } else { write!(out, "%{byte:02x}") };
    }
}

fn unescape(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

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
                // What a collation that ignores case and trailing blanks would keep.
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
        assert_eq!(Key::new("a", Scope::Global, Some("x"), None), Err(KeyError::Parts(Scope::Global)));
        assert_eq!(Key::new("a", Scope::Record, None, None), Err(KeyError::Parts(Scope::Record)));
        assert_eq!(Key::new("a", Scope::Record, None, Some("")), Err(KeyError::Length));
        assert_eq!(Key::new("a", Scope::Record, None, Some(&"x".repeat(256))), Err(KeyError::Length));
        assert_eq!(Key::new("a", Scope::User, Some(&"x".repeat(10_240)), None), Err(KeyError::Length));
        for name in ["", "A", "1a", "a__b", "constructor", "_a", "a.b", &"a".repeat(65)] {
            assert_eq!(Key::new(name, Scope::Global, None, None), Err(KeyError::Name), "{name}");
        }
        for text in ["a", "a/g/", "a/g/x", "a/r/A", "a/r/%41%", "a/x", "a/c/s", "a/r/%4A"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
