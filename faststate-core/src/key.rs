//! Keys, which identify the instances of states.

mod name;
mod scope;

use std::{borrow::Cow, fmt, fmt::Write as _, str::FromStr, sync::Arc};

use percent_encoding::percent_decode_str;

pub(crate) use self::name::pollutes;
pub use self::{
    name::{check_name, segment},
    scope::Scope,
};

/// The maximum length of an owner or an id in bytes of UTF-8.
const MAX_PART_BYTES: usize = 255;

/// Identifies one instance by its state's name, its scope, its owner (a session or a user) and its id.
///
/// The text of a key, under which stores keep the record, is `state/scope[/owner][/id]`. The scope is one letter. In
/// owner and id, every byte except `a-z`, `0-9`, `_` and `-` is written as `%` and two lower-case hexadecimal digits.
/// Different keys have different texts (law 11), even under a collation that ignores case or trailing spaces.
///
/// # Limits
/// A state's name has at most 64 bytes; owner and id have 1 to 255 bytes of UTF-8 each.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    text: Arc<str>,
    /// The length of the state's name, which is read often.
    state: u8,
}

impl Key {
    /// Creates the key of `state` in `scope`, with the owner and the id that the scope requires.
    ///
    /// # Errors
    /// Fails if the name is illegal, if a required part is missing, empty or too long, or if the scope does not have a
    /// given part.
    pub fn new(state: &str, scope: Scope, owner: Option<&str>, id: Option<&str>) -> Result<Self, KeyError> {
        check_name(state)?;
        let mut text = String::with_capacity(state.len() + 40);
        text.push_str(state);
        text.push('/');
        text.push(scope.letter());
        for (part, required) in [(owner, scope.has_owner()), (id, scope.has_id())] {
            match part {
                Some(part) if required => {
                    if part.is_empty() || part.len() > MAX_PART_BYTES {
                        return Err(KeyMistake::Length.into());
                    }
                    text.push('/');
                    escape(part, &mut text);
                }
                None if !required => {}
                _ => return Err(KeyMistake::Parts(scope).into()),
            }
        }
        // The conversion does not fail, because a name has at most 64 bytes.
        Ok(Self { text: text.into(), state: u8::try_from(state.len()).map_err(|_| KeyMistake::Name)? })
    }

    /// Returns the key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the state's name.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.text[..self.state.into()]
    }

    /// Returns the scope.
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

    /// Returns the id of the session or user, if the scope has an owner.
    #[must_use]
    pub fn owner(&self) -> Option<Cow<'_, str>> {
        self.scope().has_owner().then(|| self.part(2)).flatten().map(unescape)
    }

    /// Returns the id of the record or component, if the scope has one.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        let index = match self.scope() {
            Scope::Record => 2,
            Scope::Component => 3,
            Scope::Session | Scope::User | Scope::Global => return None,
        };
        self.part(index).map(unescape)
    }

    /// Returns the path of the instance's signals: the state's name, and for a record or component one segment that
    /// encodes the id.
    #[must_use]
    pub fn signal_path(&self) -> Vec<String> {
        let state = self.state().to_owned();
        match self.id() {
            Some(id) => vec![state, segment(&id)],
            None => vec![state],
        }
    }

    /// Returns the escaped part at this index: 0 is the state's name, 1 the scope.
    fn part(&self, index: usize) -> Option<&str> {
        self.text.split('/').nth(index)
    }
}

/// Parses the text of a key. Refuses every text that [`Key::as_str`] does not return.
impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split('/');
        let (state, scope) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let scope = Scope::from_letter(scope).ok_or(KeyMistake::Text)?;
        let mut part = |required: bool| {
            let Some(raw) = required.then(|| parts.next()).flatten() else { return Ok(None) };
            percent_decode_str(raw).decode_utf8().map(Some).map_err(|_| KeyMistake::Text)
        };
        let (owner, id) = (part(scope.has_owner())?, part(scope.has_id())?);
        let key = Self::new(state, scope, owner.as_deref(), id.as_deref())?;
        if &*key.text == text { Ok(key) } else { Err(KeyMistake::Text.into()) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Omits the owner if it is a session, because a session's id gives access to it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.scope(), Scope::Session | Scope::Component) {
            return write!(f, "Key({}/{}/..)", self.state(), self.scope().letter());
        }
        write!(f, "Key({})", self.text)
    }
}

/// A name, a part or a text that is not valid. The message states the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(#[from] KeyMistake);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum KeyMistake {
    /// The name does not match `[a-z][a-z0-9_]*` without `__`, is too long, or is reserved.
    #[error(
        "a name must match `[a-z][a-z0-9_]*` without `__`, have at most 64 bytes, and not be `constructor` or `prototype`"
    )]
    Name,
    /// An owner or an id is empty or too long.
    #[error("an owner or id must have 1 to {MAX_PART_BYTES} bytes")]
    Length,
    /// An owner or an id is missing, or the scope does not have it.
    #[error(
        "the parts do not fit scope {0:?}: a session, user or component has an owner, a record or component has an id"
    )]
    Parts(Scope),
    /// The text is not the text of a key.
    #[error("this is not the text of a key: expected `state/scope[/owner][/id]` as `Key::as_str` returns it")]
    Text,
}

/// Appends an owner or an id, with every byte escaped that is not plain.
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
mod tests;
