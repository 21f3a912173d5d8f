//! Keeps a connection to the service: subscribes, probes, detects its end, and reconnects with a growing pause.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Batcher, Channel, Inbox, Receiver, RelayConnection, RelayShared, Transport,
    envelope::Envelope,
    transport::{ConnectionStatus, with_timeout},
};
use crate::BoxError;

/// The time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum time since the last probe that returned.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The first pause before a reconnect. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause before a reconnect.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lasted this long resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// The maximum number of channels in one call.
const MAX_CHANNELS: usize = 256;

/// A connection on which every joined key is subscribed.
pub(super) struct Connected {
    batcher: Arc<Batcher>,
    probes: Vec<u32>,
    status: Arc<ConnectionStatus>,
}

impl RelayShared {
    /// Connects and subscribes to every joined key.
    pub(super) async fn connect(self: &Arc<Self>, transport: &dyn Transport) -> Result<Connected, BoxError> {
        let receiver = Receiver::new(Arc::clone(self));
        let status = Arc::clone(&receiver.status);
        let connection = with_timeout(transport.connect(receiver)).await?;
        let probes = connection.probes(self.node);
        let mut open = vec![Channel::All];
        open.extend(probes.iter().map(|probe| Channel::Node(self.node, *probe)));
        with_timeout(connection.subscribe(&open)).await?;
        loop {
            let missing = self.interests.missing();
            if missing.is_empty() {
                let batcher = Batcher::new(connection);
                *self.batcher.lock() = Some(Arc::clone(&batcher));
                return Ok(Connected { batcher, probes, status });
            }
            for some in missing.chunks(MAX_CHANNELS) {
                with_timeout(connection.subscribe(some)).await?;
                self.interests.subscribed(some);
            }
        }
    }
}

/// Serves `first` and reconnects whenever a connection ends, until the task is aborted.
pub(super) async fn keep_connected(shared: Arc<RelayShared>, transport: impl Transport, first: Connected) {
    let mut next = Ok(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        let end = match next {
            Ok(connected) => serve(&shared, &connected).await,
            Err(error) => error,
        };
        shared.interests.down();
        shared.close_batcher();
        tracing::warn!(error = &*end as &dyn std::error::Error, "no connection to the other nodes");
        if since.elapsed() > STABLE_AFTER {
            pause = FIRST_PAUSE;
        }
        sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause = (pause * 2).min(MAX_PAUSE);
        next = shared.connect(&transport).await;
        if next.is_ok() {
            tracing::info!("connected to the other nodes again");
            shared.with_inbox(Inbox::lost);
        }
    }
}

/// Serves a connection until it ends; returns the reason.
async fn serve(shared: &RelayShared, connected: &Connected) -> BoxError {
    let Connected { batcher, probes, status } = connected;
    let connection = &*batcher.connection;
    let closed = || BoxError::from("the connection was closed");
    let ended = tokio::select! {
        () = status.disconnected.notified() => Err(closed()),
        failure = batcher.broken() => Err(failure.unwrap_or_else(closed)),
        ended = update_subscriptions(shared, connection) => ended,
        ended = probe(shared, connection, probes, status) => ended,
    };
    let Err(error) = ended;
    error
}

/// Subscribes and unsubscribes as keys are joined and left.
async fn update_subscriptions(
    shared: &RelayShared,
    connection: &dyn RelayConnection,
) -> Result<Infallible, BoxError> {
    loop {
        shared.interests.changed.notified().await;
        let due = shared.interests.due();
        for some in due.subscribe.chunks(MAX_CHANNELS) {
            with_timeout(connection.subscribe(some)).await?;
            shared.interests.subscribed(some);
        }
        for some in due.unsubscribe.chunks(MAX_CHANNELS) {
            with_timeout(connection.unsubscribe(some)).await?;
        }
    }
}

/// Sends probes to this node itself, and fails if they no longer return.
async fn probe(
    shared: &RelayShared,
    connection: &dyn RelayConnection,
    probes: &[u32],
    status: &ConnectionStatus,
) -> Result<Infallible, BoxError> {
    let envelope = |probe: &u32| (Channel::Node(shared.node, *probe), Envelope::probe(shared.node, *probe));
    let envelopes: Vec<_> = probes.iter().map(envelope).collect();
    *status.probed.lock() = probes.iter().map(|probe| (*probe, Instant::now())).collect();
    loop {
        with_timeout(connection.send(&envelopes)).await?;
        sleep(PROBE_INTERVAL).await;
        if status.probed.lock().values().any(|at| at.elapsed() > PROBE_TIMEOUT) {
            return Err("the service no longer delivers messages".into());
        }
        if status.undecodable.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "another node sends messages in the format of another version; followed instances are loaded from the store instead"
            );
            shared.with_inbox(Inbox::lost);
        }
    }
}
