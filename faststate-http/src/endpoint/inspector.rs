//! What happens, live, for developers: an application of its own, built on FastState, beside the one that it
//! looks at.
//!
//! It has its own registry and its own endpoint, so that nothing of it is saved, carried to other nodes, counted or
//! seen by itself.

mod log;
mod page;
mod row;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use faststate_core::{
    Access, BoxError, Event as _, Handle, ReactiveState as _, StateConfig, StateRegistry,
    registry::{EventObserver, EventTrace},
};
use http::{Response, request::Parts};
use http_body::Body;
use tokio::sync::mpsc;

use self::{
    log::{Clear, Events, Log},
    row::Row,
};
use super::{
    Endpoint, OperatorAccess, Problem,
    event::{self, Target},
    open_stream,
    reply::{self, ReplyBody},
    route::{INSPECTOR, INSPECTOR_CLEAR},
};

/// How many events may wait to be shown; more are counted and left out.
const WAITING: usize = 1024;
/// How many are shown at a time.
const BATCH: usize = 64;

/// The inspector of one endpoint.
#[derive(Clone)]
pub(super) struct Inspector {
    readers: OperatorAccess,
    endpoint: Endpoint,
    /// The registry that is looked at knows it for as long as this lives.
    watcher: Arc<Eye>,
}

/// What the registry tells.
struct Eye {
    seen: mpsc::Sender<EventTrace>,
    missed: Arc<AtomicU64>,
}

impl EventObserver for Eye {
    fn on_event(&self, seen: EventTrace) {
        if self.seen.try_send(seen).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Inspector {
    /// Begins to look at a registry.
    pub(super) fn of(looked_at: &Endpoint, readers: OperatorAccess) -> Result<Self, BoxError> {
        let shown = StateConfig::global().access(Access::public()).max_queued_events(BATCH);
        let registry =
            StateRegistry::builder().state::<Log>(shown, |log| log.event::<Clear>().view(Events)).build()?;
        let (sender, seen) = mpsc::channel(WAITING);
        let missed = Arc::<AtomicU64>::default();
        tokio::spawn(keep(seen, registry.global()?, Arc::clone(&missed)));
        let watcher = Arc::new(Eye { seen: sender, missed });
        let weak = Arc::downgrade(&watcher);
        looked_at.registry().watch(weak);
        let cookie = looked_at.settings().cookie.beside("faststate_inspector");
        let endpoint = Endpoint::new(registry).with(|settings| settings.cookie = cookie);
        Ok(Self { readers, endpoint, watcher })
    }

    /// Attaches to responses what they are about, for tests.
    pub(super) fn annotate(&mut self) {
        self.endpoint = self.endpoint.clone().with(|settings| settings.annotates = true);
    }

    /// Tells in the log where it is, and its token.
    #[cfg(feature = "server")]
    pub(super) fn announce(&self, address: SocketAddr) {
        self.readers.announce(Some(address), INSPECTOR);
    }
}

/// Answers for everything under `/faststate/inspector`. Whoever may not see it is told that there is nothing.
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
    let unknown = || endpoint.refuse(&parts, &Problem::unknown());
    let Some(inspector) = &endpoint.settings().inspector else { return unknown() };
    if let Err(error) = endpoint.check_host(&parts.headers, &parts.uri) {
        return endpoint.refuse(&parts, &Problem::of(&error));
    }
    let visitor = match endpoint.visitor(&parts).await {
        Ok(visitor) => visitor,
        Err(error) => return endpoint.refuse(&parts, &Problem::of(&error)),
    };
    if !inspector.readers.admit(&parts, peer, visitor.viewer()) {
        inspector.readers.announce(None, INSPECTOR);
        return unknown();
    }
    if let Some(cookie) = inspector.readers.cookie(&parts, endpoint.settings().cookie.is_secure()) {
        return reply::see_other(INSPECTOR, cookie);
    }
    match parts.uri.path() {
        INSPECTOR => match page::render(endpoint, &inspector.endpoint, &parts).await {
            Ok(response) => response,
            Err(error) => Problem::of(&error).page(),
        },
        INSPECTOR_CLEAR => {
            let target = Target { state: Log::NAME, event: Clear::NAME, id: None };
            event::answer(&inspector.endpoint, target, &parts, body, peer).await
        }
        _ => open_stream::open(&inspector.endpoint, parts, peer).await,
    }
}

/// Shows what is seen, several at a time where much happens.
async fn keep(mut seen: mpsc::Receiver<EventTrace>, log: Handle<Log>, missed: Arc<AtomicU64>) {
    let mut batch = Vec::new();
    while seen.recv_many(&mut batch, BATCH).await > 0 {
        let rows: Vec<_> = batch.drain(..).map(|seen| Row::of(&seen)).collect();
        let missed = missed.load(Ordering::Relaxed);
        let shown = log.update(move |log| {
            log.take(rows.clone(), missed);
            Ok(())
        });
        if let Err(error) = shown.await {
            tracing::warn!(%error, "the inspector shows less than it has seen");
        }
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missed = self.watcher.missed.load(Ordering::Relaxed);
        f.debug_struct("Inspector")
            .field("readers", &self.readers)
            .field("missed", &missed)
            .finish_non_exhaustive()
    }
}
