//! Messages of a page's console.

use serde_json::Value;

/// The part of a message that a failure shows, in bytes.
const MAX_MESSAGE_CHARS: usize = 200;

/// Returns a console event that no page should cause.
pub(crate) fn complaint(event: &Value) -> Option<String> {
    said(event).map(|text| text.chars().take(MAX_MESSAGE_CHARS).collect())
}

fn said(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(describe(&params["exceptionDetails"])),
        "Runtime.consoleAPICalled"
            if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
        {
            let said = params["args"].as_array()?.iter();
            let said = said.map(|arg| {
                arg["description"].as_str().map_or_else(|| arg["value"].to_string(), str::to_owned)
            });
            Some(said.collect::<Vec<_>>().join(" "))
        }
        "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
            let entry = &params["entry"];
            Some(format!(
                "{} {}",
                entry["text"].as_str().unwrap_or_default(),
                entry["url"].as_str().unwrap_or_default()
            ))
        }
        _ => None,
    }
}

pub(crate) fn describe(details: &Value) -> String {
    let thrown = details["exception"]["description"].as_str().or_else(|| details["text"].as_str());
    thrown.map_or_else(|| details.to_string(), str::to_owned)
}
