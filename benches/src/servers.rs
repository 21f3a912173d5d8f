//! The servers to compare, each with the same board.

mod axum_datastar;
mod bare;
mod board;
mod faststate;
mod hyper_shared;
mod nchan;
mod salvo_sse;

use std::{io, net::TcpListener};

pub use self::board::SLOTS;
pub(crate) use self::nchan::Nginx;

/// A server that keeps a board and streams it to followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// FastState through its Salvo adapter, as an application runs it.
    FastState,
    /// The same with an identity closure, for which each stream keeps a copy of its request head.
    FastStateIdentity,
    /// axum, the official `datastar` crate and tokio's `broadcast`.
    AxumDatastar,
    /// hyper, frames encoded once and shared, tokio's `broadcast`.
    HyperShared,
    /// Salvo's own `sse` and tokio's `broadcast`.
    SalvoSse,
    /// Sockets and a loop: only the cost of the kernel and tokio.
    Bare,
    /// nginx with nchan: frames only, no application behind them.
    Nchan,
    /// FastState with a state per session instead of a global one.
    FastStateSessions,
    /// The same with 100,000 more instances of that state in memory.
    FastStateCrowded,
    /// A Salvo handler that answers 204 and does nothing.
    SalvoNothing,
}

impl Server {
    /// The servers that can stream.
    pub const STREAMING: [Self; 7] = [
        Self::FastState,
        Self::FastStateIdentity,
        Self::AxumDatastar,
        Self::HyperShared,
        Self::SalvoSse,
        Self::Nchan,
        Self::Bare,
    ];
    /// The servers whose response to an event is measured.
    pub const ANSWERING: [Self; 6] = [
        Self::FastState,
        Self::FastStateSessions,
        Self::FastStateCrowded,
        Self::SalvoNothing,
        Self::AxumDatastar,
        Self::HyperShared,
    ];

    /// The name in tables and charts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FastState => "FastState",
            Self::FastStateIdentity => "FastState, with identity",
            Self::AxumDatastar => "axum + datastar + broadcast",
            Self::HyperShared => "hyper + shared bytes",
            Self::SalvoSse => "Salvo sse",
            Self::Bare => "bare tokio writer",
            Self::Nchan => "nginx + nchan",
            Self::FastStateSessions => "FastState, one per session",
            Self::FastStateCrowded => "FastState, one of 100,000 sessions",
            Self::SalvoNothing => "Salvo, 204 and nothing else",
        }
    }

    /// The name on the command line.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::FastState => "faststate",
            Self::FastStateIdentity => "faststate-identity",
            Self::AxumDatastar => "axum",
            Self::HyperShared => "hyper",
            Self::SalvoSse => "salvo-sse",
            Self::Bare => "bare",
            Self::Nchan => "nchan",
            Self::FastStateSessions => "faststate-sessions",
            Self::FastStateCrowded => "faststate-crowded",
            Self::SalvoNothing => "salvo-nothing",
        }
    }

    /// Returns a missing program that the server needs.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        (self == Self::Nchan && !Nginx::is_installed())
            .then_some("nginx with nchan is not installed (apt-get install nginx-core libnginx-mod-nchan)")
    }

    /// Returns whether a client gets its cookie from a page.
    pub(crate) const fn has_sessions(self) -> bool {
        matches!(
            self,
            Self::FastState | Self::FastStateIdentity | Self::FastStateSessions | Self::FastStateCrowded
        )
    }

    /// The request that follows the board.
    pub(crate) fn follow(self, cookie: &str) -> String {
        let path = if self.has_sessions() { "/faststate/sse?states=board" } else { "/follow" };
        format!(
            "GET {path} HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\ndatastar-request: true\r\ncookie: {cookie}\r\n\r\n"
        )
    }

    /// The request that sets one number. `follows` states whether the client's page follows the board.
    pub(crate) fn set(self, cookie: &str, slot: usize, value: u32, follows: bool) -> String {
        if self == Self::Nchan {
            let frame = board::frame(slot, value);
            let frame =
                frame.strip_prefix("event: datastar-patch-signals\ndata: ").unwrap_or(&frame).trim_end();
            return format!(
                "POST /publish HTTP/1.1\r\nhost: bench\r\nx-eventsource-event: datastar-patch-signals\r\n\
                 content-length: {}\r\n\r\n{frame}",
                frame.len()
            );
        }
        let path = match self {
            Self::FastState | Self::FastStateIdentity => "/faststate/board/set",
            Self::FastStateSessions | Self::FastStateCrowded => "/faststate/own_board/set_own",
            _ => "/set",
        };
        let follows = if follows { "faststate-follows: board\r\n" } else { "" };
        let body = format!("{{\"slot\":{slot},\"value\":{value}}}");
        // The headers that Datastar sends with each event.
        format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ndatastar-request: true\r\n\
             faststate-event: 1234567890-{slot}-{value}\r\n{follows}sec-fetch-site: same-origin\r\ncookie: {cookie}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        )
    }

    /// Serves on the listener until the process ends.
    ///
    /// # Errors
    /// Fails if the runtime or the socket cannot be used.
    pub(crate) fn serve(self, listener: TcpListener) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        listener.set_nonblocking(true)?;
        runtime.block_on(async move {
            // Serve from a worker, as an application does, because the thread of `block_on` is slower to wake.
            let serving = tokio::spawn(async move {
                match self {
                    Self::FastState | Self::FastStateSessions => faststate::serve(listener, 0, false).await,
                    Self::FastStateIdentity => faststate::serve(listener, 0, true).await,
                    Self::FastStateCrowded => faststate::serve(listener, 100_000, false).await,
                    Self::AxumDatastar => axum_datastar::serve(listener).await,
                    Self::HyperShared => hyper_shared::serve(listener).await,
                    Self::SalvoSse => salvo_sse::serve(listener).await,
                    Self::SalvoNothing => salvo_sse::serve_nothing(listener).await,
                    Self::Bare => bare::serve(listener).await,
                    Self::Nchan => Err(io::Error::other("nchan is a process of its own")),
                }
            });
            serving.await.map_err(io::Error::other)?
        })
    }
}
