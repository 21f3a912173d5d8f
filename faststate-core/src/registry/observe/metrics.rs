//! The metrics of a registry.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Health, MessageHealth,
    metrics::{Exposition, MetricKind, OUTCOMES, StateMeter, StoreMeter},
};

/// Renders all metric families of the engine in the Prometheus text format.
pub(in crate::registry) fn render<'a>(
    states: impl IntoIterator<Item = (&'static str, &'a StateMeter)>,
    stores: &BTreeMap<String, Arc<StoreMeter>>,
    health: &Health,
) -> String {
    let states: Vec<_> = states.into_iter().collect();
    let mut page = Exposition::default();
    render_events(&states, &mut page);
    render_stores(stores, &mut page);
    render_health(health, &mut page);
    page.finish()
}

fn render_events(states: &[(&str, &StateMeter)], page: &mut Exposition) {
    page.family("faststate_events_total", MetricKind::Counter, "Events, by outcome.");
    for (state, meter) in states {
        for (event, meter) in &meter.events {
            for (outcome, count) in OUTCOMES.iter().zip(&meter.outcomes) {
                let labels = [("state", *state), ("event", event), ("outcome", outcome)];
                page.sample(&labels, count.get());
            }
        }
    }
    let help = "Time from an event's arrival to its outcome.";
    page.family("faststate_event_duration_seconds", MetricKind::Histogram, help);
    for (state, meter) in states {
        for (event, meter) in &meter.events {
            page.durations(&[("state", state), ("event", event)], &meter.took);
        }
    }
    page.family(
        "faststate_frames_total",
        MetricKind::Counter,
        "Encoded frames. A frame is encoded once for all followers.",
    );
    for (state, meter) in states {
        page.sample(&[("state", state)], meter.frames.get());
    }
    page.family("faststate_frame_bytes_total", MetricKind::Counter, "Bytes of encoded frames.");
    for (state, meter) in states {
        page.sample(&[("state", state)], meter.frame_bytes.get());
    }
}

fn render_stores(stores: &BTreeMap<String, Arc<StoreMeter>>, page: &mut Exposition) {
    let help = "Duration of store calls, including failed and abandoned ones.";
    page.family("faststate_store_call_duration_seconds", MetricKind::Histogram, help);
    for (store, meter) in stores {
        page.durations(&[("store", store), ("call", "load")], &meter.loads);
        page.durations(&[("store", store), ("call", "save")], &meter.saves);
    }
    page.family("faststate_store_failures_total", MetricKind::Counter, "Failed store calls.");
    for (store, meter) in stores {
        page.sample(&[("store", store), ("call", "load")], meter.failed_loads.get());
        page.sample(&[("store", store), ("call", "save")], meter.failed_saves.get());
    }
}

fn render_health(health: &Health, page: &mut Exposition) {
    page.family("faststate_store_up", MetricKind::Gauge, "Whether the store responds to a ping now.");
    for store in &health.stores {
        page.sample(&[("store", &store.name)], u8::from(store.healthy));
    }
    page.family("faststate_store_ping_seconds", MetricKind::Gauge, "Duration of the store's latest ping.");
    for store in &health.stores {
        page.sample(&[("store", &store.name)], store.latency_ms / 1000.0);
    }
    if let Some(messages) = &health.messages {
        render_messages(messages, page);
    }
    let mut one = |name, kind, help: &str, value: u64| page.family(name, kind, help).sample(&[], value);
    let conflicts = "Saves that failed because another node had saved first.";
    one("faststate_conflicts_total", MetricKind::Counter, conflicts, health.conflicts);
    one("faststate_topics", MetricKind::Gauge, "Topics with at least one follower.", health.topics as u64);
    one("faststate_followers", MetricKind::Gauge, "Followers of all topics.", health.followers as u64);
    one("faststate_instances", MetricKind::Gauge, "Instances in memory.", health.instances as u64);
    one(
        "faststate_peers",
        MetricKind::Gauge,
        "Other nodes that have sent a heartbeat recently.",
        health.nodes.len() as u64,
    );
    one("faststate_uptime_seconds", MetricKind::Gauge, "Time since the registry was built.", health.uptime);
}

fn render_messages(messages: &MessageHealth, page: &mut Exposition) {
    let mut one =
        |name, help: &str, value: f64| page.family(name, MetricKind::Gauge, help).sample(&[], value);
    one(
        "faststate_messages_pending",
        "Messages and jobs of all nodes that are not finished.",
        messages.pending as f64,
    );
    let parked = "Messages, timers and jobs of all nodes that wait for an operator.";
    one("faststate_messages_parked", parked, messages.parked as f64);
    let oldest = "Time since the oldest unfinished message or job was requested.";
    one("faststate_messages_oldest_seconds", oldest, messages.oldest_ms as f64 / 1000.0);
}
