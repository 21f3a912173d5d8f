//! Serving until a stop signal, and the graceful shutdown.

use std::{future::Future, io, net, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinSet,
    time::timeout,
};

use super::{
    FastState, Framework,
    connection::HttpServer,
    connection_limits::ConnectionLimits,
    listener::{accept, end_vanished_clients},
};

/// The time for accepted events and their background work to finish.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for connections to close after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

impl<F: Framework> FastState<F> {
    /// Serves `router` and FastState's own routes until SIGTERM or Ctrl-C, then drains and returns.
    ///
    /// Port 0 picks a free port; the log shows it as `listening on http://127.0.0.1:PORT`. The server speaks HTTP/1.1
    /// without TLS: for TLS, put a proxy in front of it.
    ///
    /// After the first signal, the server accepts no more connections, accepted events finish, and streams end over
    /// [`drain_window`](Self::drain_window). Connections that are still open are cut within 30 s. A second signal cuts
    /// them at once.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn serve(self, address: impl ToSocketAddrs, router: F::Router) -> io::Result<()> {
        self.run(TcpListener::bind(address).await?, router, ProcessSignals::new()?).await
    }

    /// Like [`serve`](Self::serve), on a socket that is already listening.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be used.
    pub async fn serve_on(self, listener: net::TcpListener, router: F::Router) -> io::Result<()> {
        self.run(from_std(listener)?, router, ProcessSignals::new()?).await
    }

    /// Like [`serve_on`](Self::serve_on), but stops when `stop` completes instead of on a signal.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be used.
    pub async fn serve_until(
        self,
        listener: net::TcpListener,
        router: F::Router,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        self.run(from_std(listener)?, router, StopFuture(Some(Box::pin(stop)))).await
    }

    async fn run(
        self,
        listener: TcpListener,
        router: F::Router,
        mut stop: impl StopSource,
    ) -> io::Result<()> {
        end_vanished_clients(&listener)?;
        let per_address =
            self.connections_per_address.unwrap_or_else(|| self.endpoint.connections_per_address());
        let limits = Arc::new(ConnectionLimits::new(self.max_connections, per_address));
        let application = F::application(router, self.pages());
        let address = listener.local_addr()?;
        let server = HttpServer::new(self.endpoint.clone(), application, self.idle_timeout);
        let mut connections = JoinSet::new();
        tracing::info!("listening on http://{address}");
        self.endpoint.listens_on(address);

        tokio::select! {
            () = accept(&listener, &server, &limits, &mut connections) => {}
            () = stop.requested() => {}
        }
        tracing::info!(
            "stopping: waiting for accepted events, ending streams within {:?}",
            self.drain_window
        );
        // Closed at once, so that browsers reconnect to another node instead of waiting in the accept queue.
        drop(listener);
        server.stop();
        let ending = async {
            self.endpoint.drain(self.drain_window).await;
            let settled = timeout(SETTLE_TIMEOUT, self.endpoint.registry().settle()).await.is_ok();
            if !settled {
                tracing::warn!("cancelled the background work of events that did not finish in time");
            }
            let closed = async { while connections.join_next().await.is_some() {} };
            if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                tracing::warn!("cut connections that did not close in time");
            }
            // Cancelled work may have been saved but not published. Without a goodbye message, the other nodes reload.
            if settled {
                self.endpoint.registry().leave().await;
            }
        };
        tokio::select! {
            () = ending => {}
            () = stop.requested() => tracing::warn!("second stop signal: cutting all connections"),
        }
        Ok(())
    }
}

fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// A source of stop requests. A second request makes the server stop at once.
trait StopSource {
    fn requested(&mut self) -> impl Future<Output = ()> + Send;
}

/// Requests one stop, when a future completes.
struct StopFuture<F>(Option<std::pin::Pin<Box<F>>>);

impl<F: Future<Output = ()> + Send> StopSource for StopFuture<F> {
    async fn requested(&mut self) {
        match self.0.take() {
            Some(stop) => stop.await,
            None => std::future::pending().await,
        }
    }
}

/// Requests a stop at each SIGTERM or Ctrl-C.
struct ProcessSignals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl ProcessSignals {
    fn new() -> io::Result<Self> {
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
