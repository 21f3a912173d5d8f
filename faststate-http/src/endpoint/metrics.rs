//! Figures for Prometheus.

use std::net::SocketAddr;

use faststate_core::internal::{Exposition, MetricKind};
use http::{Response, StatusCode, request::Parts};

use super::{
    Endpoint, Problem,
    reply::{self, ReplyBody},
    route::METRICS,
};

/// The format that Prometheus asks for.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers with the registry's families and the endpoint's, to who may read them. Whoever may not is told that
/// there is nothing.
pub(super) async fn answer(
    endpoint: &Endpoint,
    head: &Parts,
    peer: Option<SocketAddr>,
) -> Response<ReplyBody> {
    let unknown = || endpoint.refuse(head, &Problem::unknown());
    let Some(readers) = &endpoint.settings().metrics else { return unknown() };
    // Somebody is asked about, and no session is begun.
    let visitor = match endpoint.visitor(head).await {
        Ok(visitor) => visitor,
        Err(error) => return endpoint.refuse(head, &Problem::of(&error)),
    };
    if !readers.admit(head, peer, visitor.viewer()) {
        readers.announce(None, METRICS);
        return unknown();
    }
    let mut text = endpoint.registry().metrics().await;
    let mut page = Exposition::default();
    let streams = endpoint.streams();
    let meter = streams.meter();
    page.family("faststate_streams", MetricKind::Gauge, "Streams that are open.").sample(&[], streams.len());
    page.family("faststate_streams_opened_total", MetricKind::Counter, "Streams that were opened.")
        .sample(&[], meter.opened.get());
    page.family("faststate_streams_refused_total", MetricKind::Counter, "Streams beyond a limit, by which.");
    for (limit, count) in [("node", &meter.full[0]), ("session", &meter.full[1]), ("address", &meter.full[2])]
    {
        page.sample(&[("limit", limit)], count.get());
    }
    let help = "Pieces given to streams: whatever has gathered for a follower is one.";
    page.family("faststate_stream_writes_total", MetricKind::Counter, help).sample(&[], meter.writes.get());
    page.family("faststate_stream_bytes_total", MetricKind::Counter, "Bytes given to streams.")
        .sample(&[], meter.bytes.get());
    page.family("faststate_draining", MetricKind::Gauge, "Whether this node is about to end.")
        .sample(&[], u8::from(streams.is_draining()));
    text.push_str(&page.finish());
    reply::answer(StatusCode::OK, TEXT, ReplyBody::full(text))
}
