//! A whole server: hardened sockets, and a shutdown that drops nothing.

use std::{future::Future, io, net, pin::pin, time::Duration};

use salvo::{Router, Server, Service, fuse::FuseConfig};
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    time::timeout,
};

use crate::{FastState, acceptor::Closable};

/// For a request's head, and between requests.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Between pieces of a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For a client to read something of what waits for it.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// For accepted events and the work they leave behind.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// For connections to close once nothing goes on any more.
const CLOSE_TIME: Duration = Duration::from_secs(3);

impl FastState {
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
    pub async fn serve(self, address: impl ToSocketAddrs, router: Router) -> io::Result<()> {
        self.run(TcpListener::bind(address).await?, router, Signals::new()?).await
    }

    /// Like [`serve`](Self::serve), on a socket that listens already.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn serve_on(self, listener: net::TcpListener, router: Router) -> io::Result<()> {
        self.run(from_std(listener)?, router, Signals::new()?).await
    }

    /// Like [`serve_on`](Self::serve_on), until `stop` is done instead of until a signal.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn serve_until(
        self,
        listener: net::TcpListener,
        router: Router,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        self.run(from_std(listener)?, router, Once(Some(Box::pin(stop)))).await
    }

    async fn run(self, listener: TcpListener, router: Router, mut stop: impl Stop) -> io::Result<()> {
        let address = listener.local_addr()?;
        let (acceptor, listening) = Closable::new(listener)?;
        let mut server = Server::new(acceptor).fuse_config(
            FuseConfig::default()
                .with_http1_header_timeout(HEADER_TIME)
                .with_request_body_timeout(BODY_TIME)
                .with_write_stall_timeout(WRITE_TIME),
        );
        if self.max_connections > 0 {
            server = server.max_connections(self.max_connections);
        }
        let handle = server.handle();
        let all = Router::new().push(self.router()).push(router);
        let mut serving = pin!(server.try_serve(Service::new(all).hoop(self.hoop())));
        tracing::info!("listening on http://{address}");

        tokio::select! {
            ended = &mut serving => return ended,
            () = stop.asked() => {}
        }
        tracing::info!("stopping: accepted events finish, streams end within {:?}", self.drain_window);
        tokio::select! {
            ended = &mut serving => return ended,
            () = listening.close() => handle.stop_graceful(None),
        }
        let settled = async {
            self.endpoint.drain(self.drain_window).await;
            if timeout(SETTLE_TIME, self.endpoint.registry().settle()).await.is_err() {
                tracing::warn!("work that events left behind is cut off");
            }
        };
        let ending = async {
            let mut settled = pin!(settled);
            // Callers may have gone before their events are done, and events be done before callers go.
            tokio::select! {
                ended = &mut serving => {
                    settled.await;
                    ended
                }
                () = &mut settled => timeout(CLOSE_TIME, &mut serving).await.unwrap_or(Ok(())),
            }
        };
        tokio::select! {
            ended = ending => ended,
            () = stop.asked() => {
                tracing::warn!("asked to stop a second time: what goes on is cut off");
                Ok(())
            }
        }
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
