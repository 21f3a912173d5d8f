//! libpq's second form of an address: `host=db.example user=me password='with space'`.

use crate::address::{DatabaseAddressError, UrlParameters};

/// Returns whether the address has this form.
pub(super) fn are(text: &str) -> bool {
    let name = text.trim_start().split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_name && text.contains('=') && !text.starts_with("postgres://") && !text.starts_with("postgresql://")
}

/// Splits the address.
pub(super) fn parse(text: &str) -> Result<UrlParameters, DatabaseAddressError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let part = || format!("parameter number {}", pairs.len() + 1);
        let Some((name, after)) = rest.split_once('=') else {
            return Err(DatabaseAddressError::new(part(), "has no value: write `name=value`"));
        };
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            let problem = "has no value: write `name=value`, and a value with spaces in single quotes";
            return Err(DatabaseAddressError::new(part(), problem));
        }
        let (value, after) = value(after.trim_start()).ok_or_else(|| {
            DatabaseAddressError::new(part(), "has a quote or a backslash that is not closed")
        })?;
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    UrlParameters::new(pairs, true)
}

/// The value at the beginning of `text`, and the text after it; `None` if a quote is not closed.
fn value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if is_quoted => return Some((value, &text[at + 1..])),
            _ if !is_quoted && character.is_whitespace() => return Some((value, &text[at..])),
            _ => value.push(character),
        }
    }
    if is_quoted { None } else { Some((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_and_escaped() {
        // A quote inside quotes is escaped by a backslash, not by another quote.
        assert!(parse("password='a ''b'").is_err());
        let mut parameters = parse(r"host = a  user=me\ too password='it\'s \\ x' dbname=").unwrap();
        for (name, value) in [("host", "a"), ("user", "me too"), ("password", r"it's \ x"), ("dbname", "")] {
            assert_eq!(parameters.take(name).as_deref(), Some(value));
        }
        assert_eq!(parameters.refuse_others(""), Ok(()));
    }

    #[test]
    fn form_is_recognised_by_its_first_name() {
        assert!(are("host=a user=b") && are("user = b"));
        assert!(!are("postgres://h/d?sslmode=disable") && !are("me:secret=1@host") && !are("host"));
    }

    #[test]
    fn error_shows_no_value() {
        for text in ["host=a password='s3cret", "host=a s3cret", "password=my s3cret x=1"] {
            let error = parse(text).unwrap_err();
            assert!(error.part.starts_with("parameter number") && !error.to_string().contains("s3cret"));
        }
    }
}
