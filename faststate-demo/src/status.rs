//! Status: the figures of the nodes whose status page is open, in an ordinary state.
//!
//! A node collects its figures once a second while the page is followed, and not at all otherwise.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use askama::Template;
use faststate::{
    BoxError, Error,
    endpoint::{Endpoint, Page},
    prelude::*,
    registry::RegistryBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{layout::Layout, timer::milliseconds};

/// Interval between two sets of figures.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of seconds that the chart shows.
const HISTORY: usize = 60;
/// Age of the figures, in milliseconds, after which a node is no longer shown.
const MAX_AGE_MS: u64 = 10_000;

/// The figures of each node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    nodes: BTreeMap<String, NodeFigures>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct NodeFigures {
    /// When the figures were collected, in milliseconds since 1970.
    at: u64,
    /// Seconds since the node's start.
    uptime: u64,
    streams: usize,
    topics: usize,
    instances: usize,
    conflicts: u64,
    /// Events in each of the last seconds, the newest last.
    events: VecDeque<u64>,
    stores: Vec<StoreFigures>,
    /// Resident memory of the process in KiB, if the system reports it.
    memory: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoreFigures {
    name: String,
    healthy: bool,
    latency_ms: f64,
}

#[derive(Serialize)]
struct StatusSignals {
    nodes: usize,
}

impl ReactiveState for Status {
    const NAME: &'static str = "status";

    fn signals(&self) -> impl Serialize {
        StatusSignals { nodes: self.nodes.len() }
    }
}

/// Registers the state. The engine's follower counts are sent to [`keep`] through `watched`.
pub(crate) fn register(builder: RegistryBuilder, watched: watch::Sender<usize>) -> RegistryBuilder {
    // Node-local, because each node shows its own figures.
    builder.state::<Status>(StateConfig::global().access(Access::public()).node_local(), |state| {
        state.view(NodeCards).presence(move |followers| {
            watched.send_replace(followers);
            Watched {}
        })
    })
}

/// The number of followers has changed. The engine sends this event; [`keep`] reacts to the count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Watched {}

impl Event for Watched {
    type State = Status;
    const NAME: &'static str = "watched";

    fn apply(&self, _: &mut Status, _: &mut Context<Status>) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Collects this node's figures once a second while the page has followers.
pub(crate) async fn keep(
    node: String,
    status: Handle<Status>,
    endpoint: Endpoint,
    mut watched: watch::Receiver<usize>,
) {
    while watched.wait_for(|followers| *followers > 0).await.is_ok() {
        let mut seconds = interval(INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut since) = (None, Instant::now());
        while *watched.borrow() > 0 {
            seconds.tick().await;
            let health = endpoint.registry().health().await;
            // Without the event that the status page itself causes.
            let events = before.map_or(0, |before: u64| health.events.saturating_sub(before + 1));
            let rate = per_second(events, since.elapsed());
            (before, since) = (Some(health.events), Instant::now());
            let figures = NodeFigures {
                at: milliseconds(SystemTime::now()),
                uptime: health.uptime,
                streams: endpoint.connections(),
                topics: health.topics,
                instances: health.instances,
                conflicts: health.conflicts,
                events: VecDeque::new(),
                stores: health.stores.into_iter().map(StoreFigures::from).collect(),
                memory: memory(),
            };
            let node = node.clone();
            let taken = status.update(move |status| {
                status.take(&node, figures.clone(), rate);
                Ok(())
            });
            if let Err(error) = taken.await {
                tracing::warn!(%error, "the status page was not updated");
            }
        }
    }
}

impl Status {
    fn take(&mut self, node: &str, mut figures: NodeFigures, rate: u64) {
        self.nodes.retain(|_, others| others.at + MAX_AGE_MS > figures.at);
        figures.events = self.nodes.remove(node).map(|before| before.events).unwrap_or_default();
        if figures.events.len() == HISTORY {
            figures.events.pop_front();
        }
        figures.events.push_back(rate);
        self.nodes.insert(node.to_owned(), figures);
    }
}

/// The rate, rounded to whole events.
fn per_second(events: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    (events.saturating_mul(1000) + milliseconds / 2) / milliseconds
}

/// The resident memory of the process in KiB, on Linux.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl From<faststate::StoreHealth> for StoreFigures {
    fn from(store: faststate::StoreHealth) -> Self {
        Self { name: store.name, healthy: store.healthy, latency_ms: store.latency_ms }
    }
}

/// A card with the figures of each node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeCards;

impl View for NodeCards {
    type State = Status;
    const NAME: &'static str = "nodes";

    fn render(&self, status: &Status) -> Elements {
        Elements::outer(NodeList { nodes: &status.nodes }.to_string())
    }
}

#[derive(Template)]
#[template(path = "nodes.html")]
struct NodeList<'a> {
    nodes: &'a BTreeMap<String, NodeFigures>,
}

impl NodeFigures {
    fn uptime(&self) -> String {
        match self.uptime {
            seconds @ 0..60 => format!("{seconds} s"),
            seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }

    fn rate(&self) -> u64 {
        self.events.back().copied().unwrap_or(0)
    }

    fn memory(&self) -> String {
        self.memory
            .map_or("unknown".to_owned(), |kib| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024))
    }

    /// One bar per second in a box of 300 by 40, as its left edge, its top and its height.
    fn bars(&self) -> Vec<(usize, u64, u64)> {
        let most = self.events.iter().copied().max().unwrap_or(0).max(1);
        let first = HISTORY - self.events.len();
        let height = |rate: u64| if rate == 0 { 1 } else { (rate * 38 / most).max(2) };
        let bar = |(at, rate): (usize, &u64)| ((first + at) * 5, 40 - height(*rate), height(*rate));
        self.events.iter().enumerate().map(bar).collect()
    }
}

impl StoreFigures {
    fn latency(&self) -> String {
        if self.latency_ms < 0.1 { "under 0.1 ms".to_owned() } else { format!("{:.1} ms", self.latency_ms) }
    }
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    layout: Layout,
    nodes: Elements,
}

pub(crate) async fn show(page: &Page) -> Result<String, BoxError> {
    page.follow::<Status>().await?;
    let nodes = page.view::<NodeCards>().await?;
    let layout = Layout::of(page, "/status", "status.rs").await?;
    Ok(StatusPage { layout, nodes }.render()?)
}

/// The handle of the status state.
pub(crate) fn of(registry: &std::sync::Arc<dyn Registry>) -> Result<Handle<Status>, Error> {
    Handle::of(std::sync::Arc::clone(registry), &Viewer::application(), None)
}

#[cfg(test)]
mod tests;
