//! Redacts settings in error messages: a mistyped secret, or an address with a password, must not end up in a terminal's
//! history or in a log.

use std::{collections::BTreeSet, env, ffi::OsString};

/// The flags whose values may be shown unless they look like a secret.
const HARMLESS: [&str; 7] = [
    "--listen",
    "--adapter",
    "--node",
    "--max-streams",
    "--max-streams-per-address",
    "--max-streams-per-session",
    "--datastar-js",
];
/// The variables whose values are secret.
const SECRET: [&str; 3] = ["FASTSTATE_SECRET", "FASTSTATE_STORE", "FASTSTATE_BROADCAST"];

/// Texts of fewer characters are replaced only between quotes, because they may be part of any word.
const MIN_UNQUOTED_CHARS: usize = 4;
/// A value of at least this many bytes that is not a path may be a secret.
const MIN_SECRET_BYTES: usize = 20;

/// The texts that no message may contain.
pub(crate) struct Redaction {
    /// The longest first, because shorter ones may be part of them.
    hidden: Vec<String>,
}

impl Redaction {
    /// Redacts the arguments and variables of this process.
    pub(crate) fn of_process() -> Self {
        let variables = env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        Self::new(env::args_os().skip(1).map(lossy), variables)
    }

    fn new(
        arguments: impl Iterator<Item = String>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let mut hidden = BTreeSet::new();
        let mut flag = String::new();
        for argument in arguments {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (Some(name.to_owned()), Some(value)),
                _ if argument.starts_with('-') => (Some(argument.clone()), None),
                _ => (None, Some(&*argument)),
            };
            if let Some(name) = name {
                if looks_secret(name.trim_start_matches('-')) {
                    hide(&name, &mut hidden);
                    hide(name.trim_start_matches('-'), &mut hidden);
                }
                flag = name;
            }
            if let Some(value) = value {
                if !HARMLESS.contains(&&*flag) || looks_secret(value) {
                    hide(value, &mut hidden);
                }
                flag.clear();
            }
        }
        for (name, value) in variables.filter(|(name, _)| name.starts_with("FASTSTATE_")) {
            if SECRET.contains(&&*name) || looks_secret(&value) {
                hide(&value, &mut hidden);
            }
        }
        let mut hidden: Vec<_> = hidden.into_iter().collect();
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self { hidden }
    }

    /// Replaces each hidden text in the message by its length.
    pub(crate) fn apply(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for text in &self.hidden {
            let characters = text.chars().count();
            let shown = format!("({characters} characters)");
            if characters >= MIN_UNQUOTED_CHARS {
                message = message.replace(text.as_str(), &shown);
            } else {
                message = message.replace(&format!("'{text}'"), &format!("'{shown}'"));
            }
        }
        message
    }
}

/// Hides a value and the parts of it that a driver's error may contain.
fn hide(value: &str, hidden: &mut BTreeSet<String>) {
    if value.is_empty() || names_a_file(value) {
        return;
    }
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password);
    let parts = value.split(',').chain([value, rest]).chain(user).chain(password);
    hidden.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
}

/// Returns whether the value names an SQLite file or the store in memory.
fn names_a_file(value: &str) -> bool {
    let file = value.strip_prefix("sqlite:").map(|file| file.trim_start_matches("//"));
    file.is_some_and(|file| !file.contains(['@', ':'])) || value == "memory:"
}

fn looks_secret(value: &str) -> bool {
    let is_long = value.len() >= MIN_SECRET_BYTES && !value.contains('/');
    (value.contains("://") || value.contains('@') || is_long)
        && !HARMLESS.iter().any(|flag| flag.trim_start_matches('-') == value)
}

