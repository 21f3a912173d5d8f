//! A whole server, and a shutdown that drops nothing.

use std::{future::Future, io, net, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinSet,
    time::timeout,
};

use super::{
    FastState, Framework,
    connection::Server,
    listener::{accept, end_vanished_clients},
    places::Places,
};

/// For accepted events and the work they leave behind.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// For connections to close once nothing goes on any more.
const CLOSE_TIME: Duration = Duration::from_secs(3);

impl<F: Framework> FastState<F> {
    /// Serves `router` and FastState's own routes until SIGTERM or Ctrl-C, then drains and returns.
    ///
    /// Port 0 picks a free one; the log says `listening on http://127.0.0.1:PORT`. Cleartext HTTP/1.1: put a
    /// proxy in front for TLS.
    ///
    /// On the first signal no connection is accepted any more, accepted events finish, streams end over
    /// [`drain_window`](Self::drain_window), and within 30 s the rest is cut. A second signal cuts at once.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(self, address: impl ToSocketAddrs, router: F::Router) -> io::Result<()> {
        self.run(TcpListener::bind(address).await?, router, Signals::new()?).await
    }

    /// Like [`serve`](Self::serve), on a socket that listens already.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn serve_on(self, listener: net::TcpListener, router: F::Router) -> io::Result<()> {
        self.run(from_std(listener)?, router, Signals::new()?).await
    }

    /// Like [`serve_on`](Self::serve_on), until `stop` is done instead of until a signal.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn serve_until(
        self,
        listener: net::TcpListener,
        router: F::Router,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        self.run(from_std(listener)?, router, Once(Some(Box::pin(stop)))).await
    }

    async fn run(self, listener: TcpListener, router: F::Router, mut stop: impl Stop) -> io::Result<()> {
        end_vanished_clients(&listener)?;
        let of_an_address =
            self.connections_per_address.unwrap_or_else(|| self.endpoint.connections_per_address());
        let places = Arc::new(Places::new(self.max_connections, of_an_address));
        let application = F::application(router, self.pages());
        let address = listener.local_addr()?;
        let server = Server::new(self.endpoint.clone(), application, self.idle_timeout);
        let mut connections = JoinSet::new();
        tracing::info!("listening on http://{address}");
        self.endpoint.listens_on(address);

        tokio::select! {
            () = accept(&listener, &server, &places, &mut connections) => {}
            () = stop.asked() => {}
        }
        tracing::info!("stopping: accepted events finish, streams end within {:?}", self.drain_window);
        // Closed at once: browsers that reconnect find another node instead of waiting in its queue.
        drop(listener);
        server.stop();
        let ending = async {
            self.endpoint.drain(self.drain_window).await;
            let settled = timeout(SETTLE_TIME, self.endpoint.registry().settle()).await.is_ok();
            if !settled {
                tracing::warn!("work that events left behind is cut off");
            }
            let closed = async { while connections.join_next().await.is_some() {} };
            if timeout(CLOSE_TIME, closed).await.is_err() {
                tracing::warn!("connections that do not end are cut off");
            }
            // What was cut off may have been saved and not told: the other nodes have to reload.
            if settled {
                self.endpoint.registry().leave().await;
            }
        };
        tokio::select! {
            () = ending => {}
            () = stop.asked() => tracing::warn!("asked to stop a second time: what goes on is cut off"),
        }
        Ok(())
    }
}

fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// What asks the server to stop, perhaps more than once.
trait Stop {
    fn asked(&mut self) -> impl Future<Output = ()> + Send;
}

/// A future that asks once.
struct Once<F>(Option<std::pin::Pin<Box<F>>>);

impl<F: Future<Output = ()> + Send> Stop for Once<F> {
    async fn asked(&mut self) {
        match self.0.take() {
            Some(stop) => stop.await,
            None => std::future::pending().await,
        }
    }
}

/// The signals that end a process.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }
}

impl Stop for Signals {
    async fn asked(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
