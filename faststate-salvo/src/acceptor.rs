//! A listener that can be closed while the server still runs.

use std::{future::pending, io, time::Duration};

use salvo::{
    conn::{Accepted, Acceptor, Holding, tcp::TcpAcceptor},
    fuse::ArcFusePolicy,
};
use tokio::{net::TcpListener, sync::watch};

/// How long closing may take: longer only for a server that has as many connections as it may have, which
/// does not look at its listener.
const PATIENCE: Duration = Duration::from_millis(200);

/// Accepts until it is told to close. Salvo keeps its listener until the last connection has ended, so that
/// browsers which reconnect meanwhile would wait in its queue instead of finding another node.
pub(crate) struct Closable {
    /// The acceptor and its order to close; nothing once it is closed.
    open: Option<(TcpAcceptor, watch::Receiver<()>)>,
}

/// Closes the listener.
pub(crate) struct Close(watch::Sender<()>);

impl Closable {
    pub(crate) fn new(listener: TcpListener) -> io::Result<(Self, Close)> {
        let (close, order) = watch::channel(());
        Ok((Self { open: Some((TcpAcceptor::try_from(listener)?, order)) }, Close(close)))
    }
}

impl Close {
    /// Done once no connection is accepted any more. The server has to be polled meanwhile.
    pub(crate) async fn close(self) {
        self.0.send_replace(());
        let _ = tokio::time::timeout(PATIENCE, self.0.closed()).await;
    }
}

impl Acceptor for Closable {
    type Coupler = <TcpAcceptor as Acceptor>::Coupler;
    type Stream = <TcpAcceptor as Acceptor>::Stream;

    fn holdings(&self) -> &[Holding] {
        self.open.as_ref().map_or(&[], |(acceptor, _)| acceptor.holdings())
    }

    async fn accept(
        &mut self,
        policy: Option<ArcFusePolicy>,
    ) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        if let Some((acceptor, order)) = &mut self.open {
            tokio::select! {
                biased;
                _ = order.changed() => {}
                accepted = acceptor.accept(policy) => return accepted,
            }
        }
        self.open = None;
        pending().await
    }
}
