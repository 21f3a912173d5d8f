//! Errors, percent-decoding and parameters of addresses, for all databases.
//!
//! No error contains text of an address: if a password contains a separator that is not percent-encoded, the
//! parser takes the rest of the password for another part of the address. The only exception is the name of
//! a parameter, which is shown if it cannot be a part of a password.

use std::{borrow::Cow, fmt};

/// An error in an address: the part that is wrong, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part} in the address {problem}")]
pub(crate) struct DatabaseAddressError {
    pub(crate) part: Cow<'static, str>,
    pub(crate) problem: Cow<'static, str>,
}

impl DatabaseAddressError {
    pub(crate) fn new(part: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { part: part.into(), problem: problem.into() }
    }

    /// Creates the error for a wrong value of the known parameter `name`.
    pub(crate) fn parameter(name: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::new(format!("parameter `{name}`"), problem)
    }
}

/// Decodes `%XX`. All other characters stand for themselves, even `+`.
pub(crate) fn decode(text: &str, part: &'static str) -> Result<String, DatabaseAddressError> {
    let invalid = || DatabaseAddressError::new(part, "is not percent-encoded UTF-8: write `%` as `%25`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit =
                    |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = digit(high).zip(digit(low)).ok_or_else(invalid)?;
                (high * 16 + low, after)
            }
            (b'%', _) => return Err(invalid()),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    if bytes.contains(&0) {
        return Err(DatabaseAddressError::new(part, "contains a NUL (`%00`)"));
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// The parameters of an address. No two have the same name.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct UrlParameters {
    pairs: Vec<(String, String)>,
    /// Whether errors may contain the name of an unknown parameter: false if it could be a part of a
    /// password.
    shows_names: bool,
}

impl UrlParameters {
    /// Splits `name=value&name=value`.
    pub(crate) fn parse(query: &str) -> Result<Self, DatabaseAddressError> {
        let mut pairs = Vec::new();
        for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let part = || format!("parameter number {}", index + 1);
            let Some((name, value)) = pair.split_once('=') else {
                return Err(DatabaseAddressError::new(part(), "has no value: write `name=value`"));
            };
            if value.contains('=') {
                return Err(DatabaseAddressError::new(
                    part(),
                    "contains two `=`: write `=` in its value as `%3D`",
                ));
            }
            pairs.push((decode(name, "name of a parameter")?, decode(value, "value of a parameter")?));
        }
        Self::new(pairs, !query.contains(['@', '?']))
    }

    /// Creates the parameters from decoded names and values.
    ///
    /// If one of them is `password`, errors contain no names of unknown parameters, because a separator in
    /// the password makes the rest of it look like a name.
    pub(crate) fn new(pairs: Vec<(String, String)>, shows_names: bool) -> Result<Self, DatabaseAddressError> {
        let shows_names = shows_names && pairs.iter().all(|(name, _)| name != "password");
        let parameters = Self { pairs, shows_names };
        for (index, (name, _)) in parameters.pairs.iter().enumerate() {
            if parameters.pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(DatabaseAddressError::new(parameters.part(index), "is given twice"));
            }
        }
        Ok(parameters)
    }

    /// Removes a parameter and returns its value.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(given, _)| given == name)?;
        Some(self.pairs.remove(index).1)
    }

    /// Returns an error if a parameter was not taken. `known` lists the known names for the error's text.
    pub(crate) fn refuse_others(&self, known: &str) -> Result<(), DatabaseAddressError> {
        match self.pairs.first() {
            Some(_) => Err(DatabaseAddressError::new(
                self.part(0),
                format!("is unknown; the known ones are {known}"),
            )),
            None => Ok(()),
        }
    }

    /// Describes a parameter for an error: by its name, if errors may contain it.
    fn part(&self, index: usize) -> String {
        let name = &self.pairs[index].0;
        let is_word =
            name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'));
        if self.shows_names && is_word {
            format!("parameter `{name}`")
        } else {
            "name of a parameter".to_owned()
        }
    }
}

impl fmt::Debug for UrlParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}