fn lossy(text: OsString) -> String {
    text.into_string().unwrap_or_else(|text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Options;

    const KEY: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ez";
    const PASSWORD: &str = "hunter2-and-more";

    /// The message about these arguments.
    fn message(arguments: &[&str]) -> String {
        let redaction = Redaction::new(arguments.iter().map(|text| (*text).to_owned()), std::iter::empty());
        let parsed = Options::try_parse_from([&["demo"], arguments].concat());
        redaction.apply(&parsed.err().map(|error| error.render().to_string()).unwrap_or_default())
    }

    #[test]
    fn mistyped_secret_is_not_printed() {
        let pair = format!("{},{KEY}", "0a".repeat(32));
        let mut attempts = 0;
        for value in [KEY, &pair, "abc", &KEY[..20], &format!(" {KEY}"), &format!("0x{KEY}")] {
            let forms = [
                vec!["--secret".to_owned(), value.to_owned()],
                vec![format!("--secret={value}")],
                vec!["--secrt".to_owned(), value.to_owned()],
                vec![format!("--secrt={value}")],
                vec!["-secret".to_owned(), value.to_owned()],
                vec![value.to_owned()],
                vec!["--listen".to_owned(), value.to_owned()],
                vec!["--adapter".to_owned(), value.to_owned()],
                vec!["--max-streams".to_owned(), value.to_owned()],
                vec!["--store".to_owned(), value.to_owned()],
                vec!["--broadcast".to_owned(), value.to_owned()],
                vec![format!("--{value}")],
                vec!["--inspector".to_owned(), value.to_owned()],
                vec!["--secret".to_owned(), "0a".repeat(32), value.to_owned()],
            ];
            for form in forms {
                let arguments: Vec<&str> = form.iter().map(String::as_str).collect();
                let message = message(&arguments);
                assert!(!message.is_empty(), "{arguments:?} is accepted");
                // A harmless flag may show a short value.
                if value.len() >= MIN_SECRET_BYTES {
                    assert!(
                        !message.contains(value.trim()) && !message.contains(KEY),
                        "{arguments:?}: {message}"
                    );
                }
                attempts += 1;
            }
        }
        assert_eq!(attempts, 84);
        assert!(!message(&["--secret", "abc"]).contains("abc"));
    }

    #[test]
    fn mistyped_address_is_not_printed() {
        for scheme in ["postgre://", "postgres//", "mysq://", "redis//", "http://", "sqlite:postgres://", ""]
        {
            let address = format!("{scheme}me:{PASSWORD}@host/db");
            for arguments in [
                vec!["--store", &*address],
                vec!["--broadcast", &address],
                vec!["--stor", &address],
                vec!["--listen", &address],
                vec!["--adapter", &address],
                vec!["--node", "a", &address],
                vec![&*address],
            ] {
                let message = message(&arguments);
                assert!(!message.contains(PASSWORD), "{arguments:?}: {message}");
            }
        }
    }

    #[test]
    fn variables_in_driver_errors_are_not_printed() {
        let variables =
            [("FASTSTATE_STORE", format!("postgres://me:{PASSWORD}@host")), ("FASTSTATE_SECRET", KEY.into())];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let redaction = Redaction::new(std::iter::empty(), variables);
        let text = format!("cannot connect to `me:{PASSWORD}@host`: `{PASSWORD}` is wrong; {KEY}");
        let message = redaction.apply(&text);
        assert!(!message.contains(PASSWORD) && !message.contains(KEY), "{message}");
        assert!(message.contains("cannot connect"));
    }

    #[test]
    fn harmless_mistakes_are_printed() {
        assert!(message(&["--adapter", "rocket"]).contains("rocket"));
        assert!(message(&["--listen", "localhost"]).contains("localhost"));
        assert!(message(&["--max-streams", "-1"]).contains("-1"));
        let file = Redaction::new(
            ["--store", "sqlite:///srv/a.db"].map(str::to_owned).into_iter(),
            std::iter::empty(),
        );
        assert_eq!(file.apply("cannot open /srv/a.db"), "cannot open /srv/a.db");
    }
}
