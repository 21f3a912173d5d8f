//! Serving until a stop request, and the graceful shutdown.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use super::{
    Application,
    connection::HttpServer,
    connection_limits::ConnectionLimits,
    listener::{accept, end_vanished_clients},
};
use crate::endpoint::Endpoint;

/// The time for accepted events and their background work to finish.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for connections to close after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves connections until the first stop request, then drains and returns.
pub(super) async fn run<A: Application>(
    listener: TcpListener,
    server: HttpServer<A>,
    endpoint: Endpoint,
    limits: ConnectionLimits,
    drain_window: Duration,
    mut stop: impl StopSource,
) -> io::Result<()> {
    end_vanished_clients(&listener)?;
    let limits = Arc::new(limits);
    let address = listener.local_addr()?;
    let mut connections = JoinSet::new();
    tracing::info!("listening on http://{address}");
    endpoint.listens_on(address);

    tokio::select! {
        () = accept(&listener, &server, &limits, &mut connections) => {}
        () = stop.requested() => {}
    }
    tracing::info!("stopping: waiting for accepted events, ending streams within {drain_window:?}");
    // Closed at once, so that browsers reconnect to another node instead of waiting in the accept queue.
    drop(listener);
    server.stop();
    let ending = async {
        endpoint.drain(drain_window).await;
        let settled = timeout(SETTLE_TIMEOUT, endpoint.registry().settle()).await.is_ok();
        if !settled {
            tracing::warn!("cancelled the background work of events that did not finish in time");
        }
        let closed = async { while connections.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("cut connections that did not close in time");
        }
        // Cancelled work may have been saved but not published. Without a goodbye message, the other nodes reload.
        if settled {
            endpoint.registry().leave().await;
        }
    };
    tokio::select! {
        () = ending => {}
        () = stop.requested() => tracing::warn!("second stop signal: cutting all connections"),
    }
    Ok(())
}

/// A source of stop requests. A second request makes the server stop at once.
pub(super) trait StopSource {
    fn requested(&mut self) -> impl Future<Output = ()> + Send;
}

/// Requests one stop, when a future completes.
pub(super) struct StopFuture<F>(Option<Pin<Box<F>>>);

impl<F> StopFuture<F> {
    pub(super) fn new(stop: F) -> Self {
        Self(Some(Box::pin(stop)))
    }
}

impl<F: Future<Output = ()> + Send> StopSource for StopFuture<F> {
    async fn requested(&mut self) {
        match self.0.take() {
            Some(stop) => stop.await,
            None => std::future::pending().await,
        }
    }
}

/// Requests a stop at each SIGTERM or Ctrl-C.
pub(super) struct ProcessSignals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl ProcessSignals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }
}

impl StopSource for ProcessSignals {
    async fn requested(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
