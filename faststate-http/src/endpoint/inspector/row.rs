//! One event in the inspector's list.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use faststate_core::internal::{Difference, EventTrace, json_diff};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::problem::escaped;

/// The number of changed fields that a row shows.
const MAX_SHOWN_CHANGES: usize = 24;
/// The number of characters of a value that a row shows.
const MAX_VALUE_CHARS: usize = 120;

/// One event in the inspector's list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct EventRow {
    /// Assigned by the log.
    pub(super) number: u64,
    at: String,
    key: String,
    event: String,
    id: String,
    user: String,
    outcome: String,
    reason: String,
    /// The version's sequence number, and the whole version.
    version: (u64, String),
    /// The path, the old value and the new value of each changed field.
    changes: Vec<(String, Option<String>, Option<String>)>,
    /// The number of changed fields that are not shown.
    more: usize,
    recipients: Vec<(String, usize)>,
    took: String,
}

impl EventRow {
    pub(super) fn of(trace: &EventTrace) -> Self {
        let json = |data: &[u8]| serde_json::from_slice::<Value>(data).unwrap_or_default();
        let states = trace.change.as_ref().map(|(before, after)| (json(before), json(after)));
        let changes = states.as_ref().map(|(before, after)| json_diff(before, after)).unwrap_or_default();
        let shown = |Difference { path, before, after }: &Difference<'_>| {
            let path = if path.is_empty() { "(all)".to_owned() } else { path.clone() };
            (path, before.map(shorten), after.map(shorten))
        };
        let state = trace.key.state();
        Self {
            number: 0,
            at: time_of_day(trace.at),
            // `Debug` of a key hides the session's id, which would give access to the session.
            key: format!("{:?}", trace.key).trim_start_matches("Key(").trim_end_matches(')').to_owned(),
            event: format!("{state}.{}", trace.event),
            id: trace.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            user: trace.user.clone().unwrap_or_default(),
            outcome: trace.outcome.0.to_owned(),
            reason: trace.outcome.1.clone().unwrap_or_default(),
            version: trace.version.map(|version| (version.seq, version.to_string())).unwrap_or_default(),
            changes: changes.iter().take(MAX_SHOWN_CHANGES).map(shown).collect(),
            more: changes.len().saturating_sub(MAX_SHOWN_CHANGES),
            recipients: trace.recipients.clone(),
            took: duration_text(trace.took),
        }
    }

    pub(super) fn id(&self) -> String {
        format!("event-{}", self.number)
    }

    fn is_refused(&self) -> bool {
        matches!(&*self.outcome, "rejected" | "failed")
    }
}

impl fmt::Display for EventRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [event, key, user, reason, id] =
            [&self.event, &self.key, &self.user, &self.reason, &self.id].map(|text| escaped(text));
        let searched = format!("{event} {key} {user} {reason} {id} {}", self.outcome).to_lowercase();
        write!(
            f,
            "<li id=\"{}\" class=\"{}\" data-find=\"{searched}\" data-show=\"(!$_only||{})&amp;&amp;el.dataset.find.includes($_find.toLowerCase())\">\
             <p class=\"what\"><time>{}</time> <b>{event}</b> <span class=\"outcome\">{}</span>",
            self.id(),
            self.outcome.replace(' ', "-"),
            self.is_refused(),
            self.at,
            self.outcome,
        )?;
        let (number, version) = &self.version;
        if !version.is_empty() {
            write!(f, " <span class=\"version\" title=\"{version}\">version {number}</span>")?;
        }
        f.write_str("</p>")?;
        if !reason.is_empty() {
            write!(f, "<p class=\"reason\">{reason}</p>")?;
        }
        if !self.changes.is_empty() {
            f.write_str("<dl>")?;
            for (path, before, after) in &self.changes {
                write!(f, "<div><dt>{}</dt><dd>", escaped(path))?;
                if let Some(before) = before {
                    write!(f, "<del>{}</del> ", escaped(before))?;
                }
                if let Some(after) = after {
                    write!(f, "<ins>{}</ins>", escaped(after))?;
                }
                f.write_str("</dd></div>")?;
            }
            if self.more > 0 {
                write!(f, "<div><dt>and {} more fields</dt><dd></dd></div>", self.more)?;
            }
            f.write_str("</dl>")?;
        }
        write!(f, "<p class=\"who\"><span>{}</span>", recipients(&self.recipients))?;
        write!(f, " <code>{key}</code>")?;
        if !user.is_empty() {
            write!(f, " <span>by {user}</span>")?;
        }
        if !id.is_empty() {
            write!(f, " <code class=\"id\">{id}</code>")?;
        }
        if !self.took.is_empty() {
            write!(f, " <span class=\"took\">{}</span>", self.took)?;
        }
        f.write_str("</p></li>")
    }
}

fn recipients(topics: &[(String, usize)]) -> String {
    if topics.is_empty() {
        return "no followers".to_owned();
    }
    let topics: Vec<_> =
        topics.iter().map(|(topic, followers)| format!("{topic} \u{d7} {followers}")).collect();
    format!("to {}", topics.join(", "))
}

/// Formats a value and truncates it.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        None => text,
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
    }
}

/// Formats the time of day in UTC, in milliseconds.
fn time_of_day(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn duration_text(took: Duration) -> String {
    match took.as_micros() {
        0 => String::new(),
        micros @ 1..1000 => format!("{micros} \u{b5}s"),
        micros => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
    }
}

#[cfg(test)]
mod tests {
    use faststate_core::{Key, Scope, Version};

    use super::*;

    fn trace(before: &'static str, after: &'static str) -> EventTrace {
        EventTrace {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_000 + 3_661_007),
            key: Key::new("note", Scope::Record, None, Some("<i>")).unwrap(),
            event: "write",
            id: Some("\"><script>".parse().unwrap()),
            user: Some("<b>".to_owned()),
            outcome: ("rejected", Some("too <long>".to_owned())),
            version: Some(Version::start()),
            change: Some((before.into(), after.into())),
            recipients: vec![("signals".to_owned(), 2), ("list".to_owned(), 1)],
            took: Duration::from_micros(1250),
        }
    }

    #[test]
    fn law_12_row_escapes_user_input() {
        let row = EventRow::of(&trace(r#"{"a":"<b>"}"#, r#"{"a":"</li>","<i>":1}"#)).to_string();
        for text in ["<script", "<b>&", "</li>\"", "<i>", "<long>"] {
            assert!(!row.contains(text), "{text} is in {row}");
        }
        assert!(row.contains("<del>&#34;&#60;b&#62;&#34;</del> <ins>&#34;&#60;/li&#62;&#34;</ins>"), "{row}");
    }

    #[test]
    fn row_shows_time_recipients_and_duration() {
        let row = EventRow::of(&trace("{}", "{}")).to_string();
        for text in
            ["<time>01:01:01.007</time>", "to signals \u{d7} 2, list \u{d7} 1", "1.2 ms", "note.write"]
        {
            assert!(row.contains(text), "{text} is not in {row}");
        }
    }

    #[test]
    fn law_06_row_of_a_large_change_is_bounded() {
        let many: String = (0..100).map(|at| format!("\"f{at}\":\"{}\",", "x".repeat(500))).collect();
        let after: &'static str = format!("{{{}}}", many.trim_end_matches(',')).leak();
        let row = EventRow::of(&trace("{}", after));
        assert_eq!((row.changes.len(), row.more), (MAX_SHOWN_CHANGES, 100 - MAX_SHOWN_CHANGES));
        assert!(row.to_string().len() < MAX_SHOWN_CHANGES * 300, "{}", row.to_string().len());
    }
}
