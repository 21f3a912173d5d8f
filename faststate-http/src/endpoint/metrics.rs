//! The metrics page for Prometheus.

use std::net::SocketAddr;

use faststate_core::internal::{Exposition, MetricKind};
use http::{Response, StatusCode, request::Parts};

use super::{
    Endpoint,
    problem::Problem,
    reply::{self, ReplyBody},
    route::METRICS,
};

/// The content type of Prometheus' text format.
const EXPOSITION_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the metrics of the registry and of the endpoint. A caller that is not admitted gets a 404, as if
/// there were no such page.
pub(super) async fn answer(
    endpoint: &Endpoint,
    head: &Parts,
    peer: Option<SocketAddr>,
) -> Response<ReplyBody> {
    let unknown = || endpoint.settings().refuse(head, &Problem::unknown());
    let Some(access) = &endpoint.settings().metrics else { return unknown() };
    let viewer = match endpoint.viewer(head).await {
        Ok(viewer) => viewer,
        Err(error) => return endpoint.settings().refuse(head, &Problem::of(&error)),
    };
    if !access.admit(head, peer, &viewer) {
        access.announce(None, METRICS);
        return unknown();
    }
    let mut text = endpoint.registry().engine().metrics().await;
    let mut page = Exposition::default();
    let streams = endpoint.streams();
    let meter = streams.meter();
    page.family("faststate_streams", MetricKind::Gauge, "Open streams.").sample(&[], streams.len());
    page.family("faststate_streams_opened_total", MetricKind::Counter, "Streams opened so far.")
        .sample(&[], meter.opened.get());
    page.family(
        "faststate_streams_refused_total",
        MetricKind::Counter,
        "Streams refused at a limit, by limit.",
    );
    for (limit, count) in ["node", "session", "address"].into_iter().zip(&meter.refused) {
        page.sample(&[("limit", limit)], count.get());
    }
    let help = "Pieces written to streams. All frames that are due for a stream at once form one piece.";
    page.family("faststate_stream_writes_total", MetricKind::Counter, help).sample(&[], meter.writes.get());
    page.family("faststate_stream_bytes_total", MetricKind::Counter, "Bytes written to streams.")
        .sample(&[], meter.bytes.get());
    page.family("faststate_draining", MetricKind::Gauge, "Whether this node is draining.")
        .sample(&[], u8::from(streams.is_draining()));
    text.push_str(&page.finish());
    reply::answer(StatusCode::OK, EXPOSITION_TYPE, ReplyBody::full(text))
}
