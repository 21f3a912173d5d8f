//! Checks whether the server's settings keep law 1.

use bb8_redis::redis::{FromRedisValue as _, Pipeline, RedisResult, Value};

/// The durability of acknowledged saves (law 1) under the server's settings at the time of connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Acknowledged saves are on the server's disk, and nothing is evicted.
    Synced,
    /// Acknowledged saves can be lost. Each sentence gives a reason and the setting to change.
    Weaker(Vec<String>),
    /// The server does not report its settings.
    Unknown,
}

/// The relevant settings, in the order in which they are queried.
const SETTINGS: [&str; 5] =
    ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy"];

/// The commands that query the settings.
pub(crate) fn settings_query() -> Pipeline {
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

    /// The weaker of two servers' durability.
    pub(crate) fn weaker(self, other: Self) -> Self {
        match (self, other) {
            (Self::Weaker(mut reasons), Self::Weaker(others)) => {
                let new: Vec<_> = others.into_iter().filter(|reason| !reasons.contains(reason)).collect();
                reasons.extend(new);
                Self::Weaker(reasons)
            }
            (weaker @ Self::Weaker(_), _) | (_, weaker @ Self::Weaker(_)) => weaker,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Synced, Self::Synced) => Self::Synced,
        }
    }

    /// Logs a warning for each problem.
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
                "the server does not report its settings, so acknowledged changes may be lost (law 1): \
                 make sure of `appendonly yes`, `appendfsync always` and `maxmemory-policy noeviction`"
            ),
        }
    }
}

fn value(answer: RedisResult<Value>) -> Option<String> {
    let (_, value) = <Vec<(String, String)>>::from_redis_value(answer.ok()?).ok()?.pop()?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_of_a_cluster_is_that_of_its_weakest_server() {
        let weaker =
            |reasons: &[&str]| Durability::Weaker(reasons.iter().copied().map(str::to_owned).collect());
        let (synced, unknown) = (Durability::Synced, Durability::Unknown);
        assert_eq!(synced.clone().weaker(Durability::Synced), synced);
        assert_eq!(synced.clone().weaker(Durability::Unknown), unknown);
        assert_eq!(weaker(&["a"]).weaker(unknown), weaker(&["a"]));
        assert_eq!(synced.weaker(weaker(&["a"])).weaker(weaker(&["a", "b"])), weaker(&["a", "b"]));
    }
}
