//! The rules by which an input value is converted to a number, a boolean or a character.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use serde_json::Value;

use crate::wire::fault::Fault;

/// 2^53: up to this value, a float represents each integer exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Converts a value to an integer type, whose `range` the error states.
pub(super) fn integer<T>(value: &Value, range: RangeInclusive<T>) -> Result<T, Fault>
where
    T: TryFrom<i64> + TryFrom<u64> + FromStr + Display,
{
    let not_whole = || Fault::must_be("a whole number");
    let out_of_range =
        || Fault::must_be(format_args!("a whole number from {} to {}", range.start(), range.end()));
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_i64() {
                return T::try_from(whole).map_err(|_| out_of_range());
            }
            if let Some(whole) = number.as_u64() {
                return T::try_from(whole).map_err(|_| out_of_range());
            }
            let whole = number.as_f64().and_then(exact).ok_or_else(not_whole)?;
            T::try_from(whole).map_err(|_| out_of_range())
        }
        Value::String(text) => {
            let text = text.trim();
            if let Ok(whole) = text.parse() {
                return Ok(whole);
            }
            match text.parse().ok().and_then(exact) {
                Some(whole) => T::try_from(whole).map_err(|_| out_of_range()),
                None if is_digits(text) => Err(out_of_range()),
                None => Err(not_whole()),
            }
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(not_whole()),
    }
}

/// Converts a value to a finite float.
pub(super) fn float(value: &Value) -> Result<f64, Fault> {
    let float = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    float.filter(|float| float.is_finite()).ok_or_else(|| Fault::must_be("a number"))
}

/// Converts a value to a float in the range of `f32`.
pub(super) fn single_float(value: &Value) -> Result<f64, Fault> {
    let float = float(value)?;
    if float.abs() > f64::from(f32::MAX) {
        return Err(Fault::must_be(format_args!("a number from {:e} to {:e}", f32::MIN, f32::MAX)));
    }
    Ok(float)
}

/// Converts a value to a boolean.
pub(super) fn boolean(value: &Value) -> Result<bool, Fault> {
    let flag = match value {
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
    flag.ok_or_else(|| Fault::must_be("true or false"))
}

/// Converts a value to one character.
pub(super) fn character(value: &Value) -> Result<char, Fault> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Fault::must_be("one character")),
    }
}

/// Returns the integer that equals `float`, if exactly one integer converts to this float.
fn exact(float: f64) -> Option<i64> {
    let whole = float.fract() == 0.0 && float.abs() <= MAX_EXACT;
    // The value is in range, so the conversion is exact.
    #[expect(clippy::cast_possible_truncation)]
    whole.then_some(float as i64)
}

/// Returns whether a text that no integer type could parse looks like an integer.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}
