//! The rules for names in URLs, signals and stored keys, and the encoding of ids as names.

use std::fmt::Write as _;

use super::{KeyError, KeyMistake};

/// The maximum length of a name in bytes.
const MAX_NAME_BYTES: usize = 64;

const ILLEGAL: u8 = 0;
const LETTER_OR_DIGIT: u8 = 1;
const UNDERSCORE: u8 = 2;

/// The class of each byte in a name.
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
/// Returns an error unless the name matches `[a-z][a-z0-9_]*` without `__`, has at most 64 bytes, and is
/// neither `constructor` nor `prototype`.
#[inline]
pub fn check_name(name: &str) -> Result<(), KeyError> {
    // One pass without branches, because this runs for each field of each change.
    let bytes = name.as_bytes();
    let mut ok = matches!(bytes.first(), Some(b'a'..=b'z')) && bytes.len() <= MAX_NAME_BYTES;
    let mut after_underscore = false;
    for byte in bytes {
        let class = NAME_CLASS[usize::from(*byte)];
        let is_underscore = class == UNDERSCORE;
        ok &= class != ILLEGAL && !(is_underscore && after_underscore);
        after_underscore = is_underscore;
    }
    // The other reserved names are illegal anyway: they contain capitals or `__`.
    let legal = ok && !matches!(name, "constructor" | "prototype");
    if legal { Ok(()) } else { Err(KeyMistake::Name.into()) }
}

/// Returns whether every JavaScript object has or inherits a property of this name. Datastar would find that property
/// instead of a signal, and write to it.
pub(super) fn is_reserved(name: &str) -> bool {
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

/// Returns whether a property of this name would make Datastar write to a prototype.
///
/// Datastar splits names at dots when it reports a change, so `a.__proto__.b` pollutes a prototype, like `__proto__`.
pub(crate) fn pollutes(name: &str) -> bool {
    // The shortest reserved name has seven bytes. The check is cheap, because it runs for each key of each change.
    name.len() >= 7 && (is_reserved(name) || (name.contains('.') && name.split('.').any(is_reserved)))
}

/// Encodes an id as one segment of a signal's path. The segment matches `[a-z][a-z0-9_]*` without `__`, and different
/// ids have different segments.
///
/// `a-z` and `0-9` are unchanged, and any other byte becomes `_` and two hexadecimal digits. The first byte becomes `x`
/// and two digits if it is not in `a-z`, if it is `x`, or if the id is a reserved name. So `p1` stays `p1`, `1` becomes
/// `x31`, and `Ab` becomes `x41b`.
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
