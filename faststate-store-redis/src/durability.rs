//! Whether the server's settings keep law 1.

use bb8_redis::redis::{FromRedisValue as _, Pipeline, RedisResult, Value};

/// What the server's settings promise for law 1: nothing acknowledged is lost. As they were when the
/// store connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// What is acknowledged is on the server's disk, and nothing is evicted.
    Synced,
    /// Less than that: each sentence says why, and which setting to change.
    Weaker(Vec<String>),
    /// The server does not tell its settings.
    Unknown,
}

/// The settings that matter, in the order in which they are asked for.
const SETTINGS: [&str; 5] =
    ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy"];

/// Asks for the settings.
pub(crate) fn question() -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        pipeline.cmd("CONFIG").arg("GET").arg(setting);
    }
    pipeline
}

impl Durability {
    pub(crate) fn judge(answers: Vec<RedisResult<Value>>) -> Self {
        let values: Option<Vec<String>> = answers.into_iter().map(value).collect();
        let Some(values) = values else { return Self::Unknown };
        let is = |setting: &str, wanted: &str| {
            SETTINGS.iter().zip(&values).any(|(name, value)| *name == setting && value == wanted)
        };
        let mut reasons = Vec::new();
        let mut unless = |kept: bool, reason: &str| {
            if !kept {
                reasons.push(reason.to_owned());
            }
        };
        unless(is("appendonly", "yes"), "it keeps no append-only file: set `appendonly yes`");
        unless(
            is("appendfsync", "always"),
            "it acknowledges before it syncs to disk: set `appendfsync always`",
        );
        unless(
            is("no-appendfsync-on-rewrite", "no"),
            "it does not sync while it rewrites its file: set `no-appendfsync-on-rewrite no`",
        );
        unless(
            is("maxmemory", "0") || is("maxmemory-policy", "noeviction"),
            "it evicts keys when its memory is full: set `maxmemory-policy noeviction`",
        );
        if reasons.is_empty() { Self::Synced } else { Self::Weaker(reasons) }
    }

    /// Says in the log what is missing.
    pub(crate) fn warn(&self, address: &str) {
        match self {
            Self::Synced => {}
            Self::Weaker(reasons) => {
                for reason in reasons {
                    tracing::warn!(redis = address, "acknowledged changes can be lost (law 1): {reason}");
                }
            }
            Self::Unknown => tracing::warn!(
                redis = address,
                "the server does not tell its settings, so that acknowledged changes may be lost (law 1): \
                 see to `appendonly yes`, `appendfsync always` and `maxmemory-policy noeviction`"
            ),
        }
    }
}

fn value(answer: RedisResult<Value>) -> Option<String> {
    let (_, value) = <Vec<(String, String)>>::from_redis_value(answer.ok()?).ok()?.pop()?;
    Some(value)
}
