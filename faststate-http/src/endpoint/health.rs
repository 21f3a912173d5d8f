//! The answer to probes.

use std::time::Duration;

use faststate_core::{Health, Registry};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Endpoint, nest,
    reply::{self, ReplyBody},
};

/// How long the registry's figures are shown: they cost a call of each store and a look at every instance, and
/// anybody may ask for them.
const FRESH: Duration = Duration::from_secs(1);

/// The registry's figures, and when they were gathered.
#[derive(Default)]
pub(super) struct Figures(Mutex<Option<(Instant, Health)>>);

impl Figures {
    /// Figures that are at most a second old. Requests that come while they are gathered wait for the same ones.
    async fn of(&self, registry: &dyn Registry) -> Health {
        let mut figures = self.0.lock().await;
        match &*figures {
            Some((at, health)) if at.elapsed() < FRESH => health.clone(),
            _ => {
                let health = registry.health().await;
                figures.insert((Instant::now(), health)).1.clone()
            }
        }
    }
}

/// Answers a probe: 200, or 503 while a store does not answer or the node drains.
pub(super) async fn answer(endpoint: &Endpoint) -> Response<ReplyBody> {
    let health = endpoint.figures.of(&*endpoint.registry).await;
    let (status, word) = match (health.is_healthy(), endpoint.streams.is_draining()) {
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (true, false) => (StatusCode::OK, "ok"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let mut body = json!({ "status": word, "connections": endpoint.connections() });
    nest::merge(&mut body, serde_json::to_value(&health).unwrap_or(Value::Null));
    reply::answer(status, reply::JSON, ReplyBody::full(body.to_string()))
}
