//! One event, as it is shown.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use faststate_core::{
    internal::{Difference, json_diff},
    registry::EventTrace,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoint::problem::escaped;

/// How many places of a difference are shown, and how much of each value.
const PLACES: usize = 24;
const LONGEST: usize = 120;

/// One event, as it is shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    /// Given by the log.
    pub(super) number: u64,
    at: String,
    key: String,
    event: String,
    id: String,
    user: String,
    outcome: String,
    reason: String,
    /// The number of the version, and the whole of it.
    version: (u64, String),
    changes: Vec<(String, Option<String>, Option<String>)>,
    /// How many places there are besides.
    more: usize,
    recipients: Vec<(String, usize)>,
    took: String,
}

impl Row {
    pub(super) fn of(seen: &EventTrace) -> Self {
        let json = |data: &[u8]| serde_json::from_slice::<Value>(data).unwrap_or_default();
        let change = seen.change.as_ref().map(|(before, after)| (json(before), json(after)));
        let places = change.as_ref().map(|(before, after)| json_diff(before, after)).unwrap_or_default();
        let change = |Difference { path, before, after }: &Difference<'_>| {
            let path = if path.is_empty() { "(all)".to_owned() } else { path.clone() };
            (path, before.map(shown), after.map(shown))
        };
        let state = seen.key.state();
        Self {
            number: 0,
            at: time_of_day(seen.at),
            // Whoever knows a session's id is that session, so the key is written as the log writes it.
            key: format!("{:?}", seen.key).trim_start_matches("Key(").trim_end_matches(')').to_owned(),
            event: format!("{state}.{}", seen.event),
            id: seen.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            user: seen.user.clone().unwrap_or_default(),
            outcome: seen.outcome.0.to_owned(),
            reason: seen.outcome.1.clone().unwrap_or_default(),
            version: seen.version.map(|version| (version.seq, version.to_string())).unwrap_or_default(),
            changes: places.iter().take(PLACES).map(change).collect(),
            more: places.len().saturating_sub(PLACES),
            recipients: seen.recipients.clone(),
            took: lasted(seen.took),
        }
    }

    pub(super) fn id(&self) -> String {
        format!("event-{}", self.number)
    }

    fn is_refused(&self) -> bool {
        matches!(&*self.outcome, "rejected" | "failed")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [event, key, user, reason, id] =
            [&self.event, &self.key, &self.user, &self.reason, &self.id].map(|text| escaped(text));
        let found = format!("{event} {key} {user} {reason} {id} {}", self.outcome).to_lowercase();
        write!(
            f,
            "<li id=\"{}\" class=\"{}\" data-find=\"{found}\" data-show=\"(!$_only||{})&amp;&amp;el.dataset.find.includes($_find.toLowerCase())\">\
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
                write!(f, "<div><dt>and {} places more</dt><dd></dd></div>", self.more)?;
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
        return "nobody follows".to_owned();
    }
    let topics: Vec<_> =
        topics.iter().map(|(topic, followers)| format!("{topic} \u{d7} {followers}")).collect();
    format!("to {}", topics.join(", "))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
    }
}

/// In UTC, to the millisecond.
fn time_of_day(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn lasted(took: Duration) -> String {
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

    fn seen(before: &'static str, after: &'static str) -> EventTrace {
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
    fn law_12_what_people_wrote_stays_text() {
        let row = Row::of(&seen(r#"{"a":"<b>"}"#, r#"{"a":"</li>","<i>":1}"#)).to_string();
        for text in ["<script", "<b>&", "</li>\"", "<i>", "<long>"] {
            assert!(!row.contains(text), "{text} is in {row}");
        }
        assert!(row.contains("<del>&#34;&#60;b&#62;&#34;</del> <ins>&#34;&#60;/li&#62;&#34;</ins>"), "{row}");
    }

    #[test]
    fn a_row_says_when_to_whom_and_how_long() {
        let row = Row::of(&seen("{}", "{}")).to_string();
        for text in
            ["<time>01:01:01.007</time>", "to signals \u{d7} 2, list \u{d7} 1", "1.2 ms", "note.write"]
        {
            assert!(row.contains(text), "{text} is not in {row}");
        }
    }

    #[test]
    fn law_06_a_difference_is_bounded() {
        let many: String = (0..100).map(|at| format!("\"f{at}\":\"{}\",", "x".repeat(500))).collect();
        let after: &'static str = format!("{{{}}}", many.trim_end_matches(',')).leak();
        let row = Row::of(&seen("{}", after));
        assert_eq!((row.changes.len(), row.more), (PLACES, 100 - PLACES));
        assert!(row.to_string().len() < PLACES * 300, "{}", row.to_string().len());
    }
}
