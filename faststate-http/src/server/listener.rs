//! The accept loop, and the socket options that accepted connections inherit.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Application,
    connection::{ConnectionTask, HttpServer},
    connection_limits::{ConnectionLimits, ConnectionPermit},
    refusal::refuse,
};

/// TCP keep-alive: the idle time before the first probe, and the interval between probes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// The time for a client's kernel to acknowledge sent data. With a heartbeat every 15 s, the connection of a vanished
/// client ends within 55 s (law 6).
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(40);

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The number of refusals that are answered at a time. Connections beyond it are closed without a response.
const MAX_CONCURRENT_REFUSALS: usize = 64;

/// Makes the kernel end the connections of vanished clients. Accepted sockets inherit the options of the listener.
///
/// Without these options, the kernel retransmits unacknowledged data for 16 minutes and never ends an idle connection.
pub(super) fn end_vanished_clients(listener: &TcpListener) -> io::Result<()> {
    let listener = SockRef::from(listener);
    let (silence, interval) = KEEPALIVE;
    listener.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(interval))?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    listener.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT))?;
    Ok(())
}

/// Accepts connections forever: serves those within the limits and refuses the others.
pub(super) async fn accept(
    listener: &TcpListener,
    server: &HttpServer<impl Application>,
    limits: &Arc<ConnectionLimits>,
    connections: &mut JoinSet<()>,
) {
    let refusals = Arc::new(Semaphore::new(MAX_CONCURRENT_REFUSALS));
    let (mut failures, mut refused) = (LogThrottle::default(), LogThrottle::default());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => match limits.enter(peer.ip()) {
                    Ok(permit) => {
                        if let Some(serving) = server.serve(socket, peer) {
                            connections.spawn(PermittedConnection { serving, _permit: permit });
                        }
                    }
                    Err(reached) => {
                        if let Some(times) = refused.count() {
                            tracing::warn!(address = %peer.ip(), limit = ?reached, times, "connections refused");
                        }
                        if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                            connections.spawn(async move {
                                refuse(socket, reached).await;
                                drop(permit);
                            });
                        }
                    }
                },
                Err(error) => {
                    if let Some(times) = failures.count() {
                        tracing::error!(%error, times, "connections cannot be accepted");
                    }
                    // When the process is out of file descriptors, the next accept fails at once.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection and its permit. This is not an `async` block because that would store the connection twice.
struct PermittedConnection {
    serving: ConnectionTask,
    _permit: ConnectionPermit,
}

impl Future for PermittedConnection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.serving).poll(cx)
    }
}

/// Limits a log line to one per second.
#[derive(Default)]
struct LogThrottle {
    times: u32,
    logged: Option<Instant>,
}

impl LogThrottle {
    /// Counts an occurrence. Returns the number of occurrences since the last line if a line is due.
    fn count(&mut self) -> Option<u32> {
        self.times += 1;
        if self.logged.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return None;
        }
        self.logged = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeated_failure_is_logged_once_per_second() {
        let mut failures = LogThrottle::default();
        let mut entries = Vec::new();
        for _ in 0..250 {
            entries.extend(failures.count());
            advance(ACCEPT_PAUSE).await;
        }
        assert_eq!(entries, [1, 100, 100]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn law_06_accepted_sockets_detect_vanished_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        end_vanished_clients(&listener).unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()),
            KEEPALIVE
        );
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(ACKNOWLEDGE_TIMEOUT));
        drop(client);
    }
}
