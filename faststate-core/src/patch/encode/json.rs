//! Writes simple JSON values and keys.

use serde::{Serialize, ser};

use crate::{
    key::pollutes,
    patch::{EncodeError, error::BoxedEncodeError},
};

/// Writes a value as serde_json does.
pub(super) fn push_plain(
    out: &mut Vec<u8>,
    value: &(impl Serialize + ?Sized),
) -> Result<(), BoxedEncodeError> {
    value.serialize(&mut serde_json::Serializer::new(out)).map_err(ser::Error::custom)
}

/// Writes a number or boolean as a string.
pub(super) fn push_quoted(
    out: &mut Vec<u8>,
    value: &(impl Serialize + ?Sized),
) -> Result<(), BoxedEncodeError> {
    out.push(b'"');
    push_plain(out, value)?;
    out.push(b'"');
    Ok(())
}

/// Writes the key of an object.
///
/// # Errors
/// The key would pollute a prototype in the browser.
pub(super) fn push_key(out: &mut Vec<u8>, key: &str) -> Result<(), BoxedEncodeError> {
    if pollutes(key) {
        return Err(EncodeError::Reserved(key.to_owned()).into());
    }
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return push_plain(out, key);
    }
    // Most keys are field names, which need no escaping.
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    Ok(())
}
