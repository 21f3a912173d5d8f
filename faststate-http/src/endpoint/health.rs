//! The response to health probes.

use std::time::Duration;

use faststate_core::{Health, Registry};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    connections::Connections,
    nest,
    reply::{self, ReplyBody},
};

/// How long a health report is reused. A report calls each store and visits every instance, and any client may request
/// it.
const HEALTH_CACHE_TIME: Duration = Duration::from_secs(1);

/// The registry's latest health report, and the time of the report.
///
/// The lock is asynchronous and is held while a report is made, so that concurrent requests share it.
#[derive(Default)]
pub(super) struct CachedHealth(Mutex<Option<(Instant, Health)>>);

impl CachedHealth {
    /// Returns a report that is at most 1 s old.
    async fn get(&self, registry: &dyn Registry) -> Health {
        let mut cached = self.0.lock().await;
        match &*cached {
            Some((at, health)) if at.elapsed() < HEALTH_CACHE_TIME => health.clone(),
            _ => {
                let health = registry.health().await;
                cached.insert((Instant::now(), health)).1.clone()
            }
        }
    }
}

/// Answers a probe: 200, or 503 while a store fails or the node drains.
pub(super) async fn answer(
    cached: &CachedHealth,
    registry: &dyn Registry,
    streams: &Connections,
) -> Response<ReplyBody> {
    let health = cached.get(registry).await;
    let (status, word) = match (health.is_healthy(), streams.is_draining()) {
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (true, false) => (StatusCode::OK, "ok"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let mut body = json!({ "status": word, "connections": streams.len() });
    nest::merge(&mut body, serde_json::to_value(&health).unwrap_or(Value::Null));
    reply::answer(status, reply::JSON, ReplyBody::full(body.to_string()))
}
