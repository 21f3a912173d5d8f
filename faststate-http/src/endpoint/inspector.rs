//! The inspector: a page that shows the application's events live, for developers.
//!
//! It is a FastState application of its own beside the inspected one. With its own registry and endpoint, its events are
//! not saved, not sent to other nodes, not counted in metrics, and not inspected.

mod log;
mod messages;
mod page;
mod row;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use faststate_core::{
    Access, BoxError, Event as _, Handle, ReactiveState as _, StateConfig, StateRegistry,
    internal::{EventObserver, EventTrace},
};
use http::{Response, request::Parts};
use http_body::Body;
use tokio::sync::mpsc;

use self::{
    log::{ClearLog, EventList, InspectorLog},
    messages::{Inspected, ResolveMessage, UnfinishedList, UnfinishedTable, keep_loading},
    row::EventRow,
};
use super::{
    Endpoint,
    error_page::error_page,
    event::{self, EventTarget},
    open_stream,
    operator_access::OperatorAccess,
    problem::Problem,
    reply::{self, ReplyBody},
    route::{INSPECTOR, INSPECTOR_CLEAR, INSPECTOR_MESSAGE},
    settings::MountedInspector,
};

/// The number of events that wait to be shown. More are counted as missed and dropped.
const MAX_QUEUED_TRACES: usize = 1024;
/// The number of events that are added to the log at a time.
const MAX_BATCH: usize = 64;

/// Sends the traces of the inspected registry to the inspector's task.
struct TraceSender {
    traces: mpsc::Sender<EventTrace>,
    missed: Arc<AtomicU64>,
}

impl EventObserver for TraceSender {
    fn on_event(&self, trace: EventTrace) {
        if self.traces.try_send(trace).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Creates the inspector of an endpoint, and registers it with the endpoint's registry.
pub(super) fn mount(inspected: &Endpoint, access: OperatorAccess) -> Result<MountedInspector, BoxError> {
    let config = StateConfig::global().access(Access::public()).max_queued_events(MAX_BATCH);
    let observed = Arc::downgrade(inspected.registry());
    let registry = StateRegistry::builder()
        .resource(Inspected(Weak::clone(&observed)))
        .state::<InspectorLog>(config.clone(), |log| log.event::<ClearLog>().view(EventList))
        .state::<UnfinishedList>(config, |list| list.event::<ResolveMessage>().view(UnfinishedTable))
        .build()?;
    tokio::spawn(keep_loading(registry.global()?, Arc::new(Inspected(observed))));
    let (sender, traces) = mpsc::channel(MAX_QUEUED_TRACES);
    let missed = Arc::<AtomicU64>::default();
    tokio::spawn(record_traces(traces, registry.global()?, Arc::clone(&missed)));
    let observer = Arc::new(TraceSender { traces: sender, missed });
    let weak = Arc::downgrade(&observer);
    inspected.registry().engine().watch(weak);
    let cookie = inspected.settings().cookie.sibling("faststate_inspector");
    let endpoint = Endpoint::new(registry).with(|settings| settings.cookie = cookie);
    Ok(MountedInspector { access, endpoint, _observer: observer })
}

/// Answers everything under `/faststate/inspector`. Callers that are not admitted get a 404.
pub(super) async fn answer<B>(
    endpoint: &Endpoint,
    parts: Parts,
    body: B,
    peer: Option<SocketAddr>,
) -> Response<ReplyBody>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let unknown = || endpoint.settings().refuse(&parts, &Problem::unknown());
    let Some(inspector) = &endpoint.settings().inspector else { return unknown() };
    let viewer = match endpoint.viewer(&parts).await {
        Ok(viewer) => viewer,
        Err(error) => return endpoint.settings().refuse(&parts, &Problem::of(&error)),
    };
    if !inspector.access.admit(&parts, peer, &viewer) {
        inspector.access.announce(None, INSPECTOR);
        return unknown();
    }
    if let Some(cookie) = inspector.access.cookie(&parts, endpoint.settings().cookie.is_secure()) {
        return reply::see_other(INSPECTOR, cookie);
    }
    match parts.uri.path() {
        INSPECTOR => match page::render(endpoint, &inspector.endpoint, &parts).await {
            Ok(response) => response,
            Err(error) => error_page(&Problem::of(&error)),
        },
        INSPECTOR_CLEAR => {
            let target = EventTarget { state: InspectorLog::NAME, event: ClearLog::NAME, id: None };
            event::answer(&inspector.endpoint, target, &parts, body, peer).await
        }
        INSPECTOR_MESSAGE => {
            let target = EventTarget { state: UnfinishedList::NAME, event: ResolveMessage::NAME, id: None };
            event::answer(&inspector.endpoint, target, &parts, body, peer).await
        }
        _ => open_stream::open(&inspector.endpoint, parts, peer).await,
    }
}

/// Adds traces to the log, in batches when there are many.
async fn record_traces(
    mut traces: mpsc::Receiver<EventTrace>,
    log: Handle<InspectorLog>,
    missed: Arc<AtomicU64>,
) {
    let mut batch = Vec::new();
    while traces.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let rows: Vec<_> = batch.drain(..).map(|trace| EventRow::of(&trace)).collect();
        let missed = missed.load(Ordering::Relaxed);
        let updated = log.update(move |log| {
            log.append(rows.clone(), missed);
            Ok(())
        });
        if let Err(error) = updated.await {
            tracing::warn!(%error, "the inspector could not record events; its list is incomplete");
        }
    }
}
