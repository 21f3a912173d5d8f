//! The listener: options that its connections inherit, and the loop that accepts them.

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
    connection::{Server, Serving},
    places::{Place, Places},
    refusal::refuse,
};

/// The silence after which the kernel asks a client for a sign of life, and the time between two questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// The time for a client's kernel to acknowledge what was sent. With a heartbeat every 15 s, a client that has
/// vanished is gone within 55 s (law 6).
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(40);

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The most clients that are being refused; more are closed without an answer.
const REFUSALS: usize = 64;

/// Has the kernel end the connections of clients that have vanished: sockets inherit this from their listener.
///
/// Without it, the kernel sends what is not acknowledged again for 16 minutes, and a silent connection stays for ever.
pub(super) fn end_vanished_clients(listener: &TcpListener) -> io::Result<()> {
    let listener = SockRef::from(listener);
    let (silence, interval) = KEEPALIVE;
    listener.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(interval))?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    listener.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIME))?;
    Ok(())
}

/// Accepts for ever: serves the connections that there are places for, and refuses the others.
pub(super) async fn accept(
    listener: &TcpListener,
    server: &Server<impl Application>,
    places: &Arc<Places>,
    connections: &mut JoinSet<()>,
) {
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (mut failed, mut refused) = (Seldom::default(), Seldom::default());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => match places.enter(peer.ip()) {
                    Ok(place) => {
                        if let Some(serving) = server.serve(socket, peer) {
                            connections.spawn(Placed { serving, _place: place });
                        }
                    }
                    Err(full) => {
                        if let Some(times) = refused.due() {
                            tracing::warn!(address = %peer.ip(), limit = ?full, times, "connections are refused");
                        }
                        if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                            connections.spawn(async move {
                                refuse(socket, full).await;
                                drop(permit);
                            });
                        }
                    }
                },
                Err(error) => {
                    if let Some(times) = failed.due() {
                        tracing::error!(%error, times, "connections cannot be accepted");
                    }
                    // Without file descriptors it fails again at once.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection and its place. No `async` block: that would reserve room for the connection twice.
struct Placed {
    serving: Serving,
    _place: Place,
}

impl Future for Placed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.serving).poll(cx)
    }
}

/// Something that is logged once per second, however often it happens.
#[derive(Default)]
struct Seldom {
    times: u32,
    logged: Option<Instant>,
}

impl Seldom {
    /// Counts it; gives the number of times since the last entry in the log, when the next is due.
    fn due(&mut self) -> Option<u32> {
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
        let mut failed = Seldom::default();
        let mut entries = Vec::new();
        for _ in 0..250 {
            entries.extend(failed.due());
            advance(ACCEPT_PAUSE).await;
        }
        assert_eq!(entries, [1, 100, 100]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn law_06_accepted_sockets_notice_a_vanished_client() {
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
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(ACKNOWLEDGE_TIME));
        drop(client);
    }
}
